/** The bytes of an envelope, and nothing else: no keys, no I/O. `docs/spec/envelope.md`, E1 to E9. */
import { KeyringError } from '../errors.ts';
import { TAG_BYTES } from '../secret-bytes.ts';

/** The first byte of every envelope. */
export const FORMAT_VERSION = 0x01;

/** The second byte: AES-256-GCM with a 96-bit nonce and a 128-bit tag. */
export const AES_256_GCM = 0x01;

export const KEY_ID_BYTES = 16;
export const NONCE_BYTES = 12;

/** The largest value that is sealed, in bytes. GCM keeps the length, so it caps the ciphertext too. */
export const MAX_PLAINTEXT_BYTES = 65_536;

const KEY_ID_AT = 2;
const NONCE_AT = KEY_ID_AT + KEY_ID_BYTES;
const CIPHERTEXT_AT = NONCE_AT + NONCE_BYTES;

/** What an envelope adds to a value: 46 bytes. */
export const ENVELOPE_OVERHEAD = CIPHERTEXT_AT + TAG_BYTES;

const CANONICAL_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The parts of an envelope of format version 1. */
export interface Envelope {
  /** The key that sealed it, 16 raw bytes: `uuidFromBytes` gives the uuid. */
  readonly keyId: Uint8Array;
  /** 12 bytes. */
  readonly nonce: Uint8Array;
  /** 0 to 65,536 bytes. */
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

/**
 * Takes an envelope apart. The parts are views of `bytes`, not copies. Canonical: what this accepts, `encodeEnvelope`
 * gives back byte for byte. Nothing is authenticated here.
 * @throws KeyringError `unsupported_envelope` for a format version or algorithm this release does not know,
 *   `malformed_envelope` for a length that no envelope has.
 */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  const { length } = bytes;
  // Version before length: a later format may be shorter than this one.
  if (length > 0 && bytes[0] !== FORMAT_VERSION) throw unsupported('format version');
  if (length > 1 && bytes[1] !== AES_256_GCM) throw unsupported('algorithm');
  if (length < ENVELOPE_OVERHEAD) throw malformed(`is shorter than ${ENVELOPE_OVERHEAD} bytes`);
  if (length > ENVELOPE_OVERHEAD + MAX_PLAINTEXT_BYTES) throw malformed('is longer than the largest value allows');
  return {
    keyId: bytes.subarray(KEY_ID_AT, NONCE_AT),
    nonce: bytes.subarray(NONCE_AT, CIPHERTEXT_AT),
    ciphertext: bytes.subarray(CIPHERTEXT_AT, length - TAG_BYTES),
    tag: bytes.subarray(length - TAG_BYTES),
  };
}

/**
 * Puts an envelope together, in a new buffer.
 * @throws TypeError when a part does not have its length.
 */
export function encodeEnvelope({ keyId, nonce, ciphertext, tag }: Envelope): Buffer {
  if (
    keyId.length !== KEY_ID_BYTES ||
    nonce.length !== NONCE_BYTES ||
    ciphertext.length > MAX_PLAINTEXT_BYTES ||
    tag.length !== TAG_BYTES
  ) {
    throw new TypeError('A part of the envelope does not have its length.');
  }
  const bytes = Buffer.allocUnsafe(ENVELOPE_OVERHEAD + ciphertext.length);
  bytes[0] = FORMAT_VERSION;
  bytes[1] = AES_256_GCM;
  bytes.set(keyId, KEY_ID_AT);
  bytes.set(nonce, NONCE_AT);
  bytes.set(ciphertext, CIPHERTEXT_AT);
  bytes.set(tag, CIPHERTEXT_AT + ciphertext.length);
  return bytes;
}

/**
 * The 16 raw bytes of a uuid. Any version and variant, canonical form only (RFC 9562, section 4; lower case), because
 * ids are compared and bound as bytes.
 * @throws TypeError for anything else.
 */
export function uuidToBytes(uuid: string): Buffer {
  if (typeof uuid !== 'string' || !CANONICAL_UUID.test(uuid)) {
    throw new TypeError('Not a uuid in canonical form (lower-case 8-4-4-4-12).');
  }
  // Slices, because `replaceAll` costs twice as much and this runs for every value.
  const hex = uuid.slice(0, 8) + uuid.slice(9, 13) + uuid.slice(14, 18) + uuid.slice(19, 23) + uuid.slice(24);
  return Buffer.from(hex, 'hex');
}

/**
 * The canonical, lower-case form of 16 raw bytes.
 * @throws TypeError unless there are 16.
 */
export function uuidFromBytes(bytes: Uint8Array): string {
  if (bytes.length !== KEY_ID_BYTES) throw new TypeError('A uuid has 16 bytes.');
  return Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function malformed(why: string): KeyringError {
  return new KeyringError('malformed_envelope', `The envelope ${why}.`);
}

function unsupported(what: string): KeyringError {
  return new KeyringError('unsupported_envelope', `The envelope has a ${what} that this release does not know.`, {
    remedy: 'Run a release at least as new as the one that wrote it.',
  });
}
