import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';

export async function selectAllKeys(
  database: Queryable,
): Promise<{ id: string; project_id: string; version: number; state: string }[]> {
  const { rows } = await database.query<{ id: string; project_id: string; version: number; state: string }>({
    text: 'select id, project_id, version, state from keyring.encryption_keys order by project_id, version',
  });
  return rows;
}

export async function selectColumnProjects(database: Queryable, column: EncryptedColumn): Promise<string[]> {
  const { rows } = await database.query<{ project: string }>({
    text: `select distinct t.${column.project} as project from ${column.table} t where t.${column.keyId} is not null`,
  });
  return rows.map((row) => row.project);
}

/** Rows of a column that are not encrypted; those without a value are none. */
export async function countPlaintext(database: Queryable, column: EncryptedColumn): Promise<number> {
  const { rows } = await database.query<{ rows: string }>({
    text: `select count(*) as rows from ${column.table} t where t.${column.keyId} is null and t.${column.ciphertext} is not null`,
  });
  return Number(rows[0]?.rows);
}

/** Rows whose version is not what it should be, counted: under a destroyed version, or stale and forgotten. */
export async function selectReferenceTrouble(
  database: Queryable,
): Promise<{ kind: 'destroyed' | 'stale'; label: string; rows: number }[]> {
  const { rows } = await database.query<{ kind: 'destroyed' | 'stale'; label: string; rows: string }>({
    text: `select t.kind, t.label, sum(t.row_count) as rows
           from (
             select c.label, c.row_count,
               case
                 when k.state = 'destroyed' then 'destroyed'
                 when c.encryption_key_id is distinct from r.primary_key_id and not exists (
                   select from keyring.rotation_projects p where p.project_id = c.project_id
                     and p.state not in ('completed', 'rolled_back', 'canceled', 'failed')) then 'stale'
               end as kind
             from keyring.reference_counts() c
             left join keyring.encryption_keys k on k.id = c.encryption_key_id
             left join keyring.keyrings r on r.project_id = c.project_id
             where c.encryption_key_id is not null
           ) t
           where t.kind is not null group by t.kind, t.label order by t.kind, t.label`,
  });
  return rows.map((row) => ({ ...row, rows: Number(row.rows) }));
}

/** What is wrong with the login this program itself uses. */
export async function selectServiceTrouble(
  database: Queryable,
): Promise<{ code: string; message: string; remedy: string }[]> {
  const { rows } = await database.query<{ superuser: boolean; owner: boolean; mover: boolean; sight: boolean }>({
    text: `select r.rolsuper as superuser, pg_catalog.pg_has_role(r.oid, 'keyring_owner', 'member') as owner,
             pg_catalog.pg_has_role(r.oid, 'keyring_mover', 'member') as mover,
             pg_catalog.pg_has_role(r.oid, 'keyring_user', 'member')
               and pg_catalog.pg_has_role(r.oid, 'keyring_reader', 'member') as sight
           from pg_catalog.pg_roles r where r.rolname = current_user`,
  });
  const [login] = rows;
  const remedy = 'Give the service a login of its own that is granted only keyring_service (docs/operating.md).';
  if (login?.superuser === true) {
    return [{ code: 'service_is_superuser', message: 'The service is connected as a superuser.', remedy }];
  }
  if (login?.owner === true) {
    return [{ code: 'service_is_owner', message: 'The service is connected as the owner of its own schema.', remedy }];
  }
  if (login?.mover === true) {
    return [
      { code: 'service_is_mover', message: 'The service is connected as a role that the fence lets by.', remedy },
    ];
  }
  if (login?.sight === false) {
    return [
      {
        code: 'service_cannot_read_for_others',
        message:
          'The service may not become keyring_user and keyring_reader: people and tokens of projects get errors.',
        remedy: 'As an admin of the database: grant keyring_user, keyring_reader to keyring_service.',
      },
    ];
  }
  return [];
}
