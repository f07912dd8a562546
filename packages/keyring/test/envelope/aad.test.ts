import { expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import {
  MAX_LABEL_BYTES,
  MAX_ROW_ID_BYTES,
  dataKeyAad,
  secretAad,
  secretAadBuilder,
  wrappingKeyAad,
} from '../../src/envelope/aad.ts';
import { KeyringError } from '../../src/errors.ts';
import { secondAad, uint32, unhex } from '../support/second-decryptor.ts';
import { thrown } from '../support/thrown.ts';

const projectId = '11111111-1111-4111-8111-111111111111';
const keyId = '22222222-2222-4222-8222-222222222222';
const wrappingKeyId = '44444444-4444-4444-8444-444444444444';

const text = (limit: number) =>
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((value) => Buffer.byteLength(value) <= limit);
const place = fc.record({ projectId: fc.uuid(), label: text(200), rowId: text(200), keyId: fc.uuid() });

/** Few ids and short texts over few letters, so that near misses are common. */
const near = fc.record({
  projectId: fc.constantFrom(projectId, keyId),
  label: fc.string({ unit: fc.constantFrom('a', 'b', '\0', '\x01', '\x10'), minLength: 1, maxLength: 6 }),
  rowId: fc.string({ unit: fc.constantFrom('a', 'b', '\0', '\x01', '\x10'), minLength: 1, maxLength: 6 }),
  keyId: fc.constantFrom(projectId, keyId),
});

test('two places have the same associated data only if they are the same place', () => {
  fc.assert(
    fc.property(near, near, (a, b) => {
      const same = a.projectId === b.projectId && a.label === b.label && a.rowId === b.rowId && a.keyId === b.keyId;
      expect(Buffer.compare(secretAad(a), secretAad(b)) === 0).toBe(same);
    }),
    { numRuns: 5_000 },
  );
});

test('the associated data is what the specification says, for every purpose', () => {
  fc.assert(
    fc.property(place, (p) => {
      const expected = secondAad('secret', unhex(p.projectId), p.label, p.rowId, unhex(p.keyId));
      expect(Buffer.compare(secretAad(p), expected)).toBe(0);
    }),
  );
  fc.assert(
    fc.property(fc.uuid(), fc.integer({ min: 1, max: 0xffff_ffff }), fc.uuid(), fc.uuid(), (p, version, k, w) => {
      const expected = secondAad('data-key', unhex(p), uint32(version), unhex(k), unhex(w));
      expect(Buffer.compare(dataKeyAad({ projectId: p, version, keyId: k, wrappingKeyId: w }), expected)).toBe(0);
      const wrapping = secondAad('wrapping-key', uint32(version), unhex(w));
      expect(Buffer.compare(wrappingKeyAad({ version, wrappingKeyId: w }), wrapping)).toBe(0);
    }),
  );
});

test('one builder serves many rows, and what it gave before does not change', () => {
  const forRow = secretAadBuilder(projectId, 'public.secrets.value', keyId);
  const first = forRow('row-1');
  const copy = Uint8Array.from(first);
  forRow('row-2');
  expect(Uint8Array.from(first)).toEqual(copy);
  expect(copy).toEqual(Uint8Array.from(secretAad({ projectId, label: 'public.secrets.value', rowId: 'row-1', keyId })));
});

test.each([
  ['an empty label', { label: '' }],
  ['an empty row id', { rowId: '' }],
  ['a label over its cap', { label: 'l'.repeat(MAX_LABEL_BYTES + 1) }],
  ['a row id over its cap', { rowId: 'r'.repeat(MAX_ROW_ID_BYTES + 1) }],
  ['a row id over its cap in bytes, not in characters', { rowId: 'é'.repeat(101) }],
  ['a lone surrogate in the label', { label: 'a\ud800' }],
  ['a lone surrogate in the row id', { rowId: '\udc00' }],
])('%s is refused', (_, change) => {
  const error = thrown(() => secretAad({ projectId, label: 'l', rowId: 'r', keyId, ...change }));
  expect(error).toBeInstanceOf(KeyringError);
  expect(error).toHaveProperty('code', 'invalid_argument');
});

test('labels and row ids at their caps are accepted', () => {
  const [label, rowId] = ['é'.repeat(100), 'r'.repeat(200)];
  expect(secretAad({ projectId, label, rowId, keyId })).toHaveLength(4 * 6 + 19 + 6 + 16 + 200 + 200 + 16);
});

test.each([0, -1, 1.5, Number.NaN, 2 ** 32, Infinity])('%d is no key version', (version) => {
  expect(() => dataKeyAad({ projectId, version, keyId, wrappingKeyId })).toThrow(TypeError);
  expect(() => wrappingKeyAad({ version, wrappingKeyId })).toThrow(TypeError);
});

test('ids are canonical uuids', () => {
  const upper = 'ABCDEFAB-1111-4111-8111-111111111111';
  expect(() => secretAad({ projectId: upper, label: 'l', rowId: 'r', keyId })).toThrow(TypeError);
  expect(() => secretAad({ projectId, label: 'l', rowId: 'r', keyId: upper })).toThrow(TypeError);
  expect(() => dataKeyAad({ projectId, version: 1, keyId, wrappingKeyId: upper })).toThrow(TypeError);
  expect(() => wrappingKeyAad({ version: 1, wrappingKeyId: upper })).toThrow(TypeError);
});
