import { byteaArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';

export interface EncryptionKeyRow {
  readonly id: string;
  readonly project_id: string;
  readonly version: number;
  readonly state: 'enabled' | 'disabled' | 'compromised' | 'destroyed';
  readonly wrapped_key: Buffer | null;
  readonly wrapping_key_id: string;
  readonly fingerprint: Buffer;
}

export async function selectEncryptionKey(
  database: Queryable,
  projectId: string,
  keyId: string,
): Promise<EncryptionKeyRow | undefined> {
  const { rows } = await database.query<EncryptionKeyRow>({
    text: `select id, project_id, version, state, wrapped_key, wrapping_key_id, fingerprint
           from keyring.encryption_keys where project_id = $1 and id = $2`,
    values: [projectId, keyId],
    name: 'encryption_key_select',
  });
  return rows[0];
}

/** Keys by their ids; those that are not of the project named beside them are left out. */
export async function selectEncryptionKeys(
  database: Queryable,
  keys: readonly KeyReference[],
): Promise<EncryptionKeyRow[]> {
  const { rows } = await database.query<EncryptionKeyRow>({
    text: `select k.id, k.project_id, k.version, k.state, k.wrapped_key, k.wrapping_key_id, k.fingerprint
           from unnest($1::uuid[], $2::uuid[]) as c (project_id, id)
           -- Looked up one by one: joined, some hundred of them would have the whole table read.
           cross join lateral (
             select * from keyring.encryption_keys e where e.id = c.id and e.project_id = c.project_id offset 0) k`,
    values: [keys.map((key) => key.projectId), keys.map((key) => key.keyId)],
  });
  return rows;
}

export interface KeyReference {
  readonly projectId: string;
  readonly keyId: string;
}

export interface NewEncryptionKey {
  readonly id: string;
  readonly projectId: string;
  readonly version: number;
  readonly wrappedKey: Buffer;
  readonly wrappingKeyId: string;
  readonly fingerprint: Buffer;
}

export async function insertEncryptionKeys(tx: Queryable, keys: readonly NewEncryptionKey[]): Promise<void> {
  await tx.query({
    text: `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
           select n.id, n.project_id, n.version, n.wrapped_key, n.wrapping_key_id, n.fingerprint
           from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bytea[], $5::uuid[], $6::bytea[])
             as n (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
           order by n.project_id`,
    values: [
      keys.map((key) => key.id),
      keys.map((key) => key.projectId),
      keys.map((key) => key.version),
      byteaArray(keys.map((key) => key.wrappedKey)),
      keys.map((key) => key.wrappingKeyId),
      byteaArray(keys.map((key) => key.fingerprint)),
    ],
  });
}

/** The newest version of a project, or undefined before its first. */
export async function selectLatestVersion(
  database: Queryable,
  projectId: string,
): Promise<{ id: string; version: number; usable: boolean } | undefined> {
  const { rows } = await database.query<{ id: string; version: number; usable: boolean }>({
    text: `select id, version, state = 'enabled' and rolled_back_at is null as usable
           from keyring.encryption_keys where project_id = $1 order by version desc limit 1`,
    values: [projectId],
  });
  return rows[0];
}

export async function selectPrimary(database: Queryable, projectId: string): Promise<string | undefined> {
  const { rows } = await database.query<{ primary_key_id: string }>({
    text: 'select primary_key_id from keyring.keyrings where project_id = $1',
    values: [projectId],
    name: 'primary_select',
  });
  return rows[0]?.primary_key_id;
}

/** False when the project has its keyring already. */
export async function insertKeyring(tx: Queryable, projectId: string, primaryKeyId: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.keyrings (project_id, primary_key_id) values ($1, $2) on conflict (project_id) do nothing`,
    values: [projectId, primaryKeyId],
  });
  return rowCount === 1;
}

/**
 * Moves the pointer, if it still points at `from`. Takes the project's fair queue first, and gives up the whole transaction
 * (SQLSTATE 57014) when that takes longer than `waitMs`: while it waits, the project's own writers wait behind it.
 */
export async function movePrimary(
  tx: Queryable,
  move: { projectId: string; from: string; to: string; waitMs: number },
): Promise<boolean> {
  await tx.query({
    text: `select pg_catalog.set_config('statement_timeout', $1, true)`,
    values: [String(move.waitMs)],
  });
  await tx.query({
    text: 'select pg_catalog.pg_advisory_xact_lock(keyring.project_lock($1))',
    values: [move.projectId],
  });
  await tx.query({ text: 'set local statement_timeout to default' });
  const { rowCount } = await tx.query({
    text: `update keyring.keyrings set primary_key_id = $3, promoted_at = now()
           where project_id = $1 and primary_key_id = $2`,
    values: [move.projectId, move.from, move.to],
  });
  return rowCount === 1;
}

/**
 * Moves the pointers of projects whose fair queue is empty at this moment, and waits in no queue: the others keep theirs.
 * Gives the ids of the projects whose pointer was at `from` and moved.
 */
export async function movePrimaries(
  tx: Queryable,
  moves: readonly { readonly projectId: string; readonly from: string; readonly to: string }[],
): Promise<Set<string>> {
  const { rows: turns } = await tx.query<{ project_id: string }>({
    text: `select c.project_id from (select unnest($1::uuid[]) as project_id order by 1) c
           where pg_catalog.pg_try_advisory_xact_lock(keyring.project_lock(c.project_id))`,
    values: [moves.map((move) => move.projectId)],
  });
  const free = new Set(turns.map((row) => row.project_id));
  const ours = moves.filter(({ projectId }) => free.has(projectId));
  const { rows } = await tx.query<{ project_id: string }>({
    text: `update keyring.keyrings k set primary_key_id = c.new_key, promoted_at = now()
           from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as c (project_id, old_key, new_key)
           where k.project_id = c.project_id and k.primary_key_id = c.old_key
           returning k.project_id`,
    values: [ours.map((move) => move.projectId), ours.map((move) => move.from), ours.map((move) => move.to)],
  });
  return new Set(rows.map((row) => row.project_id));
}

export async function markCompromised(tx: Queryable, keyId: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.encryption_keys set state = 'compromised', compromised_at = now()
           where id = $1 and state in ('enabled', 'disabled')`,
    values: [keyId],
  });
  return rowCount === 1;
}

