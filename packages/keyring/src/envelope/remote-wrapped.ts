/**
 * The bytes of a key that an HSM or KMS wrapped: which provider, which root key, what the service needs to decrypt, its
 * ciphertext, and a check of all that. No keys, no I/O. `docs/spec/remote-wrapped-key.md`, K1 to K8.
 */
import { createHash } from 'node:crypto';
import { decryptionFailed } from '../errors.ts';
import { equalBytes } from '../secret-bytes.ts';

/** The providers whose keys stay with them, by URI scheme. A number never changes its meaning. */
export const remoteProviders = { pkcs11: 1, hashivault: 2, awskms: 3, gcpkms: 4, azurekms: 5 } as const;

export type RemoteScheme = keyof typeof remoteProviders;

/** A key as an HSM or KMS wrapped it. */
export interface RemoteWrapped {
  readonly scheme: RemoteScheme;
  /** The root key's fingerprint: 32 lower-case hex digits. */
  readonly fingerprint: string;
  /**
   * What the service has to be told to decrypt besides the key's name, such as the key version: 0 to 1,024 bytes of UTF-8.
   * Not authenticated here: it only points, and the service's own tag decides.
   */
  readonly resource: string;
  /** 1 to 6,144 bytes. */
  readonly ciphertext: Uint8Array;
}

const MAGIC = Buffer.from('MHRK');
const FORMAT_VERSION = 0x01;
const FINGERPRINT_AT = MAGIC.length + 2;
const FINGERPRINT_BYTES = 16;
const RESOURCE_AT = FINGERPRINT_AT + FINGERPRINT_BYTES;
const LENGTH_BYTES = 2;
const CHECK_BYTES = 8;
const OVERHEAD = RESOURCE_AT + 2 * LENGTH_BYTES + CHECK_BYTES;

export const MAX_RESOURCE_BYTES = 1_024;
export const MAX_REMOTE_CIPHERTEXT_BYTES = 6_144;

const CHECK_INFO = Buffer.from('meshhook-keyring/v1 remote-wrapped-check');
const FINGERPRINT_INFO = 'meshhook-keyring/v1 remote-root-fingerprint';

/**
 * Puts a wrapped key together, in a new buffer.
 * @throws TypeError for parts that are not of the shapes above: the service answered what no service does.
 */
export function encodeRemoteWrapped({ scheme, fingerprint, resource, ciphertext }: RemoteWrapped): Buffer {
  const resourceBytes = Buffer.from(resource);
  if (!/^[0-9a-f]{32}$/.test(fingerprint)) throw new TypeError('A fingerprint is 32 lower-case hex digits.');
  if (resourceBytes.length > MAX_RESOURCE_BYTES || resourceBytes.toString() !== resource) {
    throw new TypeError(`A resource is at most ${MAX_RESOURCE_BYTES} bytes of well-formed UTF-8.`);
  }
  if (ciphertext.length < 1 || ciphertext.length > MAX_REMOTE_CIPHERTEXT_BYTES) {
    throw new TypeError(`A ciphertext of a root key has 1 to ${MAX_REMOTE_CIPHERTEXT_BYTES} bytes.`);
  }
  const body = Buffer.concat([
    MAGIC,
    Buffer.of(FORMAT_VERSION, remoteProviders[scheme]),
    Buffer.from(fingerprint, 'hex'),
    uint16(resourceBytes.length),
    resourceBytes,
    uint16(ciphertext.length),
    ciphertext,
  ]);
  return Buffer.concat([body, check(body)]);
}

/**
 * Takes a wrapped key apart; the ciphertext is a view. Canonical: what this accepts, `encodeRemoteWrapped` gives back byte
 * for byte. The check finds damage, so that nothing is asked of the service for bytes that cannot be whole; it stops no
 * forger, whom the service's tag stops.
 * @throws KeyringError `decryption_failed`, the one answer, for bytes that are nothing of the kind.
 */
export function parseRemoteWrapped(bytes: Uint8Array): RemoteWrapped {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length <= OVERHEAD || view.length > OVERHEAD + MAX_RESOURCE_BYTES + MAX_REMOTE_CIPHERTEXT_BYTES) {
    throw decryptionFailed();
  }
  const body = view.subarray(0, view.length - CHECK_BYTES);
  if (!equalBytes(check(body), view.subarray(view.length - CHECK_BYTES))) throw decryptionFailed();
  const scheme = schemeOf(view[MAGIC.length + 1]);
  const isOurs = view.subarray(0, MAGIC.length).equals(MAGIC) && view[MAGIC.length] === FORMAT_VERSION;
  if (!isOurs || scheme === undefined) throw decryptionFailed();

  const resourceStart = RESOURCE_AT + LENGTH_BYTES;
  const resourceEnd = resourceStart + view.readUInt16BE(RESOURCE_AT);
  if (resourceEnd + LENGTH_BYTES > body.length || resourceEnd - resourceStart > MAX_RESOURCE_BYTES) {
    throw decryptionFailed();
  }
  const resourceBytes = view.subarray(resourceStart, resourceEnd);
  const resource = resourceBytes.toString();
  const ciphertext = body.subarray(resourceEnd + LENGTH_BYTES);
  const isWhole = ciphertext.length === view.readUInt16BE(resourceEnd) && ciphertext.length > 0;
  if (!isWhole || !Buffer.from(resource).equals(resourceBytes)) throw decryptionFailed();
  if (ciphertext.length > MAX_REMOTE_CIPHERTEXT_BYTES) throw decryptionFailed();
  return {
    scheme,
    fingerprint: view.subarray(FINGERPRINT_AT, RESOURCE_AT).toString('hex'),
    resource,
    ciphertext,
  };
}

/**
 * The public name of a root key that its service keeps to itself: 32 lower-case hex digits, from the names by which the
 * service itself knows the key, without its version. SHA-256, domain-separated, every part behind its length (K4).
 */
export function resourceFingerprint(scheme: RemoteScheme, ...names: readonly string[]): string {
  const hash = createHash('sha256');
  for (const part of [FINGERPRINT_INFO, scheme, ...names]) {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return hash.digest().subarray(0, FINGERPRINT_BYTES).toString('hex');
}

function check(body: Uint8Array): Buffer {
  return createHash('sha256').update(CHECK_INFO).update(body).digest().subarray(0, CHECK_BYTES);
}

function schemeOf(number: number | undefined): RemoteScheme | undefined {
  return (Object.keys(remoteProviders) as RemoteScheme[]).find((scheme) => remoteProviders[scheme] === number);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(LENGTH_BYTES);
  bytes.writeUInt16BE(value);
  return bytes;
}
