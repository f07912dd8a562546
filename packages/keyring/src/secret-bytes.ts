/**
 * The one file where raw key bytes are reachable. Everything else holds a `SecretKey` and asks here for what a key can
 * do; whoever needs the bytes themselves has to write `insecure`. Imports nothing of ours, so that it can be reviewed
 * on its own.
 */
import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
  type CipherGCM,
  type DecipherGCM,
  type KeyObject,
} from 'node:crypto';
import { inspect } from 'node:util';

/** Every key of the keyring is an AES-256 key: 32 bytes. */
export const KEY_BYTES = 32;

/** The length of a GCM tag in bytes; shorter ones are never accepted (SP 800-38D, 5.2.1.2). */
export const TAG_BYTES = 16;

const REDACTED = 'SecretKey(<redacted>)';
const KEY_CHECK_INFO = 'meshhook-keyring/v1 key-check';
const ROOT_FINGERPRINT_INFO = 'meshhook-keyring/v1 root-fingerprint';

let keyObjectOf: (key: SecretKey) => KeyObject;

/**
 * A handle on a 32-byte key. It holds the key outside JavaScript's heap, so a heap snapshot does not contain it, and
 * prints as `SecretKey(<redacted>)` wherever it is printed. Not transferable to a worker thread: move the bytes with
 * `insecureExportKey` and `keyFromBytes`.
 */
export class SecretKey {
  readonly #keyObject: KeyObject;

  static {
    keyObjectOf = (key) => key.#keyObject;
  }

  /**
   * Takes the key out of `bytes` (32 bytes) and zeroes them.
   * @throws TypeError unless `bytes` is a `Uint8Array` of 32 bytes; they are left as they were.
   */
  constructor(bytes: Uint8Array) {
    if (!(bytes instanceof Uint8Array) || bytes.byteLength !== KEY_BYTES) {
      throw new TypeError(`A key is a Uint8Array of ${KEY_BYTES} bytes.`);
    }
    this.#keyObject = createSecretKey(bytes);
    wipe(bytes);
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}

/** A new key from the operating system's generator (SP 800-133, section 4). */
export function generateKey(): SecretKey {
  return new SecretKey(randomBytes(KEY_BYTES));
}

/**
 * Copies a key out of `bytes` (32 bytes) and zeroes the caller's buffer.
 * @throws TypeError unless `bytes` is a `Uint8Array` of 32 bytes.
 */
export function keyFromBytes(bytes: Uint8Array): SecretKey {
  return new SecretKey(bytes);
}

/** The raw 32 bytes, a copy that the caller owns and must `wipe`. */
export function insecureExportKey(key: SecretKey): Buffer {
  return keyObjectOf(key).export();
}

/** AES-256-GCM with a 128-bit tag (SP 800-38D). The caller vouches that `nonce` was never used with this key. */
export function createKeyCipher(key: SecretKey, nonce: Uint8Array): CipherGCM {
  return createCipheriv('aes-256-gcm', keyObjectOf(key), nonce, { authTagLength: TAG_BYTES });
}

/** The inverse of `createKeyCipher`. What it yields is unauthenticated until `final()` has returned. */
export function createKeyDecipher(key: SecretKey, nonce: Uint8Array): DecipherGCM {
  return createDecipheriv('aes-256-gcm', keyObjectOf(key), nonce, { authTagLength: TAG_BYTES });
}

/**
 * The key check value of key `keyId` (a canonical uuid): 32 bytes, safe to store beside the wrapped key.
 * HKDF-SHA256 (RFC 5869), key as input keying material, empty salt. It also commits to the key, which GCM does not:
 * one ciphertext can open under two keys, one check value cannot be met by two. `docs/spec/envelope.md`, F1 to F4.
 * @throws TypeError when `keyId` is not a canonical uuid.
 */
export function keyFingerprint(key: SecretKey, keyId: string): Buffer {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(keyId)) throw new TypeError('A key id is a lower-case uuid.');
  return derive(key, Buffer.concat([Buffer.from(KEY_CHECK_INFO), Buffer.from(keyId.replaceAll('-', ''), 'hex')]), 32);
}

/**
 * The public name of a root key: 32 lower-case hex digits, equal for equal keys, revealing nothing of them.
 * HKDF-SHA256 (RFC 5869) to 16 bytes. `docs/spec/envelope.md`, F5.
 */
export function rootFingerprint(key: SecretKey): string {
  return derive(key, Buffer.from(ROOT_FINGERPRINT_INFO), 16).toString('hex');
}

/** Whether both hold the same bytes; the time it takes depends on their lengths only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && timingSafeEqual(a, b);
}

/** Overwrites `bytes` with zeros. Copies that the runtime made on its own are out of reach: see SECURITY.md. */
export function wipe(bytes: Uint8Array): void {
  bytes.fill(0);
}

function derive(key: SecretKey, info: Uint8Array, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', keyObjectOf(key), new Uint8Array(0), info, length));
}
