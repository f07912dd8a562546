import { expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import {
  ENVELOPE_OVERHEAD,
  MAX_PLAINTEXT_BYTES,
  encodeEnvelope,
  parseEnvelope,
  uuidFromBytes,
  uuidToBytes,
} from '../../src/envelope/format.ts';
import { KeyringError } from '../../src/errors.ts';
import { thrown } from '../support/thrown.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const parts = fc.record({
  keyId: bytes(16),
  nonce: bytes(12),
  ciphertext: fc.uint8Array({ maxLength: 300, size: 'max' }),
  tag: bytes(16),
});

test('an envelope is 46 bytes longer than its ciphertext', () => {
  expect(ENVELOPE_OVERHEAD).toBe(46);
  expect(encodeEnvelope(filled({ ciphertext: 0 }))).toHaveLength(46);
  expect(encodeEnvelope(filled({ ciphertext: MAX_PLAINTEXT_BYTES }))).toHaveLength(46 + 65_536);
});

test('parsing gives back the parts that were encoded', () => {
  fc.assert(
    fc.property(parts, (envelope) => {
      const parsed = parseEnvelope(encodeEnvelope(envelope));
      for (const part of ['keyId', 'nonce', 'ciphertext', 'tag'] as const) {
        expect(Buffer.compare(parsed[part], envelope[part])).toBe(0);
      }
    }),
  );
});

test('the parts are views of the bytes, not copies', () => {
  const bytes = new Uint8Array(encodeEnvelope(filled({ ciphertext: 3 })));
  const { keyId, nonce, ciphertext, tag } = parseEnvelope(bytes);
  bytes.fill(9, 2);
  for (const part of [keyId, nonce, ciphertext, tag]) expect(new Set(part)).toEqual(new Set([9]));
});

test('whatever bytes are accepted encode to themselves, and the others are refused with a code', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 100, size: 'max' }),
    // Mostly right, so that both branches are reached.
    fc.uint8Array({ maxLength: 200, size: 'max' }).map((tail) => Uint8Array.of(1, 1, ...tail)),
    fc
      .tuple(fc.nat(3), fc.nat(3), fc.uint8Array({ maxLength: 80, size: 'max' }))
      .map(([a, b, tail]) => Uint8Array.of(a, b, ...tail)),
  );
  let accepted = 0;
  fc.assert(
    fc.property(anything, (bytes) => {
      try {
        expect(Buffer.compare(encodeEnvelope(parseEnvelope(bytes)), bytes)).toBe(0);
        accepted += 1;
      } catch (error) {
        if (!(error instanceof KeyringError)) throw error;
        expect(['malformed_envelope', 'unsupported_envelope']).toContain(error.code);
      }
    }),
    { numRuns: 2_000 },
  );
  expect(accepted).toBeGreaterThan(100);
});

test.each([
  { keyId: 15 },
  { keyId: 17 },
  { nonce: 11 },
  { nonce: 16 },
  { tag: 12 },
  { tag: 17 },
  { ciphertext: MAX_PLAINTEXT_BYTES + 1 },
])('encoding refuses a part without its length: %o', (lengths) => {
  expect(() => encodeEnvelope(filled(lengths))).toThrow(TypeError);
});

test('an error about an envelope holds none of its bytes', () => {
  const bytes = Buffer.from('sk_test_plaintext_stored_by_mistake');
  expect(
    JSON.stringify(
      thrown(() => parseEnvelope(bytes)),
      Object.getOwnPropertyNames(Error.prototype),
    ),
  ).not.toContain('sk_');
  expect(String(thrown(() => parseEnvelope(bytes)))).not.toContain('sk_');
});

test('uuids go to bytes and back', () => {
  fc.assert(fc.property(bytes(16), (raw) => Buffer.compare(uuidToBytes(uuidFromBytes(raw)), raw) === 0));
  fc.assert(fc.property(fc.uuid(), (uuid) => uuidFromBytes(uuidToBytes(uuid)) === uuid));
});

test.each([
  '',
  '11111111-1111-4111-8111-11111111111',
  '11111111-1111-4111-8111-1111111111111',
  '11111111111141118111111111111111',
  '{11111111-1111-4111-8111-111111111111}',
  'urn:uuid:11111111-1111-4111-8111-111111111111',
  'AAAAAAAA-1111-4111-8111-111111111111',
  '1111111-11111-4111-8111-111111111111',
  'g1111111-1111-4111-8111-111111111111',
  '11111111-1111-4111-8111-111111111111\n',
])('%j is not a canonical uuid', (text) => {
  expect(() => uuidToBytes(text)).toThrow(TypeError);
});

test('a uuid has 16 bytes', () => {
  expect(() => uuidFromBytes(new Uint8Array(15))).toThrow(TypeError);
  expect(() => uuidFromBytes(new Uint8Array(17))).toThrow(TypeError);
});

function filled({ keyId = 16, nonce = 12, ciphertext = 0, tag = 16 }: Partial<Record<string, number>>) {
  return {
    keyId: new Uint8Array(keyId),
    nonce: new Uint8Array(nonce),
    ciphertext: new Uint8Array(ciphertext),
    tag: new Uint8Array(tag),
  };
}
