import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { StoredRow } from './rows.ts';

/** A row's id and how long its ciphertext is. */
export interface RowSize {
  readonly id: string;
  readonly bytes: number;
}

/**
 * Ids of a project's rows in a column, in id order after `after`: those not under `exceptKeyId`, or all encrypted ones.
 * A window of ids is read in one pass of the project's index and sort; the rows follow by primary key, batch by batch.
 */
export async function selectRowIds(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, exceptKeyId, after, limit }: { projectId: string; exceptKeyId?: string; after?: string; limit: number },
): Promise<RowSize[]> {
  const { rows } = await database.query<RowSize>({
    text: `select t.${column.rowId}::text as id, octet_length(t.${column.ciphertext}) as bytes from ${column.table} t
           where t.${column.project} = $1 and t.${column.keyId} is not null
             and ($2::uuid is null or t.${column.keyId} <> $2)
             and ($3::text is null or t.${column.rowId} > $3::text::${column.rowIdType})
           order by t.${column.rowId} limit $4`,
    values: [projectId, exceptKeyId ?? null, after ?? null, limit],
  });
  return rows;
}

/** The rows of these ids as they stand now; those gone since, or moved to `exceptKeyId`, are left out. */
export async function selectRows(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, ids, exceptKeyId }: { projectId: string; ids: readonly string[]; exceptKeyId?: string },
): Promise<StoredRow[]> {
  const { rows } = await database.query<{ id: string; envelope: Buffer; key_id: string }>({
    text: `select t.${column.rowId}::text as id, t.${column.ciphertext} as envelope, t.${column.keyId} as key_id
           from ${column.table} t
           where t.${column.rowId} = any ($1::text[]::${column.rowIdType}[]) and t.${column.project} = $2
             and t.${column.keyId} is not null and ($3::uuid is null or t.${column.keyId} <> $3)`,
    values: [ids, projectId, exceptKeyId ?? null],
  });
  return rows.map((row) => ({ id: row.id, envelope: row.envelope, keyId: row.key_id }));
}

export interface Replacement {
  readonly id: string;
  readonly oldEnvelope: Buffer;
  readonly newEnvelope: Buffer;
}

/**
 * Moves rows to `keyId`, each only if it still holds the very bytes that were read: a concurrent edit wins. A row that
 * somebody holds is passed over, so that nobody waits for anybody; it comes back in a later pass. Counts what it moved
 * into the rotation in the same statement.
 */
export async function replaceCiphertexts(
  database: Queryable,
  column: EncryptedColumn,
  move: { rotationId: string; projectId: string; keyId: string; rows: readonly Replacement[] },
): Promise<number> {
  const { rows } = await database.query<{ moved: string }>({
    text: `with batch as (
             select b.row_id, b.old_envelope, b.new_envelope
             from unnest($1::text[]::${column.rowIdType}[], $2::bytea[], $3::bytea[])
               as b (row_id, old_envelope, new_envelope)
           ), held as (
             select t.${column.rowId} as row_id, b.old_envelope, b.new_envelope
             from ${column.table} t join batch b on t.${column.rowId} = b.row_id
             where t.${column.project} = $4 and t.${column.ciphertext} = b.old_envelope
             order by t.${column.rowId}
             for no key update of t skip locked
           ), moved as (
             update ${column.table} t set ${column.ciphertext} = h.new_envelope, ${column.keyId} = $5
             from held h
             where t.${column.rowId} = h.row_id and t.${column.project} = $4 and t.${column.ciphertext} = h.old_envelope
             returning 1
           ), counted as (
             update keyring.rotation_projects p set rows_moved = p.rows_moved + (select count(*) from moved)
             where p.rotation_id = $6 and p.project_id = $4 and exists (select from moved)
             returning 1
           )
           select count(*) as moved, (select count(*) from counted) as counted from moved`,
    values: [
      move.rows.map((row) => row.id),
      move.rows.map((row) => row.oldEnvelope),
      move.rows.map((row) => row.newEnvelope),
      move.projectId,
      move.keyId,
      move.rotationId,
    ],
  });
  return Number(rows[0]?.moved ?? 0);
}

/** Rows of a project, by version and column. */
export async function countReferences(
  database: Queryable,
  projectId: string,
): Promise<{ label: string; keyId: string | null; count: number }[]> {
  const { rows } = await database.query<{ label: string; encryption_key_id: string | null; row_count: string }>({
    text: 'select label, encryption_key_id, row_count from keyring.reference_counts($1)',
    values: [projectId],
  });
  return rows.map((row) => ({ label: row.label, keyId: row.encryption_key_id, count: Number(row.row_count) }));
}

/** Encrypted rows of a project that are not under `keyId`, over every registered column. */
export async function countOthers(database: Queryable, projectId: string, keyId: string): Promise<number> {
  const counts = await countReferences(database, projectId);
  return counts.reduce((sum, one) => (one.keyId === null || one.keyId === keyId ? sum : sum + one.count), 0);
}
