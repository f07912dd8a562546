import { randomUUID } from 'node:crypto';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database } from '../db/port.ts';
import { wrappingKeyAad } from '../envelope/aad.ts';
import { KeyringError } from '../errors.ts';
import type { RootKeyProvider } from '../providers/provider.ts';
import {
  equalBytes,
  generateKey,
  insecureExportKey,
  keyFingerprint,
  keyFromBytes,
  wipe,
  type SecretKey,
} from '../secret-bytes.ts';
import { insertFirstWrappingKey, selectRootKeys, selectWrappingKeys, type WrappingKeyRow } from './store.ts';

export interface WrappingKey {
  readonly id: string;
  readonly version: number;
  readonly key: SecretKey;
}

/** The wrapping keys of an installation, unwrapped once and held: the root key's provider is not asked again. */
export interface WrappingKeys {
  readonly primary: WrappingKey;
  /** @throws KeyringError `wrong_root_key` for a wrapping key that the root key at hand does not open. */
  get(id: string): WrappingKey;
}

/**
 * Unwraps every wrapping key with the root key at hand. In an empty installation it makes the first one: committed, read
 * back and unwrapped before this resolves.
 * @throws KeyringError `wrong_root_key` when the installation is under another root key.
 */
export async function openWrappingKeys(
  database: Database,
  provider: RootKeyProvider,
  audit: AuditTrail,
): Promise<WrappingKeys> {
  const { fingerprint } = await provider.status();
  let rows = await selectWrappingKeys(database, fingerprint);
  if (rows.length === 0) {
    await createFirst(database, provider, audit);
    rows = await selectWrappingKeys(database, fingerprint);
  }
  const keys = new Map<string, WrappingKey>();
  for (const row of rows) {
    if (row.wrapped !== null) keys.set(row.id, await unwrap(row, row.wrapped, provider));
  }
  const primary = rows.map((row) => (row.is_primary ? keys.get(row.id) : undefined)).find((key) => key !== undefined);
  if (primary === undefined) throw await wrongRootKey(database, provider.uri, fingerprint);
  return {
    primary,
    get(id) {
      const key = keys.get(id);
      if (key !== undefined) return key;
      throw new KeyringError('wrong_root_key', `The root key at hand does not open the wrapping key ${id}.`, {
        remedy: 'Restart with the root key that does; `mh-keys root-key status` names it.',
      });
    },
  };
}

async function createFirst(database: Database, provider: RootKeyProvider, audit: AuditTrail): Promise<void> {
  const id = randomUUID();
  const key = generateKey();
  const bytes = insecureExportKey(key);
  try {
    const { wrapped, fingerprint } = await provider.wrap(bytes, wrappingKeyAad({ version: 1, wrappingKeyId: id }));
    await transaction(database, async (tx) => {
      await insertFirstWrappingKey(tx, {
        id,
        fingerprint: keyFingerprint(key, id),
        wrapped,
        rootUri: provider.uri,
        rootFingerprint: fingerprint,
      });
      await audit.record(tx, {
        action: 'wrapping_key.created',
        subject: `wrapping_key:${id}`,
        details: { version: 1, rootKey: fingerprint },
      });
    });
  } catch (error) {
    // Another process made the first one at the same moment: its key is the one to use.
    if (sqlState(error) !== sqlStates.uniqueViolation) throw error;
  } finally {
    wipe(bytes);
  }
}

async function unwrap(row: WrappingKeyRow, wrapped: Buffer, provider: RootKeyProvider): Promise<WrappingKey> {
  const bytes = await provider.unwrap(wrapped, wrappingKeyAad({ version: row.version, wrappingKeyId: row.id }));
  const key = keyFromBytes(bytes);
  if (!equalBytes(keyFingerprint(key, row.id), row.fingerprint)) {
    throw new KeyringError('wrong_root_key', `Wrapping key version ${String(row.version)} is not the key it was.`, {
      remedy: 'The database was altered. Restore it, and see the runbook "a key does not open".',
    });
  }
  return { id: row.id, version: row.version, key };
}

async function wrongRootKey(database: Database, uri: string, fingerprint: string): Promise<KeyringError> {
  const known = await selectRootKeys(database);
  const wanted = known.map((root) => `${root.fingerprint} (${root.uri})`).join(', ');
  return new KeyringError('wrong_root_key', `The root key ${uri} (${fingerprint}) is not the one of this database.`, {
    remedy: `Set MESHHOOK_ROOT_KEY to the root key with the fingerprint ${wanted}.`,
    details: { given: fingerprint, wanted: known.map((root) => root.fingerprint) },
  });
}
