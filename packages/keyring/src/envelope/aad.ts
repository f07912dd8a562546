/**
 * Associated data: where a ciphertext belongs, so that it opens nowhere else. A context string, a purpose and that
 * purpose's fields, each behind its own length, hence injective: two different places never give the same bytes.
 * `docs/spec/envelope.md`, A1 to A8.
 */
import { KeyringError } from '../errors.ts';
import { uuidToBytes } from './format.ts';

/** Both in bytes of UTF-8. */
export const MAX_LABEL_BYTES = 200;
export const MAX_ROW_ID_BYTES = 200;

const CONTEXT = Buffer.from('meshhook-keyring/v1');
const LENGTH_BYTES = 4;
const ID_BYTES = 16;
const VERSION_BYTES = 4;
const NIL = '00000000-0000-0000-0000-000000000000';

/** Where a secret's ciphertext belongs. Ids are canonical uuids. */
export interface SecretPlace {
  readonly projectId: string;
  /** The column's label in the registry, which outlives the column's name: 1 to 200 bytes of UTF-8. */
  readonly label: string;
  /** The row's id as Postgres prints it: 1 to 200 bytes of UTF-8. */
  readonly rowId: string;
  /** The data key it is sealed under. */
  readonly keyId: string;
}

/** Where a wrapped data key belongs. Ids are canonical uuids. */
export interface DataKeyPlace {
  readonly projectId: string;
  /** The key version, from 1. */
  readonly version: number;
  readonly keyId: string;
  /** The wrapping key it is wrapped under. */
  readonly wrappingKeyId: string;
}

/** Where a wrapped wrapping key belongs. */
export interface WrappingKeyPlace {
  /** The wrapping key's version, from 1. */
  readonly version: number;
  /** A canonical uuid. */
  readonly wrappingKeyId: string;
}

/**
 * The associated data of a secret.
 * @throws KeyringError `invalid_argument` when label or row id is empty, too long or not well-formed Unicode.
 * @throws TypeError when an id is not a canonical uuid.
 */
export function secretAad({ projectId, label, rowId, keyId }: SecretPlace): Uint8Array {
  return secretAadBuilder(projectId, label, keyId)(rowId);
}

/**
 * `secretAad` with everything but the row worked out once: what a sweep calls for each row of a column.
 * @throws as `secretAad` does: for project, label and key at once, for the row when it is given.
 */
export function secretAadBuilder(projectId: string, label: string, keyId: string): (rowId: string) => Uint8Array {
  const before = associatedData('secret', uuidToBytes(projectId), text('column label', label, MAX_LABEL_BYTES));
  const after = field(uuidToBytes(keyId));
  return (rowId) => {
    const length = textLength('row id', rowId, MAX_ROW_ID_BYTES);
    const rowAt = before.length + LENGTH_BYTES;
    const bytes = Buffer.allocUnsafe(rowAt + length + after.length);
    bytes.set(before);
    bytes.writeUInt32BE(length, before.length);
    bytes.write(rowId, rowAt, 'utf8');
    bytes.set(after, rowAt + length);
    return bytes;
  };
}

/**
 * The associated data of a data key wrapped by a wrapping key.
 * @throws TypeError when an id is not a canonical uuid or the version not a whole number from 1 to 2^32 - 1.
 */
export function dataKeyAad({ projectId, version, keyId, wrappingKeyId }: DataKeyPlace): Uint8Array {
  return associatedData(
    'data-key',
    uuidToBytes(projectId),
    versionBytes(version),
    uuidToBytes(keyId),
    uuidToBytes(wrappingKeyId),
  );
}

/** Where a wrapped data key belongs, in bytes: ids as 16 of them, the version as four, the highest first. */
export interface DataKeyPlaceBytes {
  readonly projectId: Uint8Array;
  readonly version: Uint8Array;
  readonly keyId: Uint8Array;
}

/**
 * `dataKeyAad` with everything but the data key worked out once: what a rewrap calls for each.
 * @throws TypeError when the wrapping key's id is not a canonical uuid; for a place, when a field does not have its length.
 */
