import { randomUUID } from 'node:crypto';
import type { Actor } from '../api.ts';
import { actorValues } from '../audit/store.ts';
import type { Queryable } from '../db/port.ts';

/** The registry's label of `public.secrets.value_encrypted`, in the associated data of every secret. */
export const SECRETS_LABEL = 'secrets.value';

export interface SecretRow {
  readonly id: string;
  readonly value_encrypted: Buffer;
  readonly encryption_key_id: string | null;
  readonly value_written_at: Date | null;
  readonly primary_key_id: string | null;
}

const secretColumns = [
  ['id', 'text'],
  ['value_encrypted', 'bytea'],
  ['encryption_key_id', 'text'],
  ['value_written_at', 'timestamptz'],
  ['primary_key_id', 'text'],
] as const;

export async function selectSecret(
  database: Queryable,
  projectId: string,
  name: string,
): Promise<SecretRow | undefined> {
  const { rows } = await database.query<SecretRow>({
    text: `select s.id, s.value_encrypted, s.encryption_key_id, s.value_written_at, r.primary_key_id
           from public.secrets s left join keyring.keyrings r on r.project_id = s.project_id
           where s.project_id = $1 and s.key = $2`,
    values: [projectId, name],
    name: 'secret_select',
    columns: secretColumns,
    ofOneProject: true,
  });
  return rows[0];
}

/** Projects and names of up to `count` secrets picked at random, by random places in the primary key. */
export async function selectSomeSecretNames(
  database: Queryable,
  count: number,
): Promise<{ projectId: string; name: string }[]> {
  const { rows } = await database.query<{ project_id: string; key: string }>({
    text: `select s.project_id, s.key from unnest($1::uuid[]) as at (id)
           cross join lateral (
             select n.project_id, n.key from public.secrets n where n.id >= at.id order by n.id limit 1
           ) s`,
    values: [Array.from({ length: count }, () => randomUUID())],
  });
  return rows.map((row) => ({ projectId: row.project_id, name: row.key }));
}

/** Which row holds a name, and under which version: what a put has to know. */
export async function selectSecretRow(
  database: Queryable,
  projectId: string,
  name: string,
): Promise<{ id: string; encryption_key_id: string | null } | undefined> {
  const { rows } = await database.query<{ id: string; encryption_key_id: string | null }>({
    text: 'select id, encryption_key_id from public.secrets where project_id = $1 and key = $2',
    values: [projectId, name],
    name: 'secret_row_select',
  });
  return rows[0];
}

// A write that waits for a row which somebody holds gives up (SQLSTATE 55P03) after this: it holds a connection meanwhile. Set
// inside the statement, because it has to work through a transaction-mode pooler and in one round trip.
export const boundedWait = `(select pg_catalog.set_config('lock_timeout', '5000', true)) as bounded_wait`;

export interface SecretWrite {
  readonly id: string;
  readonly projectId: string;
  readonly name: string;
  readonly envelope: Buffer;
  readonly keyId: string;
  readonly actor: Actor;
}

/**
 * Inserts a secret under a known id (its ciphertext is bound to it) together with its audit entry. No `on conflict do
 * update`: that would keep the old row's id under a ciphertext bound to the new one.
 */
export async function insertSecret(database: Queryable, write: SecretWrite): Promise<void> {
  await database.query({
    text: `with written as (
             insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id, value_written_at)
             select $1, $2, $3, $4, $5, clock_timestamp() from ${boundedWait} returning id, project_id
           )
           insert into keyring.audit_log
             (actor, principal_kind, source_address, action, outcome, project_id, subject, details)
           select $6, $7, $8, 'secret.written', 'succeeded', w.project_id, 'secret:' || w.id,
             jsonb_build_object('name', $3::text, 'key', $5::uuid, 'created', true)
           from written w`,
    values: [write.id, write.projectId, write.name, write.envelope, write.keyId, ...actorValues(write.actor)],
    name: 'secret_insert',
  });
}

/**
 * Sets the value of a row that is still under `previousKeyId`, so that the trail names the version the old value was under.
 * False when the row is gone, renamed, or under another version now.
 */
export async function updateSecret(
  database: Queryable,
  write: SecretWrite,
  previousKeyId: string | null,
): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `with written as (
             update public.secrets
             set value_encrypted = $4, encryption_key_id = $5, value_written_at = clock_timestamp()
             from ${boundedWait}
             where id = $1 and project_id = $2 and key = $3 and encryption_key_id is not distinct from $9::uuid
             returning id, project_id
           )
           insert into keyring.audit_log
             (actor, principal_kind, source_address, action, outcome, project_id, subject, details)
           select $6, $7, $8, 'secret.written', 'succeeded', w.project_id, 'secret:' || w.id,
             jsonb_build_object('name', $3::text, 'key', $5::uuid, 'previousKey', $9::uuid, 'created', false)
           from written w`,
    values: [
      write.id,
      write.projectId,
      write.name,
      write.envelope,
      write.keyId,
      ...actorValues(write.actor),
      previousKeyId,
    ],
    name: 'secret_update',
  });
  return rowCount === 1;
}

export async function deleteSecret(
  database: Queryable,
  { projectId, name, actor }: { projectId: string; name: string; actor: Actor },
): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `with removed as (
             delete from public.secrets using ${boundedWait} where project_id = $1 and key = $2 returning id, project_id, encryption_key_id
           )
           insert into keyring.audit_log
             (actor, principal_kind, source_address, action, outcome, project_id, subject, details)
           select $3, $4, $5, 'secret.deleted', 'succeeded', r.project_id, 'secret:' || r.id,
             jsonb_build_object('name', $2::text, 'previousKey', r.encryption_key_id)
           from removed r`,
    values: [projectId, name, ...actorValues(actor)],
  });
  return rowCount === 1;
}

export interface SecretEntryRow {
  readonly id: string;
  readonly key: string;
  readonly encryption_key_id: string | null;
  readonly version: number | null;
  readonly primary_key_id: string | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly value_written_at: Date | null;
}

export async function selectSecretEntries(
  database: Queryable,
  { projectId, after, limit }: { projectId: string; after: string | undefined; limit: number },
): Promise<SecretEntryRow[]> {
  const { rows } = await database.query<SecretEntryRow>({
    text: `select s.id, s.key, s.encryption_key_id, k.version, r.primary_key_id, s.created_at, s.updated_at,
             s.value_written_at
           from public.secrets s
           left join keyring.keyrings r on r.project_id = s.project_id
           left join keyring.encryption_keys k on k.id = s.encryption_key_id
           where s.project_id = $1 and ($2::text is null or s.key > $2)
           order by s.key limit $3`,
    values: [projectId, after ?? null, limit],
  });
  return rows;
}
