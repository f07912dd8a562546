import type { Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';

/** A registered encrypted column. Every name is quoted as an identifier and safe to put into a statement. */
export interface EncryptedColumn {
  readonly label: string;
  readonly table: string;
  readonly rowId: string;
  readonly rowIdType: string;
  readonly project: string;
  readonly ciphertext: string;
  readonly keyId: string;
  /** The function that moves its rows, with its schema. */
  readonly move: string;
  readonly acceptsPlaintext: boolean;
  /** Its table and the partitions of it. Another text: rows may have come that no statement wrote, by a partition that was attached. */
  readonly made: string;
}

export interface CatalogProblem {
  readonly code: string;
  readonly relation: string;
  readonly column: string | undefined;
  readonly detail: string;
}

/** The registry, as the catalog has its tables and columns now. */
export async function selectEncryptedColumns(database: Queryable): Promise<EncryptedColumn[]> {
  const { rows } = await database.query<{
    label: string;
    table: string;
    row_id: string;
    row_id_type: string;
    project: string;
    ciphertext: string;
    key_id: string;
    move: string;
    accepts_plaintext: boolean;
    made: string;
  }>({
    name: 'encrypted_columns_and_parts_select',
    text: `select c.label, format('%I.%I', n.nspname, r.relname) as table, format('%I', c.row_id_column) as row_id,
             format_type(a.atttypid, a.atttypmod) as row_id_type, format('%I', c.project_column) as project,
             format('%I', c.ciphertext_column) as ciphertext, format('%I', c.key_id_column) as key_id,
             format('keyring.%I', 'move_' || replace(c.label, '.', '__')) as move, c.accepts_plaintext,
             -- A partition that was away and came back has a new entry, from a later transaction.
             concat_ws(' ', c.table_id::oid, case when r.relkind = 'p' then (
               select string_agg(format('%s:%s', i.inhrelid, i.xmin), ' ' order by i.inhrelid)
               from pg_catalog.pg_partition_tree(c.table_id) p join pg_catalog.pg_inherits i on i.inhrelid = p.relid) end) as made
           from keyring.encrypted_columns c
           join pg_catalog.pg_class r on r.oid = c.table_id
           join pg_catalog.pg_namespace n on n.oid = r.relnamespace
           join pg_catalog.pg_attribute a on a.attrelid = c.table_id and a.attname = c.row_id_column
           order by c.label`,
  });
  return rows.map((row) => ({
    label: row.label,
    table: row.table,
    rowId: row.row_id,
    rowIdType: row.row_id_type,
    project: row.project,
    ciphertext: row.ciphertext,
    keyId: row.key_id,
    move: row.move,
    acceptsPlaintext: row.accepts_plaintext,
    made: row.made,
  }));
}

export async function selectCatalogProblems(database: Queryable): Promise<CatalogProblem[]> {
  const { rows } = await database.query<{
    code: string;
    relation: string;
    column_name: string | null;
    detail: string;
  }>({ text: 'select code, relation, column_name, detail from keyring.catalog_problems()' });
  return rows.map(({ column_name, ...row }) => ({ ...row, column: column_name ?? undefined }));
}

/**
 * The registry, once it is known to be the whole truth.
 * @throws KeyringError `unregistered_column` naming the column, as every step does that depends on "every column".
 */
export async function requireSoundCatalog(database: Queryable): Promise<EncryptedColumn[]> {
  const problems = await selectCatalogProblems(database);
  const [first] = problems;
  if (first !== undefined) {
    const where = first.column === undefined ? first.relation : `${first.relation}.${first.column}`;
    throw new KeyringError('unregistered_column', `${where}: ${first.detail}.`, {
      remedy: 'Register it with keyring.register_encrypted_column (docs/runbooks/unregistered-column.md).',
      details: { problems },
    });
  }
  return selectEncryptedColumns(database);
}
