import type { DatabaseFacts, EndedRotations, FleetFacts, OpenRotations } from '../api-monitoring.ts';
import type { Queryable } from '../db/port.ts';

/** Ended rotations that are counted for good: no transaction that ended one before this is still open. */
const SETTLED_AFTER = '10 minutes';

// A small project takes milliseconds, a fleet at a polite pace a night.
export const ROTATION_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400];

export interface EndedCount extends EndedRotations {
  readonly moved: number;
  readonly verified: number;
  /** It will not change any more, and is before `settledUntil`. */
  readonly settled: boolean;
}

interface EndedRow {
  readonly kind: EndedRotations['kind'];
  readonly trigger: string;
  readonly outcome: EndedRotations['outcome'];
  readonly settled: boolean;
  readonly settled_until: string;
  readonly rotations: string;
  readonly seconds: string;
  readonly buckets: string[];
  readonly moved: string;
  readonly verified: string;
}

/**
 * Rotations that ended after `since`, counted. One that begins at `-infinity` reads the whole history, by an index that has all it
 * needs of `rotations`; the next one what was not settled then.
 */
export async function selectEnded(
  database: Queryable,
  since: string,
): Promise<{ counts: EndedCount[]; settledUntil: string | undefined }> {
  const { rows } = await database.query<EndedRow>({
    text: `with clock as (select now() - interval '${SETTLED_AFTER}' as settled_until),
             ended as (
               select 'data_key' as kind, r.id, r.trigger, r.state as outcome, r.finished_at,
                 coalesce(r.started_at, r.finished_at) as began
               from keyring.rotations r where r.finished_at > $1::timestamptz
               union all
               select u.kind || '_key', u.id, case when u.leaked then 'compromise' else 'manual' end, u.state,
                 u.finished_at, u.requested_at
               from keyring.upper_rotations u where u.finished_at > $1::timestamptz
             ),
             timed as (
               select e.kind, e.trigger, e.outcome, e.finished_at <= c.settled_until as settled, c.settled_until,
                 extract(epoch from e.finished_at - e.began)::double precision as seconds, p.moved, p.verified
               from ended e cross join clock c
               left join lateral (
                 select sum(p.rows_moved) as moved, sum(p.rows_verified) as verified
                 from keyring.rotation_projects p where p.rotation_id = e.id) p on true
             )
           select kind, trigger, outcome, settled, settled_until::text, count(*) as rotations, sum(seconds)::text as seconds,
             coalesce(sum(moved), 0) as moved, coalesce(sum(verified), 0) as verified,
             array(select unnest(array[${ROTATION_SECONDS.map((_, at) => `count(*) filter (where seconds <= ${String(ROTATION_SECONDS[at])})`).join(', ')}])::text) as buckets
           from timed group by kind, trigger, outcome, settled, settled_until`,
    values: [since],
  });
  return {
    counts: rows.map((row) => ({
      kind: row.kind,
      trigger: row.trigger,
      outcome: row.outcome,
      settled: row.settled,
      moved: Number(row.moved),
      verified: Number(row.verified),
      seconds: {
        bounds: ROTATION_SECONDS,
        counts: row.buckets.map(Number),
        count: Number(row.rotations),
        sum: Number(row.seconds),
      },
    })),
    settledUntil: rows[0]?.settled_until,
  };
}

/** By the partial index of open rotations, of which there are few. */
export async function selectOpen(
  database: Queryable,
): Promise<{ open: OpenRotations[]; undriven: number; oldestOpenSeconds: number }> {
  const { rows } = await database.query<{
    kind: OpenRotations['kind'];
    trigger: string;
    state: string;
    rotations: number;
    undriven: number;
    oldest: number;
  }>({
    text: `select o.kind, o.trigger, o.state, count(*)::int as rotations, (count(*) filter (where o.undriven))::int as undriven,
             extract(epoch from now() - min(o.requested_at))::double precision as oldest
           from (
             select 'data_key' as kind, r.trigger, r.state, r.requested_at,
               r.state in ('requested', 'running', 'rolling_back')
                 and (r.runner_until between now() and now() + interval '1 minute') is not true as undriven
             from keyring.rotations r
             where r.state in ('requested', 'running', 'paused', 'blocked', 'rolling_back')
             union all
             select u.kind || '_key', case when u.leaked then 'compromise' else 'manual' end, u.state, u.requested_at, false
             from keyring.upper_rotations u where u.finished_at is null
           ) o group by o.kind, o.trigger, o.state`,
  });
  return {
    open: rows.map(({ kind, trigger, state, rotations }) => ({ kind, trigger, state, rotations })),
    undriven: rows.reduce((sum, row) => sum + row.undriven, 0),
    oldestOpenSeconds: Math.max(0, ...rows.map((row) => row.oldest)),
  };
}

export interface OpenProjects {
  readonly projects: Record<string, number>;
  readonly moved: number;
  readonly verified: number;
  readonly remaining: number;
}

