import type { Instance } from '../api-upper-keys.ts';
import type { Queryable } from '../db/port.ts';
import type { Holding, Wanted } from '../keyring/wrapping-keys.ts';

/** A process that has not said so for this long is not waited for. Three heartbeats. */
export const SILENT_AFTER_MS = 15_000;
const FORGOTTEN_AFTER_S = 3_600;

export interface Self {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly actor: string;
  readonly version: string;
}

/** Says that this process is alive and what it can use, and forgets those long silent; gives what it should be able to use. */
export async function noteSeen(database: Queryable, self: Self, holding: Holding): Promise<Wanted> {
  const { rows } = await database.query<{
    primary_id: string | null;
    wrapping_keys: string[];
    destroyed: string[];
    roots: string[];
  }>({
    text: `with me as (
             insert into keyring.instances (id, host, pid, actor, version, usable_roots, wrapping_keys, troubles)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (id) do update set seen_at = now(), usable_roots = excluded.usable_roots,
               wrapping_keys = excluded.wrapping_keys, troubles = excluded.troubles
           ), forgotten as (
             delete from keyring.instances where id in (
               select i.id from keyring.instances i where i.seen_at < now() - make_interval(secs => $9)
               for update skip locked)
           )
           select (select i.wrapping_key_id from keyring.installation i) as primary_id,
             array(select w.id from keyring.wrapping_keys w where w.state = 'enabled') as wrapping_keys,
             array(select w.id from keyring.wrapping_keys w where w.state = 'destroyed' and w.id = any ($7)) as destroyed,
             array(select r.fingerprint from keyring.root_keys r where exists (
               select from keyring.wrapped_wrapping_keys c where c.root_key_id = r.id)) as roots`,
    values: [
      self.id,
      self.host,
      self.pid,
      self.actor,
      self.version,
      holding.usableRoots,
      holding.wrappingKeys,
      holding.troubles,
      FORGOTTEN_AFTER_S,
    ],
  });
  const [row] = rows;
  return {
    primaryId: row?.primary_id ?? undefined,
    wrappingKeys: row?.wrapping_keys ?? [],
    destroyed: row?.destroyed ?? [],
    roots: row?.roots ?? [],
  };
}

export async function deleteInstance(database: Queryable, id: string): Promise<void> {
  await database.query({ text: 'delete from keyring.instances where id = $1', values: [id] });
}

/** The live first, then those that fell silent within the hour; up to 1,000. */
export async function listInstances(database: Queryable): Promise<Instance[]> {
  const { rows } = await database.query<{
    id: string;
    host: string;
    pid: number;
    actor: string;
    version: string;
    started_at: Date;
    seen_at: Date;
    alive: boolean;
    usable_roots: string[];
    wrapping_keys: string[];
    troubles: string[];
  }>({
    text: `select i.id, i.host, i.pid, i.actor, i.version, i.started_at, i.seen_at,
             i.seen_at > now() - make_interval(secs => $1::double precision / 1000) as alive, i.troubles,
             array(select r.fingerprint from keyring.root_keys r
               where r.fingerprint = any (i.usable_roots) and r.state = 'enabled' order by r.created_at, r.id) as usable_roots,
             array(select w.id from keyring.wrapping_keys w
               where w.id = any (i.wrapping_keys) order by w.version) as wrapping_keys
           from keyring.instances i order by alive desc, i.started_at, i.id limit 1000`,
    values: [SILENT_AFTER_MS],
  });
  return rows.map(
    ({ started_at: startedAt, seen_at: seenAt, usable_roots: usableRoots, wrapping_keys: wrappingKeys, ...row }) => ({
      ...row,
      startedAt,
      seenAt,
      usableRoots,
      wrappingKeys,
    }),
  );
}
