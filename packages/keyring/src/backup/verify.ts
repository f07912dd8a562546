import type { Actor, Backup, BackupProof } from '../api.ts';
import { auditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { secretAad } from '../envelope/aad.ts';
import { open } from '../envelope/seal.ts';
import { KeyringError } from '../errors.ts';
import { selectEncryptedColumns, type EncryptedColumn } from '../keyring/columns.ts';
import { unwrapSigningKey } from '../keyring/signing-keys.ts';
import { selectSigningKeys } from '../keyring/signing-store.ts';
import { unwrapDataKey } from '../keyring/unwrap-data-key.ts';
import type { WrappingKey } from '../keyring/wrapping-keys.ts';
import { wipe, type SecretKey } from '../secret-bytes.ts';
import { isMissing, matchWrappingKeys } from './match.ts';
import { withDatabase } from './session.ts';
import { insertBackup, markVerified, selectCensus, selectOneValueEach, selectWrappedDataKeys } from './store.ts';

const BATCH = 500;
const EXAMPLES = 100;

export interface VerifyBackupOptions {
  /** A PostgreSQL URL, or a `Database`, which stays open. No root key is asked for. */
  readonly database: string | Database;
  readonly backup: Backup;
  /** Of the encrypted file, where it was read from one. */
  readonly fileSha256?: Buffer;
  readonly actor: string | Actor;
  readonly signal?: AbortSignal;
  /** Data keys that were unwrapped so far. */
  readonly onProgress?: (dataKeys: number) => void;
}

interface Proof {
  readonly database: Database;
  readonly wrapping: ReadonlyMap<string, WrappingKey>;
  readonly columns: readonly EncryptedColumn[];
  readonly fail: (what: string) => void;
  dataKeys: number;
  signingKeys: number;
  values: number;
}

/**
 * Proves that a backup opens this database, with nothing but the backup: its wrapping keys are the database's, each unwraps
 * every data key and signing key under it, and each data key opens a value. Reads only; then notes that it did, if
 * nothing failed, and writes to the trail in any case.
 * @throws KeyringError `backup_mismatch` for a backup of something else; `interrupted`; `database_*`.
 */
export async function verifyBackup(options: VerifyBackupOptions): Promise<BackupProof> {
  const { backup } = options;
  return withDatabase(options.database, async (database) => {
    const matched = await matchWrappingKeys(database, backup);
    const failures: string[] = [];
    let failed = 0;
    const proof: Proof = {
      database,
      wrapping: new Map(
        matched.flatMap(({ id, version, key }) => (key === undefined ? [] : [[id, { id, version, key }]])),
      ),
      columns: await selectEncryptedColumns(database),
      fail(what) {
        failed += 1;
        if (failures.length < EXAMPLES) failures.push(what);
      },
      ...{ dataKeys: 0, signingKeys: 0, values: 0 },
    };
    await proveSigningKeys(proof);
    await proveDataKeys(proof, options);
    await record(database, options, failed === 0);
    const { dataKeys, signingKeys, values } = proof;
    return {
      backupId: backup.id,
      wrappingKeys: matched.map(({ key, ...one }) => ({ ...one, inBackup: key !== undefined })),
      ...{ dataKeys, signingKeys, values, failures, failed },
      complete: failed === 0 && !matched.some(isMissing),
      then: backup.database,
      now: await selectCensus(database),
    };
  });
}

async function proveDataKeys(proof: Proof, { signal, onProgress }: VerifyBackupOptions): Promise<void> {
  for (let after: string | undefined; ;) {
    signal?.throwIfAborted();
    const rows = await selectWrappedDataKeys(proof.database, after, BATCH);
    const keys = new Map<string, { id: string; projectId: string; key: SecretKey }>();
    for (const row of rows) {
      const wrapping = proof.wrapping.get(row.wrapping_key_id);
      if (wrapping === undefined) continue;
      proof.dataKeys += 1;
      attempt(proof, `key:${row.id}`, () => {
        const key = unwrapDataKey(row, row.wrapped_key, wrapping);
        keys.set(row.id, { id: row.id, projectId: row.project_id, key });
      });
    }
    for (const column of proof.columns) await proveValues(proof, column, keys);
    onProgress?.(proof.dataKeys);
    after = rows.at(-1)?.id;
    if (rows.length < BATCH) return;
  }
}

async function proveValues(
  proof: Proof,
  column: EncryptedColumn,
  keys: ReadonlyMap<string, { id: string; projectId: string; key: SecretKey }>,
): Promise<void> {
  const wanted = [...keys.values()].map(({ id, projectId }) => ({ keyId: id, projectId }));
  if (wanted.length === 0) return;
  for (const row of await selectOneValueEach(proof.database, column, wanted)) {
    proof.values += 1;
    attempt(proof, `${column.label} ${row.row_id}`, () => {
      const place = { projectId: row.project_id, label: column.label, rowId: row.row_id, keyId: row.key_id };
      const found = keys.get(row.key_id);
      if (found !== undefined) wipe(open(found.key, found.id, row.envelope, secretAad(place)));
    });
  }
}

async function proveSigningKeys(proof: Proof): Promise<void> {
  for (const row of await selectSigningKeys(proof.database)) {
    const wrapping = proof.wrapping.get(row.wrapping_key_id);
    if (wrapping === undefined) continue;
    proof.signingKeys += 1;
    attempt(proof, `signing_key:${row.id}`, () => void unwrapSigningKey(row, { get: () => wrapping }));
  }
}

function attempt(proof: Proof, what: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    proof.fail(what);
  }
}

async function record(
  database: Database,
  { backup, fileSha256, actor }: VerifyBackupOptions,
  proved: boolean,
): Promise<void> {
  const audit = auditTrail(actor);
  const { id, createdAt, recipients } = backup;
  const wrappingKeyIds = backup.wrappingKeys.map((one) => one.id);
  const entry = {
    action: 'root_key.backup_verified',
    subject: `root_key_backup:${id}`,
    details: { wrappingKeys: wrappingKeyIds, fileSha256: fileSha256?.toString('hex') ?? null },
  };
  await transaction(database, async (tx) => {
    if (proved) {
      // One that was made after this dump is not known here yet.
      await insertBackup(tx, {
        ...{ id, createdAt, wrappingKeyIds, recipients, fileSha256 },
        rootFingerprint: backup.rootKey.fingerprint,
      });
      await markVerified(tx, id);
    }
    await audit.record(tx, { ...entry, outcome: proved ? 'succeeded' : 'failed' });
  });
}
