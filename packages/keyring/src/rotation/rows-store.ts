import { byteaArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { StoredRow } from './rows.ts';

/** A row's id and how long its ciphertext is. */
export interface RowSize {
  readonly id: string;
  readonly bytes: number;
}

/** Which encrypted rows of a project's column. */
export interface Choice {
  readonly projectId: string;
  /** Not those under this version. */
  readonly exceptKeyId?: string;
  /** Only those that a transaction from this one on wrote, by any kind of change: as `selectOldestTransaction` gave it. */
  readonly writtenSince?: string;
  /** Say of each row whether such a transaction wrote it: where rows are read by blocks. */
  readonly recentSince?: string;
}

/**
 * Ids of a project's rows in a column, in id order after `after`: those not under `exceptKeyId`, or all encrypted ones.
 * A window of ids is read in one pass of the project's index and sort; the rows follow by primary key, batch by batch.
 */
export async function selectRowIds(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, exceptKeyId, writtenSince, after, limit }: Choice & { after?: string; limit: number },
): Promise<RowSize[]> {
  const { rows } = await database.query<RowSize>({
    text: `select t.${column.rowId}::text as id, octet_length(t.${column.ciphertext}) as bytes from ${column.table} t
           where t.${column.project} = $1 and t.${column.keyId} is not null
             and ($2::uuid is null or t.${column.keyId} <> $2)
             and ($3::text is null or t.${column.rowId} > $3::text::${column.rowIdType})
             and ($5::xid8 is null or age(t.xmin) <= age($5::xid8::xid))
           order by t.${column.rowId} limit $4`,
    values: [projectId, exceptKeyId ?? null, after ?? null, limit, writtenSince ?? null],
  });
  return rows;
}

/** The rows of these ids as they stand now; those gone since, or moved to `exceptKeyId`, are left out. */
export async function selectRows(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, ids, exceptKeyId }: { projectId: string; ids: readonly string[]; exceptKeyId?: string },
): Promise<StoredRow[]> {
  const { rows } = await database.query<FoundRow>({
    text: `select ${found(column)}
           from ${column.table} t
           where t.${column.rowId} = any ($1::text[]::${column.rowIdType}[]) and t.${column.project} = $2
             and t.${column.keyId} is not null and ($3::uuid is null or t.${column.keyId} <> $3)`,
    values: [ids, projectId, exceptKeyId ?? null],
  });
  return rows.map(storedRow);
}

/** The rows of heap blocks `from` to `to` (exclusive) as they stand now: a range of the table as it lies on disk, without an index. */
export async function selectRowsInBlocks(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, exceptKeyId, recentSince, from, to }: Choice & { from: number; to: number },
): Promise<StoredRow[]> {
  const { rows } = await database.query<FoundRow>({
    text: `select ${found(column)}${recentSince === undefined ? '' : ', age(t.xmin) <= age($5::xid8::xid) as recent'}
           from ${column.table} t
           where t.ctid >= $3::text::tid and t.ctid < $4::text::tid and t.${column.project} = $1
             and t.${column.keyId} is not null and ($2::uuid is null or t.${column.keyId} <> $2)`,
    values: [
      projectId,
      exceptKeyId ?? null,
      `(${String(from)},0)`,
      `(${String(to)},0)`,
      ...(recentSince === undefined ? [] : [recentSince]),
    ],
  });
  return rows.map(storedRow);
}

interface FoundRow {
  id: string;
  place: string;
  envelope: Buffer;
  key_id: string;
  recent?: boolean;
}

const found = (column: EncryptedColumn): string =>
  `t.${column.rowId}::text as id, t.ctid::text as place, t.${column.ciphertext} as envelope, t.${column.keyId} as key_id`;

function storedRow({ id, place, envelope, key_id, recent = false }: FoundRow): StoredRow {
  return { id, place, envelope, keyId: key_id, recent };
}

export interface Extent {
  /** Blocks of 8 KiB. */
  readonly blocks: number;
  /** Bytes of values that are stored beside the table, being too long for it. */
  readonly longBytes: number;
  /** The file that they are in. Another one later means that the rows were all written anew, as by `vacuum full`, and lie elsewhere. */
  readonly file: string;
}

/** How large a column's table is on disk; undefined for a partitioned one, which has no blocks of its own. */
export async function selectExtent(database: Queryable, column: EncryptedColumn): Promise<Extent | undefined> {
  const { rows } = await database.query<{ blocks: string; long_bytes: string; file: string }>({
    text: `select pg_relation_size(c.oid) / current_setting('block_size')::bigint as blocks,
             coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) as long_bytes, pg_relation_filenode(c.oid)::text as file
           from pg_catalog.pg_class c where c.oid = $1::text::regclass and c.relkind = 'r'`,
    values: [column.table],
  });
  const [found] = rows;
  return found && { blocks: Number(found.blocks), longBytes: Number(found.long_bytes), file: found.file };
}

