import { expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import { secretAad } from '../../src/envelope/aad.ts';
import { MAX_PLAINTEXT_BYTES, parseEnvelope, uuidToBytes } from '../../src/envelope/format.ts';
import { insecureSealWithNonce, open, seal } from '../../src/envelope/seal.ts';
import { KeyringError, decryptionFailed } from '../../src/errors.ts';
import { generateKey, insecureExportKey } from '../../src/secret-bytes.ts';
import { secondAad, secondOpen, secondSeal, unhex } from '../support/second-decryptor.ts';
import { thrown } from '../support/thrown.ts';

const key = generateKey();
const projectId = '11111111-1111-4111-8111-111111111111';
const keyId = '22222222-2222-4222-8222-222222222222';
const place = { projectId, label: 'public.secrets.value', rowId: 'row-1', keyId };
const aad = secretAad(place);

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 });
const places = fc.record({ projectId: fc.uuid(), label: text, rowId: text, keyId: fc.uuid() });
const values = fc.uint8Array({ maxLength: 300, size: 'max' });

test('what was sealed opens, where it belongs', () => {
  fc.assert(
    fc.property(values, places, (value, place) => {
      const opened = open(key, place.keyId, seal(key, place.keyId, value, secretAad(place)), secretAad(place));
      expect(Buffer.compare(opened, value)).toBe(0);
    }),
  );
});

test('any flipped bit gives the one error', () => {
  const bits = fc.tuple(values, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.nat(7));
  fc.assert(
    fc.property(bits, ([value, where, bit]) => {
      const envelope = seal(key, keyId, value, aad);
      const at = Math.floor(where * envelope.length);
      envelope[at] = (envelope[at] ?? 0) ^ (1 << bit);
      expectTheOneError(() => open(key, keyId, envelope, aad));
    }),
    { numRuns: 1_000 },
  );
});

test('every single bit of an envelope matters', () => {
  const envelope = seal(key, keyId, Buffer.from('value'), aad);
  for (let bit = 0; bit < envelope.length * 8; bit += 1) {
    const flipped = Uint8Array.from(envelope);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expectTheOneError(() => open(key, keyId, flipped, aad));
  }
});

test('any envelope cut anywhere gives the one error', () => {
  const envelope = seal(key, keyId, Buffer.from('value'), aad);
  for (let length = 0; length < envelope.length; length += 1) {
    expectTheOneError(() => open(key, keyId, envelope.subarray(0, length), aad));
  }
});

test.each(['projectId', 'label', 'rowId', 'keyId'] as const)('moved to another %s, it gives the one error', (part) => {
  fc.assert(
    fc.property(values, places, places, (value, from, other) => {
      const to = { ...from, [part]: other[part] };
      fc.pre(to[part] !== from[part]);
      const envelope = seal(key, from.keyId, value, secretAad(from));
      expectTheOneError(() => open(key, from.keyId, envelope, secretAad(to)));
      expectTheOneError(() => open(key, to.keyId, envelope, secretAad(to)));
    }),
  );
});

test('another key with the same id gives the one error', () => {
  fc.assert(
    fc.property(values, (value) => {
      expectTheOneError(() => open(generateKey(), keyId, seal(key, keyId, value, aad), aad));
    }),
  );
});

test('bytes that were never sealed give the one error', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 200, size: 'max' }),
    fc
      .uint8Array({ maxLength: 200, size: 'max' })
      .map((tail) => Buffer.concat([Uint8Array.of(1, 1), uuidToBytes(keyId), tail])),
  );
  fc.assert(
    fc.property(anything, anything, (bytes, aad) => {
      expectTheOneError(() => open(key, keyId, bytes, aad));
    }),
    { numRuns: 1_000 },
  );
});

test('the one error holds neither the value nor a cause', () => {
  const error = thrown(() => open(generateKey(), keyId, seal(key, keyId, Buffer.from('sk_test_value'), aad), aad));
  expect(error).not.toHaveProperty('cause');
  expect((error as KeyringError).details).toEqual({});
  expect((error as KeyringError).message).toBe('The ciphertext could not be opened.');
});

