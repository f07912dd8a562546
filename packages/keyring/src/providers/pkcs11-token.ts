/** One key in one token: finding it, making it, and what is done with it. */
import { createHash, randomBytes } from 'node:crypto';
import { resourceFingerprint } from '../envelope/remote-wrapped.ts';
import { KeyringError } from '../errors.ts';
import { equalBytes } from '../secret-bytes.ts';
import type { Environment } from './client.ts';
import { classifyPkcs11Error, Pkcs11Refusal, type Library, type Mechanism, type Module } from './pkcs11-module.ts';
import { closeSession, openSession } from './pkcs11-session.ts';
import type { Pkcs11Place } from './pkcs11-uri.ts';

/** A key that can be used, until the module begins anew. */
export interface OpenedKey {
  readonly session: Buffer;
  readonly key: Buffer;
  readonly generation: number;
  readonly fingerprint: string;
}

// PKCS #11 2.40, `pkcs11t.h`.
const CKA = { class: 0x0, token: 0x1, private: 0x2, label: 0x3, id: 0x102, keyType: 0x100, valueLength: 0x161 };
const CKA_USE = { sensitive: 0x103, encrypt: 0x104, decrypt: 0x105, extractable: 0x162 };
/** CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_VERIFY, CKA_DERIVE: a root key does none of these. */
const OTHER_USES = [0x106, 0x107, 0x108, 0x10a, 0x10c];
const CKO_SECRET_KEY = 0x4;
const CKK_AES = 0x1f;
const CKM = { aesKeyGen: 0x1080, aesEcb: 0x1081, aesGcm: 0x1087 };
/** pkcs11js' mark of GCM's parameters. */
const AES_GCM_PARAMETERS = 3;

export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
const KEY_BYTES = 32;

/** What is enciphered to tell a key by: nothing else is a block of the cipher, counters beside random nonces least of all. */
const FINGERPRINT_BLOCK = createHash('sha256')
  .update('meshhook-keyring/v1 pkcs11-fingerprint')
  .digest()
  .subarray(0, 16);

/** Finds token and key, logs in, and looks at the key. Call it inside `module.use`. */
export async function openKey(
  library: Library,
  module: Module,
  place: Pkcs11Place,
  env: Environment,
): Promise<OpenedKey> {
  const session = await openSession(library, module, place, env, 'read');
  try {
    const found = findKeys(library, session, place);
    const [key] = found;
    if (key === undefined) throw new Pkcs11Refusal({ kind: 'missing' });
    if (found.length > 1) throw new Pkcs11Refusal({ kind: 'unsuitable', said: 'more than one key fits; name its id=' });
    requireSuitable(library, session, key);
    const fingerprint = await fingerprintOf(library, session, key);
    return { session, key, fingerprint, generation: module.generation };
  } catch (error) {
    closeSession(library, session);
    throw error;
  }
}

/**
 * Makes an AES-256 key that stays in the token: sensitive, not extractable, for encryption and decryption alone.
 * @throws KeyringError `root_key_exists` when one fits already.
 */
export async function generateTokenKey(
  ...[library, module, place, env]: [Library, Module, Pkcs11Place, Environment]
): Promise<string> {
  const session = await openSession(library, module, place, env, 'readwrite');
  try {
    if (findKeys(library, session, place).length > 0) {
      throw new KeyringError('root_key_exists', 'There is a key of that name in the token already.', {
        remedy: 'Use it, or name another: a key is never overwritten.',
      });
    }
    const key = library.C_GenerateKey(session, { mechanism: CKM.aesKeyGen }, [
      { type: CKA.class, value: CKO_SECRET_KEY },
      { type: CKA.keyType, value: CKK_AES },
      { type: CKA.valueLength, value: KEY_BYTES },
      { type: CKA.token, value: true },
      { type: CKA.private, value: true },
      { type: CKA_USE.sensitive, value: true },
      { type: CKA_USE.extractable, value: false },
      { type: CKA_USE.encrypt, value: true },
      { type: CKA_USE.decrypt, value: true },
      ...OTHER_USES.map((type) => ({ type, value: false })),
      { type: CKA.id, value: place.id ?? randomBytes(16) },
      ...(place.label === undefined ? [] : [{ type: CKA.label, value: place.label }]),
    ]);
    return await fingerprintOf(library, session, key);
  } finally {
    closeSession(library, session);
  }
}