/** The oldest transaction that is under way: whatever is not visible yet was written by it or a later one. */
export async function selectOldestTransaction(database: Queryable): Promise<string> {
  const { rows } = await database.query<{ xmin: string }>({
    text: 'select pg_snapshot_xmin(pg_current_snapshot())::text as xmin',
  });
  return rows[0]?.xmin ?? '0';
}

export interface Replacement {
  readonly id: string;
  /** Where it was read. */
  readonly place: string;
  readonly oldEnvelope: Buffer;
  readonly newEnvelope: Buffer;
}

/** A row as it was read, with what is to take its ciphertext's place. */
export function replacement({ id, place, envelope }: StoredRow, newEnvelope: Buffer): Replacement {
  return { id, place, oldEnvelope: envelope, newEnvelope };
}

/**
 * Moves rows of these projects to the primary versions of theirs, each only if it still holds the very bytes that were read: a
 * concurrent edit wins. A row that somebody holds is passed over, and so is a project whose pointer is being moved, so that
 * nobody waits for anybody; they come back in a later pass. Counts what it moved into the rotation in the same statement.
 * Gives the number of rows by project; those without any are left out.
 * @throws KeyringError with SQLSTATE MK001, having moved none, when a new envelope is under another version.
 */
export async function moveRows(
  database: Queryable,
  column: EncryptedColumn,
  move: { rotationId: string; projectIds: readonly string[]; rows: readonly Replacement[] },
): Promise<Map<string, number>> {
  if (move.rows.length === 0) return new Map();
  const ids = move.rows.map((row) => row.id);
  const { rows } = await database.query<{ project_id: string; moved: string }>({
    text: `with moved as (
             select m.project_id, m.moved
             from ${column.move}($1::uuid[], $2::tid[], $3::${column.rowIdType}[], $4::bytea[], $5::bytea[]) m
           ), counted as (
             update keyring.rotation_projects p
             set rows_moved = p.rows_moved + m.moved, rows_total = greatest(p.rows_total, p.rows_moved + m.moved)
             -- So that each is looked up by the primary key: see projectsOf.
             from (select $6::uuid as rotation_id, m.* from moved m limit $7) m
             where p.rotation_id = m.rotation_id and p.project_id = m.project_id
           )
           select m.project_id, m.moved from moved m`,
    values: [
      move.projectIds,
      // Written out here where nothing can need escaping, which the driver would look for in each.
      `{"${move.rows.map((row) => row.place).join('","')}"}`,
      column.rowIdType === 'uuid' ? `{${ids.join(',')}}` : ids,
      byteaArray(move.rows.map((row) => row.oldEnvelope)),
      byteaArray(move.rows.map((row) => row.newEnvelope)),
      move.rotationId,
      move.projectIds.length,
    ],
  });
  return new Map(rows.map((row) => [row.project_id, Number(row.moved)]));
}

/** `moveRows` for one project: how many it moved. */
export async function replaceCiphertexts(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, ...move }: { rotationId: string; projectId: string; rows: readonly Replacement[] },
): Promise<number> {
  const moved = await moveRows(database, column, { ...move, projectIds: [projectId] });
  return moved.get(projectId) ?? 0;
}

/** A row not under `exceptKeyId`, nor among `exceptIds`, that nobody holds at this moment: its id. */
export async function selectFreeRow(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, exceptKeyId, exceptIds }: { projectId: string; exceptKeyId: string; exceptIds: readonly string[] },
): Promise<string | undefined> {
  const { rows } = await database.query<{ id: string }>({
    text: `select t.${column.rowId}::text as id from ${column.table} t
           where t.${column.project} = $1 and t.${column.keyId} is not null and t.${column.keyId} <> $2
             and t.${column.rowId}::text <> all ($3::text[])
           limit 1 for no key update skip locked`,
    values: [projectId, exceptKeyId, exceptIds],
  });
  return rows[0]?.id;
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

/** Encrypted rows of a project that are not under `keyId`, by column label; those without any are left out. */
export async function countOthersByColumn(
  database: Queryable,
  projectId: string,
  keyId: string,
): Promise<Map<string, number>> {
  const others = new Map<string, number>();
  for (const one of await countReferences(database, projectId)) {
    if (one.keyId !== null && one.keyId !== keyId) others.set(one.label, (others.get(one.label) ?? 0) + one.count);
  }
  return others;
}

/** Over every column. */
export function totalOf(byColumn: ReadonlyMap<string, number>): number {
  return [...byColumn.values()].reduce((sum, rows) => sum + rows, 0);
}
