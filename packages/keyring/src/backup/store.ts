import type { BackupCensus, BackupRecord } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { EncryptionKeyRow, KeyReference } from '../keyring/store.ts';

export async function selectInstallationId(database: Queryable): Promise<string | undefined> {
  const { rows } = await database.query<{ id: string }>({ text: 'select id from keyring.installation' });
  return rows[0]?.id;
}

export async function selectCensus(database: Queryable): Promise<BackupCensus> {
  const { rows } = await database.query<{
    projects: string;
    data_keys: string;
    newest_data_key: Date | null;
    newest_entry: Date | null;
  }>({
    text: `select (select count(*) from keyring.keyrings) as projects, count(*) as data_keys,
             max(k.created_at) as newest_data_key,
             (select a.at from keyring.audit_log a order by a.id desc limit 1) as newest_entry
           from keyring.encryption_keys k where k.state <> 'destroyed'`,
  });
  const [row] = rows;
  return {
    projects: Number(row?.projects ?? 0),
    dataKeys: Number(row?.data_keys ?? 0),
    newestDataKeyAt: row?.newest_data_key ?? undefined,
    newestEntryAt: row?.newest_entry ?? undefined,
  };
}

// ── what is remembered of backups ───────────────────────────────────────────────────────────────────────────────────

export interface NewBackup {
  readonly id: string;
  readonly createdAt: Date;
  readonly rootFingerprint: string;
  readonly wrappingKeyIds: readonly string[];
  readonly recipients: readonly string[];
  readonly fileSha256: Buffer | undefined;
}

/** False when it is known already. */
export async function insertBackup(tx: Queryable, backup: NewBackup): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.root_key_backups
             (id, created_at, root_fingerprint, wrapping_key_ids, recipients, file_sha256)
           values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing`,
    values: [
      backup.id,
      backup.createdAt,
      backup.rootFingerprint,
      backup.wrappingKeyIds,
      backup.recipients,
      backup.fileSha256 ?? null,
    ],
  });
  return rowCount === 1;
}

export async function markWritten(tx: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.root_key_backups set written_at = pg_catalog.clock_timestamp()
           where id = $1 and written_at is null`,
    values: [id],
  });
  return rowCount === 1;
}

/** A file that was opened was written, whatever is known of that. */
export async function markVerified(tx: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.root_key_backups set verified_at = pg_catalog.clock_timestamp(),
             written_at = coalesce(written_at, pg_catalog.clock_timestamp())
           where id = $1`,
    values: [id],
  });
  return rowCount === 1;
}

/** The newest first; up to a thousand. */
export async function selectBackups(database: Queryable): Promise<BackupRecord[]> {
  const { rows } = await database.query<{
    id: string;
    created_at: Date;
    root_fingerprint: string;
    wrapping_key_ids: string[];
    recipients: string[];
    file_sha256: string | null;
    written_at: Date | null;
    verified_at: Date | null;
    complete: boolean;
  }>({
    text: `select b.id, b.created_at, b.root_fingerprint, b.wrapping_key_ids::text[] as wrapping_key_ids, b.recipients,
             encode(b.file_sha256, 'hex') as file_sha256, b.written_at, b.verified_at,
             not exists (select from keyring.wrapping_keys w
               where w.state <> 'destroyed' and w.id <> all (b.wrapping_key_ids)) as complete
           from keyring.root_key_backups b order by b.created_at desc, b.id limit 1000`,
  });
  return rows.map((row) => ({
    id: row.id,
    createdAt: row.created_at,
    recipients: row.recipients,
    rootFingerprint: row.root_fingerprint,
    wrappingKeyIds: row.wrapping_key_ids,
    fileSha256: row.file_sha256 ?? undefined,
    writtenAt: row.written_at ?? undefined,
    verifiedAt: row.verified_at ?? undefined,
    complete: row.complete,
  }));
}

// ── what a backup has to open ───────────────────────────────────────────────────────────────────────────────────────

/** How many keys are under each wrapping key, data keys that were not destroyed and signing keys. */
export async function selectKeysUnder(database: Queryable): Promise<Map<string, number>> {
  const { rows } = await database.query<{ wrapping_key_id: string; keys: string }>({
    text: `select u.wrapping_key_id, count(*) as keys from (
             select wrapping_key_id from keyring.encryption_keys where state <> 'destroyed'
             union all select wrapping_key_id from keyring.signing_keys
           ) u group by u.wrapping_key_id`,
  });
  return new Map(rows.map((row) => [row.wrapping_key_id, Number(row.keys)]));
}

export interface WrappedDataKeyRow extends EncryptionKeyRow {
  readonly wrapped_key: Buffer;
}

/** Data keys that were not destroyed, by id, after `after`. */
export async function selectWrappedDataKeys(
  database: Queryable,
  after: string | undefined,
  limit: number,
): Promise<WrappedDataKeyRow[]> {
  const { rows } = await database.query<WrappedDataKeyRow>({
    text: `select id, project_id, version, state, wrapped_key, wrapping_key_id, fingerprint
           from keyring.encryption_keys
           where wrapped_key is not null and ($1::uuid is null or id > $1) order by id limit $2`,
    values: [after ?? null, limit],
  });
  return rows;
}

export interface ValueRow {
  readonly row_id: string;
  readonly project_id: string;
  readonly key_id: string;
  readonly envelope: Buffer;
}

/** For each of these versions one row of a column that names it, if there is one. */
export async function selectOneValueEach(
  database: Queryable,
  column: EncryptedColumn,
  keys: readonly KeyReference[],
): Promise<ValueRow[]> {
  const { rows } = await database.query<ValueRow>({
    text: `select v.row_id, k.project_id, k.id as key_id, v.envelope
           from unnest($1::uuid[], $2::uuid[]) as k (project_id, id)
           cross join lateral (
             select t.${column.rowId}::text as row_id, t.${column.ciphertext} as envelope from ${column.table} t
             where t.${column.project} = k.project_id and t.${column.keyId} = k.id limit 1
           ) v`,
    values: [keys.map((key) => key.projectId), keys.map((key) => key.keyId)],
  });
  return rows;
}
