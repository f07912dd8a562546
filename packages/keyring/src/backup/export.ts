import { createHash, randomUUID } from 'node:crypto';
import type { Actor, Backup, BackupRecord } from '../api.ts';
import { auditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { readSchemaStatus } from '../db/migrate.ts';
import { KeyringError } from '../errors.ts';
import { selectSigningKeys } from '../keyring/signing-store.ts';
import { openWrappingKeys } from '../keyring/open-wrapping-keys.ts';
import { RootKeys, type RootSource } from '../keyring/root-keys.ts';
import type { WrappingKeys } from '../keyring/wrapping-keys.ts';
import { selectWrappingKeys, type WrappingKeyRow } from '../keyring/wrapping-store.ts';
import { readRootKey } from '../providers/exportable.ts';
import type { RootKeyProvider } from '../providers/provider.ts';
import { openRootKey, type OpenRootKeyOptions } from '../providers/registry.ts';
import { rootFingerprint, wipe, type SecretKey } from '../secret-bytes.ts';
import { insecureEncodeBackup } from './document.ts';
import { withDatabase } from './session.ts';
import { insertBackup, markWritten, selectBackups, selectCensus, selectInstallationId } from './store.ts';

export interface ExportBackupOptions {
  /** A PostgreSQL URL, or a `Database`, which stays open. */
  readonly database: string | Database;
  /** The root key that the wrapping keys are under; several while it changes. The backup names the first that works. */
  readonly rootKey: string | RootKeyProvider | readonly (string | RootKeyProvider)[];
  /** What a relative `file:` root key is relative to. Default: the working directory. */
  readonly cwd?: string;
  /** Where `env:` keys and the credentials of remote providers come from. */
  readonly env?: NonNullable<OpenRootKeyOptions['env']>;
  /** Who acts, for the audit log. */
  readonly actor: string | Actor;
  /** Whom `seal` encrypts to, as the trail will name them: public keys, or `passphrase`. */
  readonly recipients: readonly string[];
  /** Encrypts the document: **every key in it is there to be read**. Its buffer is overwritten afterwards. */
  readonly seal: (document: Uint8Array) => Promise<Uint8Array>;
  /** Brings the encrypted file to where it is kept; resolves once it is there. */
  readonly write: (file: Uint8Array) => Promise<void>;
}

/**
 * Hands the wrapping keys, and the root key where its provider gives it away, to `seal`, and what `seal` made of them to
 * `write`. The trail says so before anything leaves (`root_key.backup_sealed`), and again once it has arrived
 * (`root_key.backed_up`). A function by itself, on no object that a service holds.
 * @throws KeyringError `wrong_root_key` when a wrapping key is under none of these root keys: a backup without it would be none;
 *   `decryption_failed` for one that is not what it was; `root_key_*`, `database_*`; and what `seal` and `write` throw.
 */
export async function insecureExportBackup(options: ExportBackupOptions): Promise<BackupRecord> {
  return withDatabase(options.database, async (database) => {
    const { backup, document } = await makeDocument(database, options);
    let file: Uint8Array;
    try {
      file = await options.seal(document);
    } finally {
      wipe(document);
    }
    await sealed(database, options, backup, file);
    return (await selectBackups(database)).find(({ id }) => id === backup.id) ?? gone();
  });
}

async function makeDocument(
  database: Database,
  { rootKey: given, cwd = '.', env = {}, recipients, actor }: ExportBackupOptions,
): Promise<{ backup: Backup; document: Buffer }> {
  const roots = new RootKeys(rootSources(given, { cwd, env }));
  // An installation that has none yet gets its first one: backing up may be the first thing that is done.
  const held = await openWrappingKeys(database, roots, auditTrail(actor));
  const rows = (await selectWrappingKeys(database, [])).filter(({ state }) => state !== 'destroyed');
  const wrappingKeys = new Map<string, SecretKey>();
  for (const row of rows) wrappingKeys.set(row.id, await keyOf(row, held));
  const [{ provider, fingerprint } = roots.first] = roots.opened;
  const rootKey = await readRootKey(provider.uri, { cwd, env });
  if (rootKey !== undefined && rootFingerprint(rootKey) !== fingerprint) {
    throw new KeyringError('wrong_root_key', `The root key ${provider.uri} has just become another one.`, {
      remedy: 'Put the former key back: a new root key is a file of its own.',
    });
  }
  const backup: Backup = {
    id: randomUUID(),
    createdAt: new Date(),
    installationId: (await selectInstallationId(database)) ?? gone(),
    schemaVersion: (await readSchemaStatus(database)).current ?? '',
    recipients,
    rootKey: { uri: provider.uri, fingerprint, included: rootKey !== undefined },
    wrappingKeys: rows.map((row) => ({
      id: row.id,
      version: row.version,
      state: row.state,
      primary: row.isPrimary,
      fingerprint: row.fingerprint.toString('base64'),
    })),
    signingKeys: (await selectSigningKeys(database)).map((row) => ({
      id: row.id,
      version: row.version,
      publicKey: row.public_key.toString('base64'),
    })),
    database: await selectCensus(database),
  };
  return { backup, document: insecureEncodeBackup(backup, { wrappingKeys, rootKey }) };
}

async function keyOf({ id, version }: WrappingKeyRow, held: WrappingKeys): Promise<SecretKey> {
  try {
    await held.ensure([id]);
    return held.get(id).key;
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    const { code, message, details } = error;
    const what = `Wrapping key version ${String(version)} cannot be unwrapped, and a backup has to hold all`;
    throw new KeyringError(code, `${what}: ${message}`, {
      remedy: error.remedy ?? 'Run `mh-keys doctor`.',
      details,
    });
  }
}

function rootSources(given: ExportBackupOptions['rootKey'], options: OpenRootKeyOptions): RootSource[] {
  const all = typeof given === 'string' || 'uri' in given ? [given] : given;
  return all.map((one) =>
    typeof one === 'string'
      ? { name: one.slice(0, one.indexOf(':') + 1), open: () => openRootKey(one, options) }
      : { name: one.uri, open: () => Promise.resolve(one) },
  );
}

/** Says what leaves before it leaves, lets it go, and says that it has arrived. */
async function sealed(
  database: Database,
  { actor, recipients, write }: ExportBackupOptions,
  backup: Backup,
  file: Uint8Array,
): Promise<void> {
  const audit = auditTrail(actor);
  const fileSha256 = createHash('sha256').update(file).digest();
  const wrappingKeyIds = backup.wrappingKeys.map(({ id }) => id);
  const rootFingerprint = backup.rootKey.fingerprint;
  const entry = {
    subject: `root_key_backup:${backup.id}`,
    details: {
      recipients,
      wrappingKeys: wrappingKeyIds,
      rootKey: rootFingerprint,
      rootKeyIncluded: backup.rootKey.included,
      fileSha256: fileSha256.toString('hex'),
    },
  };
  await transaction(database, async (tx) => {
    const { id, createdAt } = backup;
    await insertBackup(tx, { id, createdAt, rootFingerprint, wrappingKeyIds, recipients, fileSha256 });
    await audit.record(tx, { action: 'root_key.backup_sealed', ...entry });
  });
  try {
    await write(file);
  } catch (error) {
    // The trail is better with it; what went wrong matters more than whether that could be written down, too.
    await audit.record(database, { action: 'root_key.backed_up', outcome: 'failed', ...entry }).catch(() => undefined);
    throw error;
  }
  try {
    await transaction(database, async (tx) => {
      if (await markWritten(tx, backup.id)) await audit.record(tx, { action: 'root_key.backed_up', ...entry });
    });
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    throw new KeyringError(error.code, `The backup was written, but this could not be recorded: ${error.message}`, {
      remedy: 'The file is whole. Run `mh-keys root-key backup verify FILE`, which records it.',
      details: error.details,
      cause: error,
    });
  }
}

function gone(): never {
  throw new KeyringError('internal', 'What was just recorded is not there.');
}