export function dataKeyAadBuilder(wrappingKeyId: string): (place: DataKeyPlaceBytes) => Uint8Array {
  const template = dataKeyAad({ projectId: NIL, version: 1, keyId: NIL, wrappingKeyId });
  // From the end: each field stands behind its length.
  const keyAt = template.length - ID_BYTES - LENGTH_BYTES - ID_BYTES;
  const versionAt = keyAt - LENGTH_BYTES - VERSION_BYTES;
  const projectAt = versionAt - LENGTH_BYTES - ID_BYTES;
  return ({ projectId, version, keyId }) => {
    if (projectId.length !== ID_BYTES || version.length !== VERSION_BYTES || keyId.length !== ID_BYTES) {
      throw new TypeError('A part of the place does not have its length.');
    }
    const bytes = Buffer.allocUnsafe(template.length);
    bytes.set(template);
    bytes.set(projectId, projectAt);
    bytes.set(version, versionAt);
    bytes.set(keyId, keyAt);
    return bytes;
  };
}

/** The associated data of the same data key, under another wrapping key. */
export function dataKeyAadUnder(wrappingKeyId: string): (aad: Uint8Array) => Uint8Array {
  const id = uuidToBytes(wrappingKeyId);
  return (aad) => {
    const bytes = Buffer.from(aad);
    bytes.set(id, bytes.length - ID_BYTES);
    return bytes;
  };
}

/**
 * The associated data of a wrapping key wrapped by a root key.
 * @throws TypeError when the id is not a canonical uuid or the version not a whole number from 1 to 2^32 - 1.
 */
export function wrappingKeyAad({ version, wrappingKeyId }: WrappingKeyPlace): Uint8Array {
  return associatedData('wrapping-key', versionBytes(version), uuidToBytes(wrappingKeyId));
}

/** Where the private half of a signing key belongs. Ids are canonical uuids. */
export interface SigningKeyPlace {
  /** The signing key's version, from 1. */
  readonly version: number;
  readonly signingKeyId: string;
  /** The wrapping key it is wrapped under. */
  readonly wrappingKeyId: string;
}

/**
 * The associated data of the private half of a signing key, wrapped by a wrapping key.
 * @throws TypeError when an id is not a canonical uuid or the version not a whole number from 1 to 2^32 - 1.
 */
export function signingKeyAad({ version, signingKeyId, wrappingKeyId }: SigningKeyPlace): Uint8Array {
  return associatedData('signing-key', versionBytes(version), uuidToBytes(signingKeyId), uuidToBytes(wrappingKeyId));
}

/** What a provider that keeps its keys to itself binds a wrapped key to. */
export interface RemoteRootPlace {
  /** The URI scheme of the provider, such as `awskms`: ASCII. */
  readonly scheme: string;
  /** The root key's fingerprint: 32 lower-case hex digits. */
  readonly fingerprint: string;
  /** What the caller binds the key to: `wrappingKeyAad`. */
  readonly context: Uint8Array;
}

/** The associated data of a key wrapped inside an HSM or KMS. `docs/spec/remote-wrapped-key.md`, K5. */
export function remoteRootAad({ scheme, fingerprint, context }: RemoteRootPlace): Uint8Array {
  return associatedData('root-key', Buffer.from(scheme), Buffer.from(fingerprint, 'hex'), context);
}

function associatedData(
  purpose: 'secret' | 'data-key' | 'wrapping-key' | 'signing-key' | 'root-key',
  ...fields: Uint8Array[]
): Buffer {
  return Buffer.concat([CONTEXT, Buffer.from(purpose), ...fields].map(field));
}

function field(bytes: Uint8Array): Buffer {
  const prefixed = Buffer.alloc(LENGTH_BYTES + bytes.length);
  prefixed.writeUInt32BE(bytes.length);
  prefixed.set(bytes, LENGTH_BYTES);
  return prefixed;
}

function versionBytes(version: number): Buffer {
  if (!Number.isInteger(version) || version < 1 || version > 0xffff_ffff) {
    throw new TypeError('A key version is a whole number from 1 to 2^32 - 1.');
  }
  const bytes = Buffer.alloc(VERSION_BYTES);
  bytes.writeUInt32BE(version);
  return bytes;
}

function text(what: string, value: string, limit: number): Buffer {
  textLength(what, value, limit);
  return Buffer.from(value);
}

/** Its length in bytes of UTF-8, checked. */
function textLength(what: string, value: string, limit: number): number {
  const length = Buffer.byteLength(value);
  // A lone surrogate is encoded as U+FFFD: two different ids would give the same bytes.
  if (length === 0 || length > limit || !value.isWellFormed()) {
    throw new KeyringError('invalid_argument', `A ${what} is 1 to ${limit} bytes of well-formed text.`, {
      details: { length, limit },
    });
  }
  return length;
}
