import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';

/** Rows from before the keyring, one project's or all. */
export async function countUnadopted(
  database: Queryable,
  column: EncryptedColumn,
  projectId: string | undefined,
): Promise<number> {
  const { rows } = await database.query<{ count: string }>({
    text: `select count(*) as count from ${column.table} t
           where ${unadopted(column)} and ($1::uuid is null or t.${column.project} = $1)`,
    values: [projectId ?? null],
  });
  return Number(rows[0]?.count ?? 0);
}

function unadopted(column: EncryptedColumn): string {
  return `t.${column.keyId} is null and t.${column.ciphertext} is not null`;
}

export interface UnadoptedRow {
  readonly id: string;
  readonly project_id: string;
}

/** The next rows to adopt after a row id, by id, with their project; nothing is locked. */
export async function selectUnadopted(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, after, limit }: { projectId: string | undefined; after: string | undefined; limit: number },
): Promise<UnadoptedRow[]> {
  const { rows } = await database.query<UnadoptedRow>({
    text: `select t.${column.rowId}::text as id, t.${column.project} as project_id from ${column.table} t
           where ${unadopted(column)} and ($1::uuid is null or t.${column.project} = $1)
             and ($2::text is null or t.${column.rowId} > $2::text::${column.rowIdType})
           order by t.${column.rowId} limit $3`,
    values: [projectId ?? null, after ?? null, limit],
  });
  return rows;
}

export interface OldRow extends UnadoptedRow {
  readonly stored: Buffer;
}

/**
 * The old values of these rows, held until the transaction ends and those that others hold left out. Held, because
 * comparing with the bytes that were read would send a plaintext back as a parameter, which a server may log.
 */
export function lockUnadopted(tx: Queryable, column: EncryptedColumn, ids: readonly string[]): Promise<OldRow[]> {
  return selectOld(tx, column, ids, 'for no key update skip locked');
}

/** As `lockUnadopted`, holding nothing: for a dry run. */
export function readUnadopted(database: Queryable, column: EncryptedColumn, ids: readonly string[]): Promise<OldRow[]> {
  return selectOld(database, column, ids, '');
}

async function selectOld(
  database: Queryable,
  column: EncryptedColumn,
  ids: readonly string[],
  lock: '' | 'for no key update skip locked',
): Promise<OldRow[]> {
  const { rows } = await database.query<OldRow>({
    text: `select t.${column.rowId}::text as id, t.${column.project} as project_id, t.${column.ciphertext} as stored
           from ${column.table} t
           where t.${column.rowId} = any ($1::text[]::${column.rowIdType}[]) and ${unadopted(column)}
           order by t.${column.rowId} ${lock}`,
    values: [ids],
  });
  return rows;
}

export async function storeAdopted(
  tx: Queryable,
  column: EncryptedColumn,
  rows: readonly { id: string; envelope: Buffer; keyId: string }[],
): Promise<number> {
  const { rowCount } = await tx.query({
    text: `update ${column.table} t set ${column.ciphertext} = a.envelope, ${column.keyId} = a.key_id
           from unnest($1::text[]::${column.rowIdType}[], $2::bytea[], $3::uuid[]) as a (id, envelope, key_id)
           where t.${column.rowId} = a.id and t.${column.keyId} is null`,
    values: [rows.map((row) => row.id), rows.map((row) => row.envelope), rows.map((row) => row.keyId)],
  });
  return rowCount;
}

/**
 * False when it was finished before.
 * @throws KeyringError with SQLSTATE MK006 while plaintext rows are left.
 */
export async function finishAdoption(tx: Queryable, label: string): Promise<boolean> {
  const { rows } = await tx.query<{ closed: boolean }>({
    text: 'select keyring.finish_adoption($1) as closed',
    values: [label],
  });
  return rows[0]?.closed === true;
}
