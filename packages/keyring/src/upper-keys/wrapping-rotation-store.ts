import type { Instance, WrappingKeyState, WrappingKeyVersion } from '../api-upper-keys.ts';
import type { Queryable } from '../db/port.ts';
import { SILENT_AFTER_MS } from './instance-store.ts';
import type { UpperRotation } from './rotation-store.ts';

/** Fails (23505) while a rotation of either kind is open. */
export async function insertWrappingRotation(
  tx: Queryable,
  rotation: { id: string; requestedBy: string; reason: string | undefined; leaked: boolean },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.upper_rotations (id, kind, leaked, from_wrapping_key_id, requested_by, reason)
           select $1, 'wrapping', $2, i.wrapping_key_id, $3, $4 from keyring.installation i`,
    values: [rotation.id, rotation.leaked, rotation.requestedBy, rotation.reason ?? null],
  });
}

export async function selectNextVersion(database: Queryable): Promise<number> {
  const { rows } = await database.query<{ next: number }>({
    text: 'select coalesce(max(version), 0) + 1 as next from keyring.wrapping_keys',
  });
  return rows[0]?.next ?? 1;
}

export interface NewWrappingKey {
  readonly id: string;
  readonly version: number;
  readonly fingerprint: Buffer;
  readonly copies: readonly { readonly rootFingerprint: string; readonly wrapped: Uint8Array }[];
}

/** Stores a new wrapping key, as each root key wrapped it. Gives how many of these the database knows. */
export async function insertWrappingKey(tx: Queryable, key: NewWrappingKey): Promise<number> {
  await tx.query({
    text: 'insert into keyring.wrapping_keys (id, version, fingerprint) values ($1, $2, $3)',
    values: [key.id, key.version, key.fingerprint],
  });
  let known = 0;
  for (const { rootFingerprint, wrapped } of key.copies) {
    const { rowCount } = await tx.query({
      text: `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
             select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3 and r.state = 'enabled'`,
      values: [key.id, wrapped, rootFingerprint],
    });
    known += rowCount;
  }
  return known;
}

/** Names the key that the rotation goes to. False when it has one, or is over. */
export async function setTarget(tx: Queryable, rotationId: string, wrappingKeyId: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.upper_rotations set to_wrapping_key_id = $2
           where id = $1 and state = 'requested' and to_wrapping_key_id is null`,
    values: [rotationId, wrappingKeyId],
  });
  return rowCount === 1;
}

/** Live instances that do not hold a wrapping key, but for those that the rotation was forced past. */
export async function selectWithoutKey(
  database: Queryable,
  { id, toKey }: Pick<UpperRotation, 'id' | 'toKey'>,
): Promise<Pick<Instance, 'id'>[]> {
  const { rows } = await database.query<{ id: string }>({
    text: `select i.id from keyring.instances i
           where i.seen_at > now() - make_interval(secs => $3::double precision / 1000)
             and not (i.wrapping_keys @> array[$2::uuid])
             and not exists (select from keyring.upper_rotations u where u.id = $1 and i.id = any (u.forced))
           order by i.started_at, i.id limit 1000`,
    values: [id, toKey?.id, SILENT_AFTER_MS],
  });
  return rows;
}

/**
 * Moves the pointer, if it still points at `from`. Takes the fair queue of those who make keys first, and gives up the whole
 * transaction (SQLSTATE 57014) when that takes longer than `waitMs`: while it waits, they wait behind it.
 */
export async function moveWrappingPointer(
  tx: Queryable,
  { from, to, waitMs }: { from: string; to: string; waitMs: number },
): Promise<boolean> {
  await tx.query({
    text: `select pg_catalog.set_config('statement_timeout', $1, true)`,
    values: [String(waitMs)],
  });
  await tx.query({ text: 'select pg_catalog.pg_advisory_xact_lock(keyring.wrapping_lock())' });
  await tx.query({ text: 'set local statement_timeout to default' });
  const { rowCount } = await tx.query({
    text: 'update keyring.installation set wrapping_key_id = $2 where wrapping_key_id = $1',
    values: [from, to],
  });
  return rowCount === 1;
}

/** Takes a wrapping key out of use; it still unwraps. False when it is out of use already. */
export async function disableWrappingKey(tx: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.wrapping_keys set state = 'disabled', disabled_at = clock_timestamp()
           where id = $1 and state = 'enabled'`,
    values: [id],
  });
  return rowCount === 1;
}

export async function compromiseWrappingKey(tx: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.wrapping_keys set state = 'compromised', compromised_at = clock_timestamp()
           where id = $1 and state in ('enabled', 'disabled')`,
    values: [id],
  });
  return rowCount === 1;
}

export async function eraseWrappingKey(tx: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.wrapping_keys set state = 'destroyed', destroyed_at = clock_timestamp()
           where id = $1 and state <> 'destroyed'`,
    values: [id],
  });
  return rowCount === 1;
}

export async function selectWrappingKeyVersions(database: Queryable): Promise<WrappingKeyVersion[]> {
  const { rows } = await database.query<{
    id: string;
    version: number;
    state: WrappingKeyState;
    active: boolean;
    keys: string;
    fingerprint: Buffer;
    root_keys: string[];
    created_at: Date;
    promoted_at: Date | null;
    exposed_at: Date | null;
    destroyed_at: Date | null;
  }>({
    text: `select w.id, w.version, w.state, w.fingerprint, w.created_at, w.promoted_at, w.exposed_at, w.destroyed_at,
             exists (select from keyring.installation i where i.wrapping_key_id = w.id) as active,
             coalesce(n.keys, 0) as keys,
             array(select r.fingerprint from keyring.wrapped_wrapping_keys c join keyring.root_keys r on r.id = c.root_key_id
               where c.wrapping_key_id = w.id order by c.created_at, r.id) as root_keys
           from keyring.wrapping_keys w
           left join (
             select u.wrapping_key_id, count(*) as keys from (
               select k.wrapping_key_id from keyring.encryption_keys k where k.wrapped_key is not null
               union all
               select s.wrapping_key_id from keyring.signing_keys s) u
             group by u.wrapping_key_id
           ) n on n.wrapping_key_id = w.id
           order by w.version desc limit 1000`,
  });
  return rows.map((row) => ({
    id: row.id,
    version: row.version,
    state: row.state,
    active: row.active,
    keys: Number(row.keys),
    fingerprint: row.fingerprint.toString('hex').slice(0, 16),
    rootKeys: row.root_keys,
    createdAt: row.created_at,
    promotedAt: row.promoted_at ?? undefined,
    exposedAt: row.exposed_at ?? undefined,
    destroyedAt: row.destroyed_at ?? undefined,
  }));
}