export async function markRolledBack(tx: Queryable, keyIds: readonly string[]): Promise<void> {
  await tx.query({
    text: `update keyring.encryption_keys set rolled_back_at = now()
           where id = any ($1) and rolled_back_at is null and state <> 'destroyed'`,
    values: [keyIds],
  });
}

/** Starts the retention window of every version of these projects that was used once and is no longer primary. */
export async function startRetention(
  tx: Queryable,
  projectIds: readonly string[],
): Promise<{ projectId: string; keyId: string }[]> {
  const { rows } = await tx.query<{ project_id: string; id: string }>({
    text: `update keyring.encryption_keys k
           set retention_until = now() + coalesce(
             (select p.retention from keyring.rotation_policies p where p.project_id = k.project_id),
             (select p.retention from keyring.rotation_policies p where p.project_id is null))
           where k.project_id = any ($1) and k.retention_until is null and k.activated_at is not null
             and k.state <> 'destroyed'
             and not exists (select from keyring.keyrings r where r.primary_key_id = k.id and r.project_id = k.project_id)
           returning k.project_id, k.id`,
    values: [projectIds],
  });
  return rows.map((row) => ({ projectId: row.project_id, keyId: row.id }));
}

/** Ends a retention window that is still open, for a version that two people let go. */
export async function endRetention(tx: Queryable, keyId: string): Promise<void> {
  await tx.query({
    text: `update keyring.encryption_keys set retention_until = clock_timestamp()
           where id = $1 and retention_until > clock_timestamp()`,
    values: [keyId],
  });
}

export async function eraseKey(tx: Queryable, keyId: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.encryption_keys set state = 'destroyed', wrapped_key = null, destroyed_at = clock_timestamp()
           where id = $1 and state <> 'destroyed'`,
    values: [keyId],
  });
  return rowCount === 1;
}

/**
 * Erases those of these versions that nobody holds, and gives them. PostgreSQL asks of each whether it may go, and refuses all of them
 * (SQLSTATE MK006, MK008) where one may not.
 */
export async function eraseKeys(
  tx: Queryable,
  keyIds: readonly string[],
): Promise<{ keyId: string; projectId: string; version: number }[]> {
  const { rows } = await tx.query<{ id: string; project_id: string; version: number }>({
    // Locked without waiting, as the guard would lock each: a row in flight that names one would have all others wait for it.
    text: `with free as materialized (
             select k.id from keyring.encryption_keys k
             where k.id = any ($1) and k.state <> 'destroyed' order by k.id for update skip locked
           )
           update keyring.encryption_keys k set state = 'destroyed', wrapped_key = null, destroyed_at = clock_timestamp()
           from free f where k.id = f.id and k.state <> 'destroyed'
           returning k.id, k.project_id, k.version`,
    values: [keyIds],
  });
  return rows.map((row) => ({ keyId: row.id, projectId: row.project_id, version: row.version }));
}

/** Suspends a version; waits for no lock longer than `waitMs` (SQLSTATE 55P03 then). False when it is not enabled. */
export async function suspendKey(tx: Queryable, keyId: string, waitMs: number): Promise<boolean> {
  await tx.query({
    text: `select pg_catalog.set_config('lock_timeout', $1, true)`,
    values: [String(waitMs)],
  });
  const { rowCount } = await tx.query({
    text: `update keyring.encryption_keys set state = 'disabled', disabled_at = clock_timestamp()
           where id = $1 and state = 'enabled'`,
    values: [keyId],
  });
  return rowCount === 1;
}

/** Enables a suspended version again. False when it is not suspended. */
export async function unsuspendKey(tx: Queryable, keyId: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.encryption_keys set state = 'enabled', disabled_at = null
           where id = $1 and state = 'disabled'`,
    values: [keyId],
  });
  return rowCount === 1;
}