/** Reads the rows of open rotations, a project each: nothing but the index above when there is none. */
export async function selectOpenProjects(database: Queryable): Promise<OpenProjects> {
  const { rows } = await database.query<{
    state: string;
    projects: number;
    moved: string;
    verified: string;
    remaining: string;
  }>({
    text: `select p.state, count(*)::int as projects, sum(p.rows_moved) as moved, sum(p.rows_verified) as verified,
             sum(greatest(coalesce(p.rows_total, 0) - p.rows_moved, 0))
               filter (where p.state not in ('completed', 'rolled_back', 'canceled', 'failed')) as remaining
           from keyring.rotations r join keyring.rotation_projects p on p.rotation_id = r.id
           where r.state in ('requested', 'running', 'paused', 'blocked', 'rolling_back')
           group by p.state`,
  });
  const sum = (of: (row: (typeof rows)[number]) => string | null): number =>
    rows.reduce((total, row) => total + Number(of(row) ?? 0), 0);
  return {
    projects: Object.fromEntries(rows.map(({ state, projects }) => [state, projects])),
    moved: sum((row) => row.moved),
    verified: sum((row) => row.verified),
    remaining: sum((row) => row.remaining),
  };
}

type Around = Pick<DatabaseFacts, 'schemaVersion' | 'quarantined' | 'workers' | 'instances' | 'backups'>;

/** Who is there, and what is kept: tables of a few rows. */
export async function selectAround(
  database: Queryable,
  silentAfterMs: { readonly worker: number; readonly instance: number },
): Promise<Around> {
  const { rows } = await database.query<{
    schema_version: string;
    quarantined: Record<string, number>;
    workers: number;
    workers_silent: number;
    instances: number;
    instances_silent: number;
    troubled: number;
    backups_missing: number;
    written_at: Date | null;
    verified_at: Date | null;
  }>({
    text: `select keyring.schema_version() as schema_version,
             (select coalesce(jsonb_object_agg(q.reason, q.rows), '{}')
                from (select reason, count(*) as rows from keyring.quarantine group by reason) q) as quarantined,
             w.alive as workers, w.silent as workers_silent, i.alive as instances, i.silent as instances_silent, i.troubled,
             (select count(*)::int from keyring.wrapping_keys k where k.state <> 'destroyed' and not exists (
                select from keyring.root_key_backups b
                where b.written_at is not null and b.wrapping_key_ids @> array[k.id])) as backups_missing,
             (select max(b.written_at) from keyring.root_key_backups b) as written_at,
             (select max(b.verified_at) from keyring.root_key_backups b) as verified_at
           from (
             select (count(*) filter (where x.alive))::int as alive, (count(*) filter (where not x.alive))::int as silent
             from (select seen_at > now() - make_interval(secs => $1::double precision / 1000) as alive
                   from keyring.workers) x
           ) w, (
             select (count(*) filter (where x.alive))::int as alive, (count(*) filter (where not x.alive))::int as silent,
               (count(*) filter (where x.alive and cardinality(x.troubles) > 0))::int as troubled
             from (select seen_at > now() - make_interval(secs => $2::double precision / 1000) as alive, troubles
                   from keyring.instances) x
           ) i`,
    values: [silentAfterMs.worker, silentAfterMs.instance],
  });
  const [row] = rows;
  return {
    schemaVersion: row?.schema_version ?? '',
    quarantined: row?.quarantined ?? {},
    workers: { alive: row?.workers ?? 0, silent: row?.workers_silent ?? 0 },
    instances: { alive: row?.instances ?? 0, silent: row?.instances_silent ?? 0, troubled: row?.troubled ?? 0 },
    backups: {
      missing: row?.backups_missing ?? 0,
      lastWrittenAt: row?.written_at ?? undefined,
      lastVerifiedAt: row?.verified_at ?? undefined,
    },
  };
}

/** Reads every project's pointer, its version and its use once, joined by hashing: the one look whose cost grows with projects. */
export async function selectFleet(database: Queryable): Promise<Omit<FleetFacts, 'ageSeconds'>> {
  const { rows } = await database.query<{
    projects: number;
    oldest: number | null;
    due: number;
    overdue: number;
    ratio: number | null;
  }>({
    text: `select count(*)::int as projects, extract(epoch from now() - min(s.made_at))::double precision as oldest,
             (count(*) filter (where s.enabled and (s.due_at <= now() or s.encryptions >= s.max_encryptions)))::int as due,
             (count(*) filter (where s.enabled
               and (s.promised_at <= now() - interval '1 day' or s.encryptions >= 0.95 * 4294967296)))::int as overdue,
             max(s.encryptions)::double precision / 4294967296 as ratio
           from keyring.scheduled_projects s`,
  });
  const [row] = rows;
  return {
    projects: row?.projects ?? 0,
    oldestKeySeconds: row?.oldest ?? 0,
    due: row?.due ?? 0,
    overdue: row?.overdue ?? 0,
    usageRatio: row?.ratio ?? 0,
  };
}
