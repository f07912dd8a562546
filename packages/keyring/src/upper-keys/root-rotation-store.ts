import type { RootKeyEntry } from '../api-upper-keys.ts';
import type { Queryable } from '../db/port.ts';
import { SILENT_AFTER_MS } from './instance-store.ts';
import type { UpperRotation } from './rotation-store.ts';

export type RootKeyState = NonNullable<RootKeyEntry['state']>;

export interface RootKeyRow {
  readonly id: string;
  readonly uri: string;
  readonly fingerprint: string;
  readonly state: RootKeyState;
  readonly wrappingKeys: number;
  readonly createdAt: Date;
  readonly usableBy: readonly string[];
}

export async function selectRootKeyRows(database: Queryable): Promise<RootKeyRow[]> {
  const { rows } = await database.query<{
    id: string;
    uri: string;
    fingerprint: string;
    state: RootKeyState;
    wrapping_keys: number;
    created_at: Date;
    usable_by: string[];
  }>({
    text: `select r.id, r.uri, r.fingerprint, r.state, r.created_at,
             (select count(*)::int from keyring.wrapped_wrapping_keys c where c.root_key_id = r.id) as wrapping_keys,
             array(select i.id from keyring.instances i
               where i.seen_at > now() - make_interval(secs => $1::double precision / 1000)
                 and r.fingerprint = any (i.usable_roots) order by i.started_at, i.id) as usable_by
           from keyring.root_keys r order by r.state = 'enabled' desc, r.created_at desc, r.id limit 1000`,
    values: [SILENT_AFTER_MS],
  });
  return rows.map((row) => ({
    id: row.id,
    uri: row.uri,
    fingerprint: row.fingerprint,
    state: row.state,
    wrappingKeys: row.wrapping_keys,
    createdAt: row.created_at,
    usableBy: row.usable_by,
  }));
}

/**
 * Takes a root key into use, whether or not it is known: nothing is wrapped by it yet. Gives its id; undefined for one that is
 * compromised, which it stays.
 */
export async function enableRootKey(
  tx: Queryable,
  { uri, fingerprint }: { uri: string; fingerprint: string },
): Promise<string | undefined> {
  const { rows } = await tx.query<{ id: string }>({
    text: `insert into keyring.root_keys as r (uri, fingerprint) values ($1, $2)
           on conflict (fingerprint) do update set uri = excluded.uri, state = 'enabled'
             where r.state in ('enabled', 'disabled')
           returning r.id`,
    values: [uri, fingerprint],
  });
  return rows[0]?.id;
}

/** Fails (23505) while a rotation of either kind is open. */
export async function insertRootRotation(
  tx: Queryable,
  rotation: {
    id: string;
    fromId: string;
    toId: string;
    requestedBy: string;
    reason: string | undefined;
    leaked: boolean;
  },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.upper_rotations (id, kind, leaked, from_root_key_id, to_root_key_id, requested_by, reason)
           values ($1, 'root', $2, $3, $4, $5, $6)`,
    values: [
      rotation.id,
      rotation.leaked,
      rotation.fromId,
      rotation.toId,
      rotation.requestedBy,
      rotation.reason ?? null,
    ],
  });
}

/** Ids of wrapping keys, not destroyed, that a root key has not wrapped. */
export async function selectUnwrapped(
  database: Queryable,
  rootKeyId: string,
): Promise<{ id: string; version: number }[]> {
  const { rows } = await database.query<{ id: string; version: number }>({
    text: `select w.id, w.version from keyring.wrapping_keys w
           where w.state <> 'destroyed' and not exists (
             select from keyring.wrapped_wrapping_keys c where c.wrapping_key_id = w.id and c.root_key_id = $1)
           order by w.version`,
    values: [rootKeyId],
  });
  return rows;
}

/** False when there is one already. */
export async function insertCopy(
  tx: Queryable,
  copy: { wrappingKeyId: string; rootKeyId: string; wrapped: Uint8Array },
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped) values ($1, $2, $3)
           on conflict (wrapping_key_id, root_key_id) do nothing`,
    values: [copy.wrappingKeyId, copy.rootKeyId, copy.wrapped],
  });
  return rowCount === 1;
}

/** Erases what a root key had wrapped. */
export async function deleteCopiesOf(tx: Queryable, rootKeyId: string): Promise<number> {
  const { rowCount } = await tx.query({
    text: 'delete from keyring.wrapped_wrapping_keys where root_key_id = $1',
    values: [rootKeyId],
  });
  return rowCount;
}

/**
 * Erases what a root key has wrapped since a rotation was asked for, and takes it out of use if nothing else is wrapped by it:
 * what it had wrapped before, as after a recovery, may be the only way in.
 */
export async function takeBackRoot(tx: Queryable, rootKeyId: string, rotationId: string): Promise<void> {
  await tx.query({
    text: `delete from keyring.wrapped_wrapping_keys c using keyring.upper_rotations u
           where c.root_key_id = $1 and u.id = $2 and c.created_at >= u.requested_at`,
    values: [rootKeyId, rotationId],
  });
  await tx.query({
    text: `update keyring.root_keys r set state = 'disabled' where r.id = $1 and r.state = 'enabled'
             and not exists (select from keyring.wrapped_wrapping_keys c where c.root_key_id = r.id)`,
    values: [rootKeyId],
  });
}

/** Takes every root key but one out of use. Gives those that were in use. */
export async function disableOtherRoots(
  tx: Queryable,
  keep: string,
  state: 'disabled' | 'compromised',
): Promise<{ id: string; fingerprint: string }[]> {
  const { rows } = await tx.query<{ id: string; fingerprint: string }>({
    text: `update keyring.root_keys set state = $2 where id <> $1 and state = 'enabled' returning id, fingerprint`,
    values: [keep, state],
  });
  return rows;
}

/** Notes which wrapping keys whoever has the old root key and an old dump has as well: all that there are. */
export async function exposeWrappingKeys(tx: Queryable): Promise<void> {
  await tx.query({
    text: `update keyring.wrapping_keys set exposed_at = clock_timestamp()
           where state <> 'destroyed' and exposed_at is null`,
  });
}

/** Live instances that cannot use a root key, but for those that the rotation was forced past. */
export async function selectWithoutRoot(
  database: Queryable,
  { id, toRoot }: Pick<UpperRotation, 'id' | 'toRoot'>,
): Promise<{ id: string }[]> {
  const { rows } = await database.query<{ id: string }>({
    text: `select i.id from keyring.instances i
           where i.seen_at > now() - make_interval(secs => $3::double precision / 1000)
             and not (i.usable_roots @> array[$2::text])
             and not exists (select from keyring.upper_rotations u where u.id = $1 and i.id = any (u.forced))
           order by i.started_at, i.id limit 1000`,
    values: [id, toRoot?.fingerprint, SILENT_AFTER_MS],
  });
  return rows;
}
