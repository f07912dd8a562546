/** How a key of Azure wraps 32 bytes and binds them to associated data: an AES key does, an RSA key has to be helped. */
import type { CryptographyClient } from '@azure/keyvault-keys';
import { createHash } from 'node:crypto';
import { decryptionFailed } from '../errors.ts';
import { UnexpectedAnswer } from './network-failure.ts';

export interface AzureCipher {
  /** Stored with what it wrapped, so it never changes its meaning. */
  readonly name: string;
  wrap(client: CryptographyClient, key: Uint8Array, aad: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  unwrap(client: CryptographyClient, wrapped: Uint8Array, aad: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
}

const NONCE = 12;
const TAG = 16;

/** AES-256-GCM inside a Managed HSM, which picks the nonce: nonce, tag, ciphertext. */
const aesGcm: AzureCipher = {
  name: 'A256GCM',
  async wrap(client, plaintext, additionalAuthenticatedData, abortSignal) {
    const parameters = { algorithm: 'A256GCM', plaintext, additionalAuthenticatedData } as const;
    const { result, iv, authenticationTag: tag } = await client.encrypt(parameters, { abortSignal });
    if (iv?.length !== NONCE || tag?.length !== TAG) throw new UnexpectedAnswer('Encrypt gave no nonce or no tag.');
    return Buffer.concat([iv, tag, result]);
  },
  async unwrap(client, wrapped, additionalAuthenticatedData, abortSignal) {
    if (wrapped.length <= NONCE + TAG) throw decryptionFailed();
    const parameters = {
      algorithm: 'A256GCM',
      iv: wrapped.subarray(0, NONCE),
      authenticationTag: wrapped.subarray(NONCE, NONCE + TAG),
      ciphertext: wrapped.subarray(NONCE + TAG),
      additionalAuthenticatedData,
    } as const;
    return (await client.decrypt(parameters, { abortSignal })).result;
  },
};

/**
 * RSA-OAEP, then a signature (RSASSA-PSS) by the same key over associated data and ciphertext: ciphertext, signature, both as
 * long as the modulus. Encrypting takes a public key, which is no secret, so without the signature whoever can write to the
 * database could wrap a key of his own, and the next secrets would be under that. Signing takes the permission to sign. One
 * signature covers all there is, so no part of one wrapped key fits another, nor another place; there is nothing else to mix.
 * That one RSA key both decrypts OAEP and signs PSS is sound: their paddings are apart (Haber and Pinkas, 2001).
 */
const rsaSigned: AzureCipher = {
  name: 'RSA-OAEP-256+PS256',
  async wrap(client, key, aad, abortSignal) {
    const { result: ciphertext } = await client.wrapKey('RSA-OAEP-256', key, { abortSignal });
    const { result: signature } = await client.sign('PS256', digestOf(aad, ciphertext), { abortSignal });
    if (signature.length !== ciphertext.length) throw new UnexpectedAnswer('Sign gave no signature of this key.');
    return Buffer.concat([ciphertext, signature]);
  },
  async unwrap(client, wrapped, aad, abortSignal) {
    const half = wrapped.length / 2;
    if (!moduli.includes(half)) throw decryptionFailed();
    const ciphertext = wrapped.subarray(0, half);
    const { result: isOurs } = await client.verify('PS256', digestOf(aad, ciphertext), wrapped.subarray(half), {
      abortSignal,
    });
    if (!isOurs) throw decryptionFailed();
    return (await client.unwrapKey('RSA-OAEP-256', ciphertext, { abortSignal })).result;
  },
};

// Of 2,048, 3,072 and 4,096 bits: what Key Vault has.
const moduli: readonly number[] = [256, 384, 512];

const SIGNED_INFO = Buffer.from('meshhook-keyring/v1 azure-rsa-wrapped');

function digestOf(aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  const hash = createHash('sha256');
  for (const part of [SIGNED_INFO, aad, ciphertext]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    hash.update(length).update(part);
  }
  return hash.digest();
}

/** What a key of this type (`kty`) is used with; undefined when it is of no use. */
export function azureCipherFor(keyType: string | undefined): AzureCipher | undefined {
  if (keyType === 'RSA' || keyType === 'RSA-HSM') return rsaSigned;
  return keyType === 'oct-HSM' || keyType === 'oct' ? aesGcm : undefined;
}

export function azureCipherNamed(name: string): AzureCipher | undefined {
  return [aesGcm, rsaSigned].find((cipher) => cipher.name === name);
}