test('the largest value is sealed and opens; one byte more is refused', () => {
  const largest = Buffer.alloc(MAX_PLAINTEXT_BYTES, 7);
  expect(open(key, keyId, seal(key, keyId, largest, aad), aad).equals(largest)).toBe(true);
  const error = thrown(() => seal(key, keyId, Buffer.alloc(MAX_PLAINTEXT_BYTES + 1), aad));
  expect(error).toBeInstanceOf(KeyringError);
  expect(error).toHaveProperty('code', 'invalid_value');
});

test('no nonce comes twice, over many fillings of the pool', () => {
  const count = 5_000;
  const nonces = new Set<string>();
  for (let i = 0; i < count; i += 1) {
    nonces.add(Buffer.from(parseEnvelope(seal(key, keyId, new Uint8Array(0), aad)).nonce).toString('hex'));
  }
  expect(nonces.size).toBe(count);
  expect(nonces).not.toContain('00'.repeat(12));
});

test('a seal that fails skips a nonce and never gives it again', () => {
  const nonceOf = () => Buffer.from(parseEnvelope(seal(key, keyId, new Uint8Array(0), aad)).nonce).toString('hex');
  const seen = new Set<string>();
  for (let i = 0; i < 700; i += 1) {
    seen.add(nonceOf());
    thrown(() => seal(key, 'not a uuid', new Uint8Array(0), aad));
  }
  expect(seen.size).toBe(700);
});

test('sealing leaves the plaintext as it was, and the same value never gives the same bytes', () => {
  const value = Buffer.from('value');
  const envelopes = [seal(key, keyId, value, aad), seal(key, keyId, value, aad)] as const;
  expect(value.toString()).toBe('value');
  expect(envelopes[0].equals(envelopes[1])).toBe(false);
});

test('misuse is a TypeError, not a decryption failure', () => {
  const envelope = seal(key, keyId, Buffer.from('value'), aad);
  expect(() => open(key, keyId.toUpperCase().replace('2', 'A'), envelope, aad)).toThrow(TypeError);
  expect(() => open({} as never, keyId, envelope, aad)).toThrow(TypeError);
  expect(() => open(key, keyId, undefined as never, aad)).toThrow(TypeError);
  expect(() => open(key, keyId, envelope, undefined as never)).toThrow(TypeError);
  expect(() => seal({} as never, keyId, envelope, aad)).toThrow(TypeError);
  expect(() => insecureSealWithNonce(key, keyId, envelope, aad, new Uint8Array(16))).toThrow(TypeError);
});

test('the second implementation opens what we seal', async () => {
  await fc.assert(
    fc.asyncProperty(values, places, async (value, p) => {
      const envelope = seal(key, p.keyId, value, secretAad(p));
      const aad = secondAad('secret', unhex(p.projectId), p.label, p.rowId, unhex(p.keyId));
      const opened = await secondOpen(insecureExportKey(key), unhex(p.keyId), envelope, aad);
      expect(opened).toEqual(value);
    }),
  );
});

test('we open what the second implementation seals', async () => {
  const nonce = fc.uint8Array({ minLength: 12, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(values, places, nonce, async (value, p, nonce) => {
      const aad = secondAad('secret', unhex(p.projectId), p.label, p.rowId, unhex(p.keyId));
      const envelope = await secondSeal(insecureExportKey(key), unhex(p.keyId), nonce, value, aad);
      expect(Buffer.compare(open(key, p.keyId, envelope, secretAad(p)), value)).toBe(0);
    }),
  );
});

function expectTheOneError(work: () => unknown): void {
  const error = thrown(work);
  const expected = decryptionFailed();
  expect(error).toBeInstanceOf(KeyringError);
  expect({ ...(error as KeyringError), message: (error as KeyringError).message }).toEqual({
    ...expected,
    message: expected.message,
  });
  expect(error).not.toHaveProperty('cause');
}
