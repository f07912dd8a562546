import { createPrivateKey, createPublicKey, generateKeyPairSync, randomUUID, sign, type KeyObject } from 'node:crypto';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { signingKeyAad } from '../envelope/aad.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import { equalBytes, wipe } from '../secret-bytes.ts';
import {
  insertFirstSigningKey,
  selectLatestSigningKey,
  selectNextSigningVersion,
  selectSigningKeys,
  type SigningKeyRow,
  type SigningPurpose,
} from './signing-store.ts';
import type { WrappingKey, WrappingKeys } from './wrapping-keys.ts';

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
 * The installation's signing key of a purpose, made at its first use: committed, read back and unwrapped before it signs anything.
 * @throws KeyringError `decryption_failed` when it does not unwrap to the public key beside it.
 */
export async function openSigner(
  database: Database,
  wrappingKeys: WrappingKeys,
  audit: AuditTrail,
  purpose: SigningPurpose,
): Promise<Signer> {
  const row =
    (await selectLatestSigningKey(database, purpose)) ?? (await createFirst(database, wrappingKeys, audit, purpose));
  await wrappingKeys.ensure([row.wrapping_key_id]);
  const key = unwrapSigningKey(row, wrappingKeys);
  return {
    keyId: row.id,
    publicKey: row.public_key,
    sign: (payload) => sign(null, payload, key),
  };
}

/**
 * The public halves of the keys of a purpose that unwrap to them. A row that somebody put there who does not have the wrapping key
 * is not among them.
 */
export async function provenPublicKeys(
  database: Queryable,
  wrappingKeys: WrappingKeys,
  purpose: SigningPurpose,
): Promise<Buffer[]> {
  const rows = await selectSigningKeys(database, purpose);
  await wrappingKeys.ensure(rows.map((row) => row.wrapping_key_id));
  return rows.flatMap((row) => {
    try {
      unwrapSigningKey(row, wrappingKeys);
      return [row.public_key];
    } catch (error) {
      if (error instanceof KeyringError) return [];
      throw error;
    }
  });
}

/** The public key object of 32 raw bytes. */
export function ed25519PublicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, raw]), format: 'der', type: 'spki' });
}

async function createFirst(
  database: Database,
  wrappingKeys: WrappingKeys,
  audit: AuditTrail,
  purpose: SigningPurpose,
): Promise<SigningKeyRow> {
  const id = randomUUID();
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const wrapping = await wrappingKeys.current();
  const version = await selectNextSigningVersion(database);
  const der = privateKey.export({ format: 'der', type: 'pkcs8' });
  try {
    const wrapped = wrapSeed(der.subarray(PRIVATE_PREFIX.length), { id, version }, wrapping);
    const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length);
    await transaction(database, async (tx) => {
      const isFirst = await insertFirstSigningKey(tx, {
        ...{ id, version, purpose, publicKey: raw },
        ...{ wrappedKey: wrapped, wrappingKeyId: wrapping.id },
      });
      // Another process made it between our two looks.
      if (!isFirst) return;
      const details = { version, purpose };
      await audit.record(tx, { action: 'signing_key.created', subject: `signing_key:${id}`, details });
    });
  } catch (error) {
    if (sqlState(error) === sqlStates.staleWrapping) {
      // The wrapping key was rotated since this process last looked.
      wrappingKeys.outdated();
      return await createFirst(database, wrappingKeys, audit, purpose);
    }
    // Another process took the version at the same moment, for the same purpose or for another.
    if (sqlState(error) !== sqlStates.uniqueViolation) throw error;
  } finally {
    wipe(der);
  }
  return (await selectLatestSigningKey(database, purpose)) ?? createFirst(database, wrappingKeys, audit, purpose);
}

/**
 * The private half of a signing key, by the wrapping key that its row names.
 * @throws KeyringError `decryption_failed` when it does not unwrap to the public key beside it.
 */
export function unwrapSigningKey(row: SigningKeyRow, wrappingKeys: Pick<WrappingKeys, 'get'>): KeyObject {
  const wrapping = wrappingKeys.get(row.wrapping_key_id);
  const seed = unwrapSeed(row, wrapping);
  try {
    return privateKeyOf(seed, row.public_key);
  } finally {
    wipe(seed);
  }
}

/** The 32 bytes that a signing key is made of; the caller wipes them. @throws KeyringError `decryption_failed`. */
export function unwrapSeed(row: SigningKeyRow, wrapping: WrappingKey): Buffer {
  const aad = signingKeyAad({ version: row.version, signingKeyId: row.id, wrappingKeyId: wrapping.id });
  return open(wrapping.key, wrapping.id, row.wrapped_key, aad);
}

export function wrapSeed(
  seed: Uint8Array,
  { id, version }: Pick<SigningKeyRow, 'id' | 'version'>,
  to: WrappingKey,
): Buffer {
  return seal(to.key, to.id, seed, signingKeyAad({ version, signingKeyId: id, wrappingKeyId: to.id }));
}

/** @throws KeyringError `decryption_failed` when it is not the private half of `publicKey`. */
export function privateKeyOf(seed: Uint8Array, publicKey: Uint8Array): KeyObject {
  const der = Buffer.concat([PRIVATE_PREFIX, seed]);
  try {
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length);
    if (!equalBytes(raw, publicKey)) throw decryptionFailed();
    return key;
  } finally {
    wipe(der);
  }
}
