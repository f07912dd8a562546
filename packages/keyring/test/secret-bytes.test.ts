import { Console } from 'node:console';
import { PassThrough } from 'node:stream';
import { format, inspect } from 'node:util';
import { expect, test } from 'vitest';
import fc from '../../../test/support/seeded.ts';
import {
  equalBytes,
  generateKey,
  insecureExportKey,
  insecureKeyText,
  KEY_TEXT_BYTES,
  keyFingerprint,
  keyFromBytes,
  keyFromText,
  rootFingerprint,
  SecretKey,
  wipe,
} from '../src/secret-bytes.ts';
import { secondDerive, unhex } from './support/second-decryptor.ts';

const keyId = '22222222-2222-4222-8222-222222222222';
const raw = () => Buffer.from('c0ffee00deadbeefc0ffee00deadbeefc0ffee00deadbeefc0ffee00deadbeef', 'hex');
const keyBytes = fc.uint8Array({ minLength: 32, maxLength: 32 });

test.each<[string, (key: SecretKey) => string]>([
  ['inspect', (key) => inspect(key)],
  ['inspect, everything shown', (key) => inspect(key, { showHidden: true, depth: null, getters: true, colors: true })],
  ['inspect inside an object', (key) => inspect({ nested: [{ key }] }, { depth: null })],
  ['String()', (key) => String(key)],
  ['a template', (key) => `${key}`],
  ['format %s', (key) => format('%s', key)],
  ['format %o', (key) => format('%o', key)],
  ['format %j', (key) => format('%j', key)],
  ['JSON.stringify', (key) => JSON.stringify({ key })],
  ['console.log', (key) => logged(key)],
])('%s shows a key as redacted', (_, show) => {
  const shown = show(keyFromBytes(raw()));
  expect(shown).toContain('SecretKey(<redacted>)');
  expectNoKeyIn(shown);
});

test('even an inspector that ignores custom output finds nothing', () => {
  const key = keyFromBytes(raw());
  expectNoKeyIn(inspect(key, { customInspect: false, showHidden: true, depth: null, getters: true }));
  expect(Object.keys(key)).toEqual([]);
  expect(Reflect.ownKeys(key)).toEqual([]);
  expectNoKeyIn(JSON.stringify(structuredClone(key)));
});

test('a key is taken out of 32 bytes, which are zeroed', () => {
  for (const make of [keyFromBytes, (bytes: Uint8Array) => new SecretKey(bytes)]) {
    const bytes = raw();
    const key = make(bytes);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    expect(insecureExportKey(key).equals(raw())).toBe(true);
  }
});

test('wiping an exported copy leaves the key as it was', () => {
  const key = keyFromBytes(raw());
  wipe(insecureExportKey(key));
  expect(insecureExportKey(key).equals(raw())).toBe(true);
});

test.each([0, 16, 31, 33, 64])('%d bytes are no key, and are left as they were', (length) => {
  const bytes = Buffer.alloc(length, 1);
  expect(() => keyFromBytes(bytes)).toThrow(TypeError);
  expect(bytes.every((byte) => byte === 1)).toBe(true);
});

test('nothing but bytes is a key', () => {
  for (const value of ['x'.repeat(32), Array(32).fill(1), new ArrayBuffer(32), null, undefined]) {
    expect(() => keyFromBytes(value as never)).toThrow(TypeError);
  }
  expect(() => insecureExportKey({} as never)).toThrow(TypeError);
});

test('a key as text is base64url without padding, and comes back from it', () => {
  fc.assert(
    fc.property(keyBytes, (bytes) => {
      const text = insecureKeyText(keyFromBytes(Buffer.from(bytes)));
      expect(text.toString('latin1')).toBe(Buffer.from(bytes).toString('base64url'));
      expect(text).toHaveLength(KEY_TEXT_BYTES);
      const back = keyFromText(text);
      expect(back !== undefined && insecureExportKey(back).equals(bytes)).toBe(true);
    }),
  );
});

test('a key has one spelling: no other text is taken for one', () => {
  const text = insecureKeyText(keyFromBytes(raw())).toString('latin1');
  expect(keyFromText(Buffer.from(text))).toBeInstanceOf(SecretKey);
  // The spare bits of its last digit, digits of base64, white space, padding, one too few, one too many.
  const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'.indexOf(text.at(-1) ?? '');
  const spare = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'[last + 1] ?? '';
  for (const other of [
    text.slice(0, -1) + spare,
    `+${text.slice(1)}`,
    ` ${text.slice(1)}`,
    `${text}=`,
    text.slice(1),
    `${text}A`,
    '',
    `\0${text.slice(1)}`,
  ]) {
    expect(keyFromText(Buffer.from(other)), other).toBeUndefined();
  }
});

test('generated keys differ', () => {
  const keys = Array.from({ length: 100 }, () => insecureExportKey(generateKey()).toString('hex'));
  expect(new Set(keys).size).toBe(100);
});

test('a key check value is HKDF-SHA256 over the key and its id', async () => {
  await fc.assert(
    fc.asyncProperty(keyBytes, fc.uuid(), async (bytes, id) => {
      const info = Buffer.concat([Buffer.from('meshhook-keyring/v1 key-check'), unhex(id)]);
      const expected = await secondDerive(bytes, info, 32);
      expect(keyFingerprint(keyFromBytes(bytes), id).equals(expected)).toBe(true);
    }),
  );
});

test('a key check value differs for another key, and for the same key under another id', () => {
  const check = keyFingerprint(keyFromBytes(raw()), keyId);
  expect(check).toHaveLength(32);
  expect(keyFingerprint(generateKey(), keyId).equals(check)).toBe(false);
  expect(keyFingerprint(keyFromBytes(raw()), keyId.replace('2', '3')).equals(check)).toBe(false);
  expect(() => keyFingerprint(generateKey(), 'ABCDEFAB-1111-4111-8111-111111111111')).toThrow(TypeError);
});

test('a root fingerprint is 32 hex digits, equal for equal keys only', () => {
  const fingerprint = rootFingerprint(keyFromBytes(raw()));
  expect(fingerprint).toMatch(/^[0-9a-f]{32}$/);
  expect(rootFingerprint(keyFromBytes(raw()))).toBe(fingerprint);
  expect(rootFingerprint(generateKey())).not.toBe(fingerprint);
});

test('equal bytes are equal, and lengths may differ', () => {
  expect(equalBytes(raw(), new Uint8Array(raw()))).toBe(true);
  expect(equalBytes(raw(), raw().subarray(1))).toBe(false);
  expect(equalBytes(raw(), raw().fill(0, 31))).toBe(false);
  expect(equalBytes(new Uint8Array(0), new Uint8Array(0))).toBe(true);
});

function logged(value: unknown): string {
  const stdout = new PassThrough();
  new Console({ stdout }).log('key:', value, { value });
  return String(stdout.read());
}

function expectNoKeyIn(text: string): void {
  for (const encoding of ['hex', 'base64', 'base64url', 'latin1', 'utf8'] as const) {
    expect(text).not.toContain(raw().toString(encoding).slice(0, 8));
  }
  expect(text).not.toMatch(/c0,? ?ff,? ?ee|192,\s*255,\s*238/);
}
