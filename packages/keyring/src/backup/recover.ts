import type { Actor, Backup, Recovery } from '../api.ts';
import { auditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { wrappingKeyAad } from '../envelope/aad.ts';
import { KeyringError } from '../errors.ts';
import { selectWrappingKeys } from '../keyring/wrapping-store.ts';
import type { RootKeyProvider } from '../providers/provider.ts';
import { equalBytes, insecureExportKey, wipe, type SecretKey } from '../secret-bytes.ts';
import { isMissing, matchWrappingKeys, type Matched } from './match.ts';
import { ensureRootKey, insertWrapped, selectOtherRootKeys } from './recover-store.ts';
import { withDatabase } from './session.ts';
import { selectCensus } from './store.ts';

export interface RecoverOptions {
  /** A PostgreSQL URL, or a `Database`, which stays open. */
  readonly database: string | Database;
  readonly backup: Backup;
  /**
   * The root key that is to open the database from now on. It may be new, and made by this: asked for once it is known that
   * the backup is this database's. The old one is not asked for.
   */
  readonly rootKey: () => Promise<RootKeyProvider>;
  readonly actor: string | Actor;
}

type Present = Matched & { readonly key: SecretKey };

/**
 * Puts the wrapping keys of a backup under a root key that is at hand: committed, read back, unwrapped and compared before
 * this resolves. Nothing is taken away, and doing it again changes nothing; it can be killed anywhere.
 * @throws KeyringError `backup_mismatch` for a backup of something else; `backup_incomplete` when something in the database is
 *   under a wrapping key that is not in it; `illegal_state` for a root key that was given up; `wrong_root_key` when what was
 *   stored does not read back; `root_key_*`, `database_*`.
 */
export async function recoverFromBackup({
  database: given,
  backup,
  rootKey: open,
  actor,
}: RecoverOptions): Promise<Recovery> {
  return withDatabase(given, async (database) => {
    const matched = await matchWrappingKeys(database, backup);
    const missing = matched.filter(isMissing);
    if (missing.length > 0) throw incomplete(backup, missing);
    const present = matched.filter((one): one is Present => one.key !== undefined);
    const rootKey = await open();
    const { fingerprint } = await rootKey.status();
    const added = await store(database, { present, rootKey, fingerprint, backup, actor });
    await readBack(database, present, rootKey, fingerprint);
    return {
      backupId: backup.id,
      rootKey: { uri: rootKey.uri, fingerprint },
      wrappingKeys: present.map(({ id, version }) => ({ id, version, added: added.has(id) })),
      leftOut: matched.filter(({ key }) => key === undefined).map(({ id, version }) => ({ id, version })),
      otherRootKeys: (await selectOtherRootKeys(database, fingerprint)).map((one) => ({
        uri: one.uri,
        fingerprint: one.fingerprint,
      })),
      then: backup.database,
      now: await selectCensus(database),
    };
  });
}

interface Storing {
  readonly present: readonly Present[];
  readonly rootKey: RootKeyProvider;
  readonly fingerprint: string;
  readonly backup: Backup;
  readonly actor: string | Actor;
}

/** Gives the ids of the wrapping keys that were not under this root key before. */
async function store(
  database: Database,
  { present, rootKey, fingerprint, backup, actor }: Storing,
): Promise<Set<string>> {
  const audit = auditTrail(actor);
  // The provider is asked before the transaction, not in it: it may be slow.
  const wrapped: { id: string; bytes: Uint8Array }[] = [];
  for (const { id, version, key } of present) {
    const bytes = insecureExportKey(key);
    try {
      const result = await rootKey.wrap(bytes, wrappingKeyAad({ version, wrappingKeyId: id }));
      if (result.fingerprint !== fingerprint) throw changed(rootKey.uri);
      wrapped.push({ id, bytes: result.wrapped });
    } finally {
      wipe(bytes);
    }
  }
  return transaction(database, async (tx) => {
    const root = await ensureRootKey(tx, rootKey.uri, fingerprint);
    if (root?.state !== 'enabled') {
      throw new KeyringError(
        'illegal_state',
        `The root key ${rootKey.uri} was given up here: it is ${String(root?.state)}.`,
        {
          remedy: 'Recover to another one.',
        },
      );
    }
    const added = new Set<string>();
    for (const { id, bytes } of wrapped) {
      if (await insertWrapped(tx, { wrappingKeyId: id, rootKeyId: root.id, wrapped: bytes })) added.add(id);
    }
    if (added.size > 0) {
      await audit.record(tx, {
        action: 'root_key.recovered',
        subject: `root_key:${fingerprint}`,
        details: { backup: backup.id, wrappingKeys: [...added] },
      });
    }
    return added;
  });
}

/** What is stored, not what was sent, has to unwrap to the keys of the backup. */
async function readBack(
  database: Database,
  present: readonly Present[],
  rootKey: RootKeyProvider,
  fingerprint: string,
): Promise<void> {
  const rows = new Map((await selectWrappingKeys(database, [fingerprint])).map((row) => [row.id, row]));
  for (const { id, version, key } of present) {
    const stored = rows.get(id)?.copies[0]?.wrapped;
    const context = wrappingKeyAad({ version, wrappingKeyId: id });
    if (stored === undefined || !(await unwrapsTo(key, rootKey, stored, context))) {
      throw new KeyringError(
        'wrong_root_key',
        `Wrapping key version ${String(version)}, as it is stored under the root key ${rootKey.uri}, does not read back as itself.`,
        {
          remedy: 'What was stored under this root key before is not what it should be. Recover to a new one.',
          details: { wrappingKey: id, rootKey: fingerprint },
        },
      );
    }
  }
}

async function unwrapsTo(
  key: SecretKey,
  rootKey: RootKeyProvider,
  stored: Uint8Array,
  context: Uint8Array,
): Promise<boolean> {
  const wanted = insecureExportKey(key);
  try {
    const found = await rootKey.unwrap(stored, context);
    const same = equalBytes(found, wanted);
    wipe(found);
    return same;
  } catch (error) {
    if (error instanceof KeyringError && error.code === 'decryption_failed') return false;
    throw error;
  } finally {
    wipe(wanted);
  }
}

function incomplete(backup: Backup, missing: readonly Matched[]): KeyringError {
  const versions = missing.map(
    ({ version, keysUnderIt }) => `${String(version)} (${String(keysUnderIt)} keys under it)`,
  );
  return new KeyringError(
    'backup_incomplete',
    `The backup of ${backup.createdAt.toISOString()} does not hold wrapping key version ${versions.join(', ')}, made later.`,
    {
      remedy: 'Take a newer backup, or a dump from before that version was made.',
      details: { missing: missing.map(({ id, version, keysUnderIt }) => ({ id, version, keysUnderIt })) },
    },
  );
}

function changed(uri: string): KeyringError {
  return new KeyringError('wrong_root_key', `The root key ${uri} has just become another one.`, {
    remedy: 'Nothing was stored. Run it again.',
  });
}
