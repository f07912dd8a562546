import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { remoteRootAad } from '../../src/envelope/aad.ts';
import {
  encodeRemoteWrapped,
  parseRemoteWrapped,
  resourceFingerprint,
  type RemoteWrapped,
} from '../../src/envelope/remote-wrapped.ts';
import { decryptionFailed } from '../../src/errors.ts';
import { thrown } from '../support/thrown.ts';

const parts: RemoteWrapped = {
  scheme: 'hashivault',
  fingerprint: '000102030405060708090a0b0c0d0e0f',
  resource: '7',
  ciphertext: Buffer.from('a0a1a2a3', 'hex'),
};

/** The check, by the words of the specification (K2). */
function withCheck(body: string): Buffer {
  const bytes = Buffer.from(body, 'hex');
  const hash = createHash('sha256').update('meshhook-keyring/v1 remote-wrapped-check').update(bytes).digest();
  return Buffer.concat([bytes, hash.subarray(0, 8)]);
}

const header = '4d48524b0102000102030405060708090a0b0c0d0e0f';
const whole = `${header}0001370004a0a1a2a3`;

describe('what an HSM or KMS wrapped', () => {
  test('is laid out as the specification says', () => {
    expect(encodeRemoteWrapped(parts)).toEqual(withCheck(whole));
    expect(encodeRemoteWrapped(parts).toString('hex')).toBe(`${whole}3a2ea0b417ce4eca`);
    expect(parseRemoteWrapped(withCheck(whole))).toEqual(parts);
  });

  test.each(['pkcs11', 'hashivault', 'awskms', 'gcpkms', 'azurekms'] as const)('%s comes back as it was', (scheme) => {
    for (const resource of ['', 'x'.repeat(1_024), 'ä/ö?=#']) {
      const given = { ...parts, scheme, resource, ciphertext: Buffer.alloc(6_144, 1) };
      expect(parseRemoteWrapped(encodeRemoteWrapped(given))).toEqual(given);
    }
  });

  test.each([
    ['nothing', ''],
    ['an envelope', '01'.repeat(78)],
    ['another magic', whole.replace('4d48', '4d49')],
    ['a later format', whole.replace('4b01', '4b02')],
    ['a provider that nobody wrote', whole.replace('4b0102', '4b0106')],
    ['provider 0', whole.replace('4b0102', '4b0100')],
    ['no ciphertext', `${header}0001370000`],
    ['a ciphertext that says it is shorter', `${header}0001370003a0a1a2a3`],
    ['a ciphertext that says it is longer', `${header}0001370005a0a1a2a3`],
    ['a resource that says it is longer than all', `${header}ffff370004a0a1a2a3`],
    ['a resource that ends in the length of the ciphertext', `${header}0006370004a0a1a2a3`],
    ['a resource that is no UTF-8', `${header}0001ff0004a0a1a2a3`],
    ['a resource too long', `${header}0401${'78'.repeat(1_025)}0004a0a1a2a3`],
    ['a ciphertext too long', `${header}0001371801${'00'.repeat(6_145)}`],
  ])('%s is refused, with the one error, though its check is right', (_, body) => {
    expect(thrown(() => parseRemoteWrapped(withCheck(body)))).toStrictEqual(decryptionFailed());
  });

  test('a check that is not right is refused', () => {
    for (let at = 1; at <= 8; at++) {
      const bytes = withCheck(whole);
      bytes[bytes.length - at] = (bytes[bytes.length - at] ?? 0) ^ 1;
      expect(thrown(() => parseRemoteWrapped(bytes))).toStrictEqual(decryptionFailed());
    }
  });

  test.each([
    ['no ciphertext', { ciphertext: new Uint8Array(0) }],
    ['a ciphertext too long', { ciphertext: new Uint8Array(6_145) }],
    ['a resource too long', { resource: 'x'.repeat(1_025) }],
    ['a resource that is not well-formed', { resource: '\ud800' }],
    ['a fingerprint in upper case', { fingerprint: 'A'.repeat(32) }],
  ])('%s is never written', (_, wrong) => {
    expect(thrown(() => encodeRemoteWrapped({ ...parts, ...wrong }))).toBeInstanceOf(TypeError);
  });
});

describe('the fingerprint of a root key that stays where it is', () => {
  test('is a hash of its names, each behind its length', () => {
    const field = (text: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(text));
      return Buffer.concat([length, Buffer.from(text)]);
    };
    const fields = ['meshhook-keyring/v1 remote-root-fingerprint', 'awskms', 'arn:x', 'é'].map(field);
    const wanted = createHash('sha256').update(Buffer.concat(fields)).digest('hex').slice(0, 32);
    expect(resourceFingerprint('awskms', 'arn:x', 'é')).toBe(wanted);
    expect(resourceFingerprint('hashivault', 'mount', 'key')).toBe('1c081ada34e98afce698a5998ab2d78d');
  });

  test('tells apart what only runs together', () => {
    const all = [
      resourceFingerprint('awskms', 'ab', 'c'),
      resourceFingerprint('awskms', 'a', 'bc'),
      resourceFingerprint('awskms', 'abc'),
      resourceFingerprint('gcpkms', 'abc'),
    ];
    expect(new Set(all).size).toBe(all.length);
  });
});

test('its associated data names provider, root key and the place of what it wraps', () => {
  const context = Buffer.from('here');
  const given = { scheme: 'awskms', fingerprint: parts.fingerprint, context };
  const aad = Buffer.from(remoteRootAad(given));
  expect(aad.toString('hex')).toBe(
    [
      `00000013${Buffer.from('meshhook-keyring/v1').toString('hex')}`,
      `00000008${Buffer.from('root-key').toString('hex')}`,
      `00000006${Buffer.from('awskms').toString('hex')}`,
      `00000010${parts.fingerprint}`,
      `00000004${context.toString('hex')}`,
    ].join(''),
  );
});
