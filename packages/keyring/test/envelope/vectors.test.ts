import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { dataKeyAad, secretAad, wrappingKeyAad } from '../../src/envelope/aad.ts';
import { encodeEnvelope, parseEnvelope, uuidFromBytes } from '../../src/envelope/format.ts';
import { insecureSealWithNonce, open } from '../../src/envelope/seal.ts';
import { KeyringError, decryptionFailed } from '../../src/errors.ts';
import { keyFingerprint, keyFromBytes, rootFingerprint } from '../../src/secret-bytes.ts';
import { secondOpen, unhex } from '../support/second-decryptor.ts';
import { thrown } from '../support/thrown.ts';
import { bytesOf, readVectors } from '../support/vectors.ts';
import { makeVectors, type Place, type VectorFile } from '../vectors/make-envelope-vectors.ts';

const { vectors, fingerprints } = readVectors<VectorFile>('envelope.json');
const opening = vectors.filter((vector) => vector.open === 'ok');
const failing = vectors.filter((vector) => vector.open !== 'ok');

test('there are 98 frozen vectors, 89 of them failures, and 4 fingerprints', () => {
  expect(new Set(vectors.map((vector) => vector.name)).size).toBe(98);
  expect(failing).toHaveLength(89);
  expect(vectors.filter((vector) => vector.parse !== 'ok')).toHaveLength(21);
  expect(fingerprints).toHaveLength(4);
});

test('the frozen vectors are what their script makes', async () => {
  expect(await makeVectors()).toEqual(readVectors('envelope.json'));
});

test.each(opening)('opens: $name', (vector) => {
  const envelope = bytesOf(vector.envelope);
  const plaintext = open(keyFromBytes(bytesOf(vector.key)), vector.keyId, envelope, aadOf(vector.place));
  expect(plaintext.length).toBe(vector.plaintext?.length);
  expect(createHash('sha256').update(plaintext).digest('hex')).toBe(vector.plaintext?.sha256);
});

test.each(opening)('seals to the same bytes: $name', (vector) => {
  const [key, envelope, aad] = [keyFromBytes(bytesOf(vector.key)), bytesOf(vector.envelope), aadOf(vector.place)];
  const { nonce } = parseEnvelope(envelope);
  const again = insecureSealWithNonce(key, vector.keyId, open(key, vector.keyId, envelope, aad), aad, nonce);
  expect(again.equals(envelope)).toBe(true);
});

test.each(opening)('has this associated data: $name', (vector) => {
  expect(Buffer.from(aadOf(vector.place)).toString('hex')).toBe(vector.aad);
});

test.each(failing)('does not open: $name', (vector) => {
  const key = keyFromBytes(bytesOf(vector.key));
  const error = thrown(() => open(key, vector.keyId, bytesOf(vector.envelope), aadOf(vector.place)));
  expect(error).toStrictEqual(decryptionFailed());
  expect(error).not.toHaveProperty('cause');
});

test.each(vectors)('parses as said: $name', (vector) => {
  const envelope = bytesOf(vector.envelope);
  if (vector.parse === 'ok') {
    expect(encodeEnvelope(parseEnvelope(envelope)).equals(envelope)).toBe(true);
  } else {
    const error = thrown(() => parseEnvelope(envelope));
    expect(error).toBeInstanceOf(KeyringError);
    expect(error).toHaveProperty('code', vector.parse);
  }
});

test.each(vectors)('the second implementation agrees: $name', async (vector) => {
  const aad = aadOf(vector.place);
  const plaintext = await secondOpen(unhex(vector.key), unhex(vector.keyId), bytesOf(vector.envelope), aad);
  expect(plaintext !== undefined).toBe(vector.open === 'ok');
});

test.each(fingerprints)('key $keyId has its fingerprints', (vector) => {
  const key = keyFromBytes(bytesOf(vector.key));
  expect(keyFingerprint(key, vector.keyId).toString('hex')).toBe(vector.keyFingerprint);
  expect(rootFingerprint(key)).toBe(vector.rootFingerprint);
});

test('a wrapped wrapping key names the root key by its fingerprint', () => {
  const vector = opening.find(({ place }) => place.purpose === 'wrapping-key');
  expect(vector).toBeDefined();
  const { keyId } = parseEnvelope(bytesOf(vector?.envelope ?? ''));
  expect(Buffer.from(keyId).toString('hex')).toBe(rootFingerprint(keyFromBytes(bytesOf(vector?.key ?? ''))));
  expect(uuidFromBytes(keyId)).toBe(vector?.keyId);
});

function aadOf(place: Place): Uint8Array {
  switch (place.purpose) {
    case 'secret':
      return secretAad(place);
    case 'data-key':
      return dataKeyAad(place);
    case 'wrapping-key':
      return wrappingKeyAad(place);
  }
}