/** AES-256-GCM in the token, with a nonce of ours (SP 800-38D, 8.2.2). @returns nonce, ciphertext and tag. */
export async function encryptInToken(
  library: Library,
  { session, key }: OpenedKey,
  bytes: Uint8Array,
  aad: Uint8Array,
) {
  const nonce = randomBytes(NONCE_BYTES);
  library.C_EncryptInit(session, gcm(nonce, aad), key);
  const sealed = await library.C_EncryptAsync(session, Buffer.from(bytes), Buffer.alloc(bytes.length + TAG_BYTES));
  if (sealed.length !== bytes.length + TAG_BYTES) throw new Pkcs11Refusal({ kind: 'misunderstood' });
  return Buffer.concat([nonce, sealed]);
}

/** The inverse of `encryptInToken`. */
export async function decryptInToken(
  library: Library,
  opened: OpenedKey,
  sealed: Uint8Array,
  aad: Uint8Array,
): Promise<Buffer> {
  try {
    return await decrypt(library, opened, sealed, aad);
  } catch (error) {
    // Some libraries say CKR_GENERAL_ERROR for a wrong tag, and for trouble of the device, too. If it can still decrypt,
    // it was the tag.
    if (classifyPkcs11Error(error).kind !== 'server') throw error;
    const probe = Buffer.alloc(KEY_BYTES);
    const opens = await decrypt(library, opened, await encryptInToken(library, opened, probe, aad), aad);
    throw equalBytes(opens, probe) ? new Pkcs11Refusal({ kind: 'undecryptable' }) : error;
  }
}

async function decrypt(
  library: Library,
  { session, key }: OpenedKey,
  sealed: Uint8Array,
  aad: Uint8Array,
): Promise<Buffer> {
  const bytes = Buffer.from(sealed);
  library.C_DecryptInit(session, gcm(bytes.subarray(0, NONCE_BYTES), aad), key);
  return library.C_DecryptAsync(session, bytes.subarray(NONCE_BYTES), Buffer.alloc(bytes.length));
}

function gcm(iv: Buffer, aad: Uint8Array): Mechanism {
  const parameter = {
    type: AES_GCM_PARAMETERS,
    iv,
    aad: Buffer.from(aad),
    ivBits: NONCE_BYTES * 8,
    tagBits: TAG_BYTES * 8,
  };
  return { mechanism: CKM.aesGcm, parameter };
}

/** The key's own name: of a block that it enciphers, so equal for equal keys, whatever token they are in. */
export async function fingerprintOf(library: Library, session: Buffer, key: Buffer): Promise<string> {
  library.C_EncryptInit(session, { mechanism: CKM.aesEcb }, key);
  const block = await library.C_EncryptAsync(session, FINGERPRINT_BLOCK, Buffer.alloc(2 * FINGERPRINT_BLOCK.length));
  return resourceFingerprint('pkcs11', block.toString('hex'));
}

function findKeys(library: Library, session: Buffer, { label, id }: Pkcs11Place): Buffer[] {
  library.C_FindObjectsInit(session, [
    { type: CKA.class, value: CKO_SECRET_KEY },
    ...(label === undefined ? [] : [{ type: CKA.label, value: label }]),
    ...(id === undefined ? [] : [{ type: CKA.id, value: id }]),
  ]);
  try {
    return library.C_FindObjects(session, 2);
  } finally {
    library.C_FindObjectsFinal(session);
  }
}

function requireSuitable(library: Library, session: Buffer, key: Buffer): void {
  const wanted = [
    CKA.keyType,
    CKA.valueLength,
    CKA_USE.sensitive,
    CKA_USE.extractable,
    CKA_USE.encrypt,
    CKA_USE.decrypt,
  ];
  const values = library
    .C_GetAttributeValue(
      session,
      key,
      wanted.map((type) => ({ type })),
    )
    .map(({ value }) => numberOf(value));
  const is = [CKK_AES, KEY_BYTES, 1, 0, 1, 1];
  const names = ['CKA_KEY_TYPE', 'CKA_VALUE_LEN', 'CKA_SENSITIVE', 'CKA_EXTRACTABLE', 'CKA_ENCRYPT', 'CKA_DECRYPT'];
  const wrong = names.filter((_, at) => values[at] !== is[at]);
  if (wrong.length > 0)
    throw new Pkcs11Refusal({ kind: 'unsuitable', name: wrong[0], said: `it is wrong in ${wrong.join(', ')}` });
}

/** Numbers and booleans come as the machine has them: the lowest byte first, on every machine that Node runs on but one. */
function numberOf(value: Buffer | string | number | boolean): number {
  if (!Buffer.isBuffer(value)) return Number(value);
  return value.length === 1 ? value.readUInt8() : value.readUInt32LE();
}
