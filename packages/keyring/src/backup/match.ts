import type { Backup } from '../api.ts';
import type { Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { selectWrappingKeys, type WrappingKeyRow } from '../keyring/wrapping-store.ts';
import { equalBytes, keyFingerprint, type SecretKey } from '../secret-bytes.ts';
import { keysOf } from './document.ts';
import { selectInstallationId, selectKeysUnder } from './store.ts';

/** A wrapping key of the database, and the key of the backup that proved to be it. */
export interface Matched {
  readonly id: string;
  readonly version: number;
  readonly primary: boolean;
  /** Undefined: the backup does not hold it. */
  readonly key: SecretKey | undefined;
  readonly keysUnderIt: number;
}

/** Does the database need it? Then a backup without it opens only a part. */
export function isMissing({ key, primary, keysUnderIt }: Matched): boolean {
  return key === undefined && (primary || keysUnderIt > 0);
}

/**
 * Holds every wrapping key of the database against the backup. The check value that is stored beside each commits to it: a
 * key that meets it is the key.
 * @throws KeyringError `backup_mismatch` when the backup holds none of them, or another key under the id of one.
 */
export async function matchWrappingKeys(database: Database, backup: Backup): Promise<Matched[]> {
  const { wrappingKeys } = keysOf(backup);
  // Of no root key: what is wanted are the check values.
  const rows = (await selectWrappingKeys(database, [])).filter(({ state }) => state !== 'destroyed');
  const under = await selectKeysUnder(database);
  const matched = rows.map((row) => {
    const key = wrappingKeys.get(row.id);
    if (key !== undefined && !equalBytes(keyFingerprint(key, row.id), row.fingerprint)) throw otherKey(row);
    return {
      ...{ id: row.id, version: row.version, primary: row.isPrimary, key },
      keysUnderIt: under.get(row.id) ?? 0,
    };
  });
  if (matched.every(({ key }) => key === undefined))
    throw otherInstallation(backup, await selectInstallationId(database));
  return matched;
}

function otherKey(row: WrappingKeyRow): KeyringError {
  return new KeyringError(
    'backup_mismatch',
    `The backup holds another key as wrapping key version ${String(row.version)} than this database was encrypted under.`,
    {
      remedy: 'Take another backup; if all say so, the database was altered: take another dump.',
      details: { wrappingKey: row.id },
    },
  );
}

function otherInstallation(backup: Backup, here: string | undefined): KeyringError {
  const named = here === undefined ? 'which has no keys yet' : `which is the installation ${here}`;
  return new KeyringError(
    'backup_mismatch',
    `This is a backup of another installation, ${backup.installationId}: it holds no wrapping key of this database, ${named}.`,
    {
      remedy: 'Check DATABASE_URL, that the dump was restored, and which backup goes with it.',
      details: { backup: backup.installationId, database: here ?? null },
    },
  );
}
