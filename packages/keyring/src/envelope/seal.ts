/** Sealing and opening: the envelope's bytes, a key and associated data come together here, without I/O or a clock. */
import { randomFillSync } from 'node:crypto';
import { KeyringError, decryptionFailed } from '../errors.ts';
import { createKeyCipher, createKeyDecipher, wipe, type SecretKey } from '../secret-bytes.ts';
import {
  MAX_PLAINTEXT_BYTES,
  NONCE_BYTES,
  encodeEnvelope,
  parseEnvelope,
  uuidToBytes,
  type Envelope,
} from './format.ts';

// 4 KiB, one call to the generator for 341 nonces: a call for each adds 1.9 µs to the 4 µs of a small seal (N3).
const pool = new Uint8Array(341 * NONCE_BYTES);
let poolAt = pool.length;

/**
 * Encrypts `plaintext` (0 to 65,536 bytes) under a fresh random 96-bit nonce (SP 800-38D, 8.2.2) and binds it to
 * `keyId` and `aad`. The caller counts: at most 2^32 calls per key (SP 800-38D, 8.3).
 * @returns the envelope, 46 bytes longer than the plaintext; the caller's plaintext is left as it was.
 * @throws KeyringError `invalid_value` when the plaintext is longer than `MAX_PLAINTEXT_BYTES`.
 * @throws TypeError when `keyId` is not a canonical uuid.
 */
export function seal(key: SecretKey, keyId: string, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  return sealer(key, keyId)(plaintext, aad);
}

/**
 * `seal` with everything but the value and its place worked out once: for a key that seals many.
 * @throws as `seal` does: for the key id at once, for the rest when it is given.
 */
export function sealer(key: SecretKey, keyId: string): (plaintext: Uint8Array, aad: Uint8Array) => Buffer {
  const keyIdBytes = uuidToBytes(keyId);
  return (plaintext, aad) => sealWith(key, keyIdBytes, plaintext, aad, nextNonce());
}

/**
 * The inverse of `seal`. The caller owns the result and wipes it.
 * @throws KeyringError `decryption_failed`, the same in every respect for bytes that are no envelope, an unknown
 *   version, another key id, another key, other associated data and tampering.
 * @throws TypeError when `keyId` is not a canonical uuid.
 */
export function open(key: SecretKey, keyId: string, envelope: Uint8Array, aad: Uint8Array): Buffer {
  return opener(key, keyId)(envelope, aad);
}

/**
 * `open` with everything but the envelope and its place worked out once: for a key that opens many.
 * @throws as `open` does: for the key id at once, for the rest when it is given.
 */
export function opener(key: SecretKey, keyId: string): (envelope: Uint8Array, aad: Uint8Array) => Buffer {
  const expectedKeyId = uuidToBytes(keyId);
  return (envelope, aad) => {
    const parts = parseOrFail(envelope);
    if (!sameId(parts.keyId, expectedKeyId)) throw decryptionFailed();

    const decipher = createKeyDecipher(key, parts.nonce);
    decipher.setAAD(aad);
    decipher.setAuthTag(parts.tag);
    const plaintext = decipher.update(parts.ciphertext);
    try {
      decipher.final();
    } catch {
      // GCM decrypts before it knows: what it made of a forgery must not linger (SP 800-38D, 7.2).
      wipe(plaintext);
      throw decryptionFailed();
    }
    return plaintext;
  };
}

/**
 * `seal` under a nonce of the caller's choice, for test vectors. A nonce used twice with one key gives away both
 * plaintexts' difference and the key's authentication subkey: nothing but `seal` and tests may call this.
 */
export function insecureSealWithNonce(
  key: SecretKey,
  keyId: string,
  plaintext: Uint8Array,
  aad: Uint8Array,
  nonce: Uint8Array,
): Buffer {
  return sealWith(key, uuidToBytes(keyId), plaintext, aad, nonce);
}

function sealWith(
  key: SecretKey,
  keyId: Uint8Array,
  plaintext: Uint8Array,
  aad: Uint8Array,
  nonce: Uint8Array,
): Buffer {
  if (plaintext.length > MAX_PLAINTEXT_BYTES) {
    throw new KeyringError('invalid_value', `A value is at most ${MAX_PLAINTEXT_BYTES} bytes.`, {
      details: { limit: MAX_PLAINTEXT_BYTES },
    });
  }
  const cipher = createKeyCipher(key, nonce);
  cipher.setAAD(aad);
  const ciphertext = cipher.update(plaintext);
  // A stream mode: nothing is left for `final` to give, but it makes the tag.
  cipher.final();
  return encodeEnvelope({ keyId, nonce, ciphertext, tag: cipher.getAuthTag() });
}

/** Ids are no secrets: this need not take the same time for all, and costs less than a call out of JavaScript. */
function sameId(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < b.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

function parseOrFail(envelope: Uint8Array): Envelope {
  try {
    return parseEnvelope(envelope);
  } catch (error) {
    throw error instanceof KeyringError ? decryptionFailed() : error;
  }
}

/** 12 random bytes that no other call gets. Each worker thread loads this module, and so has a pool, of its own. */
function nextNonce(): Uint8Array {
  if (poolAt === pool.length) {
    randomFillSync(pool);
    poolAt = 0;
  }
  // Copied out and moved on before use: an exception later on skips a nonce, never repeats one. Into a Buffer, which lies outside V8's
  // heap already: an array of its own would be moved there at the first use, which costs more than the copy.
  const nonce = Buffer.from(pool.subarray(poolAt, poolAt + NONCE_BYTES));
  pool.fill(0, poolAt, poolAt + NONCE_BYTES);
  poolAt += NONCE_BYTES;
  return nonce;
}
