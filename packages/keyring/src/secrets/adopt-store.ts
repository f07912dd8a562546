import type { Queryable } from '../db/port.ts';

/** Rows from before the keyring, one project's or all, after a row id. */
export async function countUnadopted(database: Queryable, projectId: string | undefined): Promise<number> {
  const { rows } = await database.query<{ count: string }>({
    text: `select count(*) as count from public.secrets
           where encryption_key_id is null and ($1::uuid is null or project_id = $1)`,
    values: [projectId ?? null],
  });
  return Number(rows[0]?.count ?? 0);
}

/** The next rows to adopt, by id, with their project; nothing is locked. */
export async function selectUnadopted(
  database: Queryable,
  { projectId, after, limit }: { projectId: string | undefined; after: string | undefined; limit: number },
): Promise<{ id: string; project_id: string }[]> {
  const { rows } = await database.query<{ id: string; project_id: string }>({
    text: `select id, project_id from public.secrets
           where encryption_key_id is null and ($1::uuid is null or project_id = $1) and ($2::uuid is null or id > $2)
           order by id limit $3`,
    values: [projectId ?? null, after ?? null, limit],
  });
  return rows;
}

/**
 * The old values of these rows, the rows held until the transaction ends and those that others hold left out. Held, because
 * comparing with the bytes that were read would send a plaintext back as a parameter, which a server may log.
 */
export async function lockUnadopted(
  tx: Queryable,
  ids: readonly string[],
): Promise<{ id: string; project_id: string; value_encrypted: Buffer }[]> {
  const { rows } = await tx.query<{ id: string; project_id: string; value_encrypted: Buffer }>({
    text: `select id, project_id, value_encrypted from public.secrets
           where id = any ($1::uuid[]) and encryption_key_id is null
           order by id for no key update skip locked`,
    values: [ids],
  });
  return rows;
}

/** As `lockUnadopted`, holding nothing: for a dry run. */
export async function readUnadopted(
  database: Queryable,
  ids: readonly string[],
): Promise<{ id: string; project_id: string; value_encrypted: Buffer }[]> {
  const { rows } = await database.query<{ id: string; project_id: string; value_encrypted: Buffer }>({
    text: `select id, project_id, value_encrypted from public.secrets
           where id = any ($1::uuid[]) and encryption_key_id is null order by id`,
    values: [ids],
  });
  return rows;
}

export async function storeAdopted(
  tx: Queryable,
  rows: readonly { id: string; envelope: Buffer; keyId: string }[],
): Promise<number> {
  const { rowCount } = await tx.query({
    text: `update public.secrets s set value_encrypted = a.envelope, encryption_key_id = a.key_id
           from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as a (id, envelope, key_id)
           where s.id = a.id and s.encryption_key_id is null`,
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
