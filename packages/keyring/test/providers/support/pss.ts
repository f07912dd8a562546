/** EMSA-PSS (RFC 8017, 9.1) with SHA-256 and a salt of 32 bytes, of a digest: what Node signs it hashes first. */
import { createHash, randomBytes } from 'node:crypto';

const HASH = 32;

/** @param length of the modulus in bytes; its bits are a multiple of 8. */
export function encodePss(digest: Buffer, length: number, salt = randomBytes(HASH)): Buffer {
  if (digest.length !== HASH) throw new Error('not a digest');
  const hash = sha256(Buffer.concat([Buffer.alloc(8), digest, salt]));
  const data = Buffer.alloc(length - HASH - 1);
  data[data.length - HASH - 1] = 1;
  salt.copy(data, data.length - HASH);
  const masked = xor(data, mask(hash, data.length));
  masked[0] = (masked[0] ?? 0) & 0x7f;
  return Buffer.concat([masked, hash, Buffer.of(0xbc)]);
}

export function isPss(digest: Buffer, encoded: Buffer): boolean {
  const hash = encoded.subarray(-HASH - 1, -1);
  const data = xor(encoded.subarray(0, -HASH - 1), mask(hash, encoded.length - HASH - 1));
  return encodePss(digest, encoded.length, Buffer.from(data.subarray(-HASH))).equals(encoded);
}

/** MGF1 (RFC 8017, B.2.1). */
function mask(seed: Buffer, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let n = 0; n * HASH < length; n++) blocks.push(sha256(Buffer.concat([seed, Buffer.of(0, 0, n >> 8, n & 0xff)])));
  return Buffer.concat(blocks).subarray(0, length);
}

function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, at) => byte ^ (b[at] ?? 0)));
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
