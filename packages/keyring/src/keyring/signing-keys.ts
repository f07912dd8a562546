import { createPrivateKey, createPublicKey, generateKeyPairSync, randomUUID, sign, type KeyObject } from 'node:crypto';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database } from '../db/port.ts';
import { signingKeyAad } from '../envelope/aad.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed } from '../errors.ts';
import { equalBytes, wipe } from '../secret-bytes.ts';
import { insertSigningKey, selectLatestSigningKey, type SigningKeyRow } from './signing-store.ts';
import type { WrappingKeys } from './wrapping-keys.ts';

// RFC 8410: what stands before the 32 bytes of an Ed25519 private key (PKCS #8) and public key (SPKI) in DER.
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const PUBLIC_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Signs with one key; what it signed is verified with `publicKey` for ever. */
export interface Signer {
  readonly keyId: string;
  /** 32 bytes. */
  readonly publicKey: Buffer;
  /** An Ed25519 signature (RFC 8032), 64 bytes. */
  sign(payload: Uint8Array): Buffer;
}

/**
 * The installation's signing key, made at its first use: committed, read back and unwrapped before it signs anything.
 * @throws KeyringError `decryption_failed` when it does not unwrap to the public key beside it.
 */
export async function openSigner(database: Database, wrappingKeys: WrappingKeys, audit: AuditTrail): Promise<Signer> {
  const row = (await selectLatestSigningKey(database)) ?? (await createFirst(database, wrappingKeys, audit));
  const key = unwrap(row, wrappingKeys);
  return {
    keyId: row.id,
    publicKey: row.public_key,
    sign: (payload) => sign(null, payload, key),
  };
}

/** The public key object of 32 raw bytes. */
export function ed25519PublicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, raw]), format: 'der', type: 'spki' });
}

async function createFirst(database: Database, wrappingKeys: WrappingKeys, audit: AuditTrail): Promise<SigningKeyRow> {
  const id = randomUUID();
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const wrapping = wrappingKeys.primary;
  const der = privateKey.export({ format: 'der', type: 'pkcs8' });
  try {
    const aad = signingKeyAad({ version: 1, signingKeyId: id, wrappingKeyId: wrapping.id });
    const wrapped = seal(wrapping.key, wrapping.id, der.subarray(PRIVATE_PREFIX.length), aad);
    const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length);
    await transaction(database, async (tx) => {
      await insertSigningKey(tx, { id, version: 1, publicKey: raw, wrappedKey: wrapped, wrappingKeyId: wrapping.id });
      await audit.record(tx, { action: 'signing_key.created', subject: `signing_key:${id}`, details: { version: 1 } });
    });
  } catch (error) {
    // Another process made the first one at the same moment: its key is the one to use.
    if (sqlState(error) !== sqlStates.uniqueViolation) throw error;
  } finally {
    wipe(der);
  }
  const row = await selectLatestSigningKey(database);
  if (row === undefined) throw decryptionFailed();
  return row;
}

function unwrap(row: SigningKeyRow, wrappingKeys: WrappingKeys): KeyObject {
  const wrapping = wrappingKeys.get(row.wrapping_key_id);
  const aad = signingKeyAad({ version: row.version, signingKeyId: row.id, wrappingKeyId: wrapping.id });
  const seed = open(wrapping.key, wrapping.id, row.wrapped_key, aad);
  const der = Buffer.concat([PRIVATE_PREFIX, seed]);
  try {
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length);
    if (!equalBytes(raw, row.public_key)) throw decryptionFailed();
    return key;
  } finally {
    wipe(seed);
    wipe(der);
  }
}
