/** Project Wycheproof's vectors (C2SP/wycheproof), the ones with our parameters run through our own code. */
import { hkdfSync } from 'node:crypto';
import { expect, test } from 'vitest';
import { encodeEnvelope, parseEnvelope, uuidToBytes } from '../../src/envelope/format.ts';
import { insecureSealWithNonce, open } from '../../src/envelope/seal.ts';
import { decryptionFailed } from '../../src/errors.ts';
import { keyFromBytes } from '../../src/secret-bytes.ts';
import { secondDerive } from '../support/second-decryptor.ts';
import { thrown } from '../support/thrown.ts';
import { bytesOf, readVectors } from '../support/vectors.ts';

interface Suite<Group> {
  numberOfTests: number;
  testGroups: Group[];
}

interface GcmGroup {
  keySize: number;
  ivSize: number;
  tagSize: number;
  tests: {
    tcId: number;
    comment: string;
    key: string;
    iv: string;
    aad: string;
    msg: string;
    ct: string;
    tag: string;
    result: 'valid' | 'invalid';
  }[];
}

interface HkdfGroup {
  tests: {
    tcId: number;
    comment: string;
    ikm: string;
    salt: string;
    info: string;
    size: number;
    okm: string;
    result: 'valid' | 'invalid';
  }[];
}

const keyId = '22222222-2222-4222-8222-222222222222';
const gcmSuite = readVectors<Suite<GcmGroup>>('wycheproof_aes_gcm.json');
const gcm = gcmSuite.testGroups
  .filter((group) => group.keySize === 256 && group.ivSize === 96 && group.tagSize === 128)
  .flatMap((group) => group.tests);
const hkdfSuite = readVectors<Suite<HkdfGroup>>('wycheproof_hkdf_sha256.json');
const hkdf = hkdfSuite.testGroups.flatMap((group) => group.tests);
const ours = hkdf.filter((vector) => vector.ikm.length === 64 && vector.salt === '' && vector.result === 'valid');

test('of the 316 AES-GCM vectors, the 66 with our parameters run; of the 86 HKDF vectors, all', () => {
  expect(gcmSuite.numberOfTests).toBe(316);
  expect(gcm).toHaveLength(66);
  expect(gcm.filter((vector) => vector.result === 'invalid').length).toBeGreaterThan(0);
  expect(hkdfSuite.numberOfTests).toBe(86);
  expect(hkdf).toHaveLength(86);
  expect(ours.length).toBeGreaterThan(0);
});

test.each(gcm)('AES-GCM $tcId is $result $comment', (vector) => {
  const [key, nonce, aad] = [keyFromBytes(bytesOf(vector.key)), bytesOf(vector.iv), bytesOf(vector.aad)];
  const [plaintext, ciphertext, tag] = [bytesOf(vector.msg), bytesOf(vector.ct), bytesOf(vector.tag)];
  const envelope = encodeEnvelope({ keyId: uuidToBytes(keyId), nonce, ciphertext, tag });

  if (vector.result === 'invalid') {
    expect(thrown(() => open(key, keyId, envelope, aad))).toStrictEqual(decryptionFailed());
    return;
  }
  expect(open(key, keyId, envelope, aad).equals(plaintext)).toBe(true);
  const sealed = parseEnvelope(insecureSealWithNonce(key, keyId, plaintext, aad, nonce));
  expect(Buffer.compare(sealed.ciphertext, ciphertext)).toBe(0);
  expect(Buffer.compare(sealed.tag, tag)).toBe(0);
});

test.each(hkdf)('HKDF-SHA256 $tcId is $result $comment', (vector) => {
  const derive = () => hkdfSync('sha256', bytesOf(vector.ikm), bytesOf(vector.salt), bytesOf(vector.info), vector.size);
  if (vector.result === 'invalid') expect(derive).toThrow();
  else expect(Buffer.from(derive()).toString('hex')).toBe(vector.okm);
});

test.each(ours)('the second implementation derives HKDF-SHA256 $tcId too', async (vector) => {
  const derived = await secondDerive(bytesOf(vector.ikm), bytesOf(vector.info), vector.size);
  expect(Buffer.from(derived).toString('hex')).toBe(vector.okm);
});
