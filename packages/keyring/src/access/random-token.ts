import { createHash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** What the beginning of a secret says it is, so that scanners of repositories know one when they see it. */
export const tokenPrefixes = { token: 'mhk_', link: 'mhl_', session: 'mhs_' } as const;
export type TokenKind = keyof typeof tokenPrefixes;

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
// 62^43 > 2^256, and 62^6 > 2^32.
const RANDOM_DIGITS = 43;
const CHECK_DIGITS = 6;
const shape = /^(mh[kls]_)([0-9A-Za-z]{43})([0-9A-Za-z]{6})$/;

/** 256 random bits in base62 behind a prefix, and a CRC-32 of them: a typo, or text that only looks like one, is told without asking. */
export function newToken(kind: TokenKind): string {
  const random = base62(BigInt(`0x${randomBytes(32).toString('hex')}`), RANDOM_DIGITS);
  return tokenPrefixes[kind] + random + checksum(random);
}

/** Has it the form of one? Says nothing of whether there is such a one. */
export function isToken(kind: TokenKind, text: string): boolean {
  const [, prefix, random = '', check] = shape.exec(text) ?? [];
  return prefix === tokenPrefixes[kind] && check === checksum(random);
}

/** SHA-256: what is kept of one. A plain hash will do, for 256 random bits are in no dictionary. */
export function tokenDigest(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}

function checksum(random: string): string {
  return base62(BigInt(crc32(random)), CHECK_DIGITS);
}

function base62(value: bigint, length: number): string {
  let text = '';
  for (let rest = value; text.length < length; rest /= 62n) text = (digits[Number(rest % 62n)] ?? '') + text;
  return text;
}
