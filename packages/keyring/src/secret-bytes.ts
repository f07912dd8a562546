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
  KeyObject,
  randomBytes,
  timingSafeEqual,
  type CipherGCM,
  type DecipherGCM,
} from 'node:crypto';
import { inspect } from 'node:util';

/** Every key of the keyring is an AES-256 key: 32 bytes. */
export const KEY_BYTES = 32;

/** The length of a GCM tag in bytes; shorter ones are never accepted (SP 800-38D, 5.2.1.2). */
export const TAG_BYTES = 16;

const REDACTED = 'SecretKey(<redacted>)';
const KEY_CHECK_INFO = Buffer.from('meshhook-keyring/v1 key-check');
const NO_SALT = new Uint8Array(0);
const ROOT_FINGERPRINT_INFO = 'meshhook-keyring/v1 root-fingerprint';

const KEY_ID_BYTES = 16;
const canonicalUuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let keyObjectOf: (key: SecretKey) => KeyObject;

/**
 * A handle on a 32-byte key. It holds the key outside JavaScript's heap, so a heap snapshot does not contain it, and
 * prints as `SecretKey(<redacted>)` wherever it is printed. To a worker thread goes its `keyHandle`.
 */
export class SecretKey {
  readonly #keyObject: KeyObject;

  static {
    keyObjectOf = (key) => key.#keyObject;
  }

  /**
   * Takes the key out of `bytes` (32 bytes) and zeroes them, or holds what a handle holds.
   * @throws TypeError unless it is a `Uint8Array` of 32 bytes or a handle of such a key; bytes are left as they were then.
   */
  constructor(bytes: Uint8Array | KeyObject) {
    if (bytes instanceof KeyObject && bytes.symmetricKeySize === KEY_BYTES) {
      this.#keyObject = bytes;
      return;
    }
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

/** What `postMessage` can carry to another thread of this process: it shares the bytes, outside JavaScript's heap, and copies none. */
export function keyHandle(key: SecretKey): KeyObject {
  return keyObjectOf(key);
}

/**
 * The key of a handle that came from another thread.
 * @throws TypeError for a handle of anything but 32 secret bytes.
 */
export function keyFromHandle(handle: KeyObject): SecretKey {
  return new SecretKey(handle);
}

/** The raw 32 bytes, a copy that the caller owns and must `wipe`. */
export function insecureExportKey(key: SecretKey): Buffer {
  return keyObjectOf(key).export();
}

/** Digits of a key as text: 43 of base64url (RFC 4648, section 5), without padding. */
export const KEY_TEXT_BYTES = 43;

const DIGITS = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');

/**
 * The key as `KEY_TEXT_BYTES` of ASCII: in a buffer that the caller owns and must `wipe`, because a string cannot be wiped.
 */
export function insecureKeyText(key: SecretKey): Buffer {
  const bytes = insecureExportKey(key);
  const text = outsideTheHeap(KEY_TEXT_BYTES);
  for (let digit = 0; digit < KEY_TEXT_BYTES; digit++) {
    const bit = digit * 6;
    const two = (bytes[bit >> 3] ?? 0) * 256 + (bytes[(bit >> 3) + 1] ?? 0);
    text[digit] = DIGITS[(two >> (10 - (bit & 7))) & 63] ?? 0;
  }
  wipe(bytes);
  return text;
}

/**
 * The inverse of `insecureKeyText`, and as strict: undefined for anything but the one spelling of a key (43 digits carry 258
 * bits, so the last two have to be zero). The caller's text is copied, not wiped.
 */
export function keyFromText(text: Uint8Array): SecretKey | undefined {
  if (text.length !== KEY_TEXT_BYTES) return undefined;
  const bytes = outsideTheHeap(KEY_BYTES + 1);
  try {
    for (let at = 0; at < KEY_TEXT_BYTES; at++) {
      const digit = DIGITS.indexOf(text[at] ?? 0);
      if (digit === -1) return undefined;
      const bit = at * 6;
      const two = digit << (10 - (bit & 7));
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (two >> 8);
      bytes[(bit >> 3) + 1] = (bytes[(bit >> 3) + 1] ?? 0) | (two & 255);
    }
    if (bytes[KEY_BYTES] !== 0) return undefined;
    return new SecretKey(bytes.subarray(0, KEY_BYTES));
  } finally {
    wipe(bytes);
  }
}

/**
 * A buffer to write key bytes into. V8 keeps typed arrays of up to 64 bytes in its own heap until they are first handed on, and
 * copies them then: what was left behind could be wiped by nobody.
 */
function outsideTheHeap(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length));
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
 * The key check value of key `keyId` (a canonical uuid, or its 16 bytes): 32 bytes, safe to store beside the wrapped key.
 * HKDF-SHA256 (RFC 5869), key as input keying material, empty salt. It also commits to the key, which GCM does not:
 * one ciphertext can open under two keys, one check value cannot be met by two. `docs/spec/envelope.md`, F1 to F4.
 * @throws TypeError when `keyId` is neither.
 */
export function keyFingerprint(key: SecretKey, keyId: string | Uint8Array): Buffer {
  const isOne = typeof keyId === 'string' ? canonicalUuid.test(keyId) : keyId.length === KEY_ID_BYTES;
  if (!isOne) throw new TypeError('A key id is a lower-case uuid, or 16 bytes.');
  const info = Buffer.allocUnsafe(KEY_CHECK_INFO.length + KEY_ID_BYTES);
  info.set(KEY_CHECK_INFO);
  if (typeof keyId === 'string') info.write(keyId.replaceAll('-', ''), KEY_CHECK_INFO.length, 'hex');
  else info.set(keyId, KEY_CHECK_INFO.length);
  return derive(key, info, 32);
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
  return Buffer.from(hkdfSync('sha256', keyObjectOf(key), NO_SALT, info, length));
}
