import type { ProjectIds } from '../api.ts';
import type { AgeGroup, DueProject, Overview, RecentRotation } from '../api-overview.ts';
import type { Queryable } from '../db/port.ts';
import { dueAt, hasNoPolicy, policies, promisedAt } from '../schedule/arithmetic/dates-in-sql.ts';

const isAmong = (projectId: string): string => `($1::uuid[] is null or ${projectId} = any ($1))`;

const idsOf = (among: ProjectIds): readonly string[] | null => (among === 'all' ? null : among);

export async function selectCounts(
  tx: Queryable,
  among: ProjectIds,
): Promise<Overview['keys'] & { at: Date; total: number; quarantined: number }> {
  const { rows } = await tx.query<{
    at: Date;
    total: number;
    compromised: number;
    suspended: number;
    quarantined: number;
  }>({
    text: `select now() as at,
             (select count(*) from public.projects p where ${isAmong('p.id')})::int as total,
             k.compromised, k.suspended,
             (select count(*) from keyring.quarantine q where ${isAmong('q.project_id')})::int as quarantined
           from (
             select count(*) filter (where k.state = 'compromised')::int as compromised,
               count(*) filter (where k.state = 'disabled')::int as suspended
             from keyring.encryption_keys k where k.state in ('disabled', 'compromised') and ${isAmong('k.project_id')}
           ) k`,
    values: [idsOf(among)],
  });
  const [row] = rows;
  if (row === undefined) throw new Error('a count gives a row');
  return row;
}

/**
 * By the default policy, whose version has reached its age is due wherever its place in the spread is: those are counted by the index on
 * ages, and only of the others that are old enough for a look is the date computed. By use come those few that are not due by age.
 */
export async function selectDue(tx: Queryable, among: ProjectIds): Promise<{ due: number; overdue: number }> {
  const { rows } = await tx.query<{ due: number; overdue: number }>({
    text: `with ${policies},
             general as (select g.age, g.early from policy g where g.project_id is null and g.enabled),
             aged as (
               select count(*) as due,
                 count(*) filter (where r.primary_made_at <= now() - make_interval(secs => g.age + 3600)) as overdue
               from general g join keyring.keyrings r on r.primary_made_at <= now() - make_interval(secs => g.age)
               where ${isAmong('r.project_id')} and ${hasNoPolicy}
             ),
             candidate as (
               select r.project_id, r.primary_made_at as made_at, g.age, g.early
               from general g
               join keyring.keyrings r on r.primary_made_at > now() - make_interval(secs => g.age)
                 and r.primary_made_at <= now() - make_interval(secs => g.age - g.early - 3600)
               where ${isAmong('r.project_id')} and ${hasNoPolicy}
               union all
               select r.project_id, r.primary_made_at, o.age, o.early
               from policy o join keyring.keyrings r on r.project_id = o.project_id
               where o.enabled and ${isAmong('r.project_id')}
             ),
             spread as (
               select count(*) as due, count(*) filter (where ${promisedAt} <= now() - interval '1 hour') as overdue
               from candidate c where ${dueAt} <= now()
             ),
             used_up as (
               select coalesce(${dueAt} <= now(), false) as by_age,
                 coalesce(${promisedAt} <= now() - interval '1 hour', false) as overdue_by_age, c.reserved >= 3865470566 as overdue
               from (
                 select r.project_id, r.primary_made_at as made_at, o.age, o.early, u.reserved
                 from keyring.key_usage u
                 join keyring.keyrings r on r.project_id = u.project_id and r.primary_key_id = u.key_id
                 cross join lateral (
                   select o.enabled, o.max_encryptions, o.age, o.early from policy o
                   where o.project_id = r.project_id or o.project_id is null
                   order by o.project_id nulls last limit 1) o
                 where u.reserved >= (select min(max_encryptions) from policy) and u.reserved >= o.max_encryptions and o.enabled
                   and ${isAmong('r.project_id')}
               ) c
             ),
             used as (
               select count(*) filter (where not by_age) as due, count(*) filter (where overdue and not overdue_by_age) as overdue
               from used_up
             )
           select sum(n.due)::int as due, sum(n.overdue)::int as overdue
           from (select * from aged union all select * from spread union all select * from used) n`,
    values: [idsOf(among)],
  });
  return rows[0] ?? { due: 0, overdue: 0 };
}

interface DueRow {
  readonly project_id: string;
  readonly project_name: string;
  readonly key_id: string;
  readonly made_at: Date;
  readonly due_at: Date | null;
}

/** The first ones by age say how far the others can be overtaken: by no more than `early`. */
export async function selectNextByDefault(tx: Queryable, among: ProjectIds, limit: number): Promise<DueProject[]> {
  const { rows } = await tx.query<DueRow>({
    text: `with ${policies},
             general as (select g.age, g.early from policy g where g.project_id is null and g.enabled),
             waiting as not materialized (
               select r.project_id, r.primary_made_at as made_at, g.age, g.early
               from general g join keyring.keyrings r on r.primary_made_at > now() - make_interval(secs => g.age + 3600)
               where ${isAmong('r.project_id')} and ${hasNoPolicy}
             ),
             first as (
               select max(f.made_at) as made_at
               from (select c.made_at from waiting c where ${dueAt} > now() order by c.made_at limit $2) f
             )
           ${named(`
             select c.project_id, c.made_at, ${dueAt} as due_at from waiting c, first f
             where c.made_at <= f.made_at + make_interval(secs => c.early + 3600) and ${dueAt} > now()`)}`,
    values: [idsOf(among), limit],
  });
  return rows.map(dueProject);
}

export async function selectNextByOwnPolicy(tx: Queryable, among: ProjectIds, limit: number): Promise<DueProject[]> {
  const { rows } = await tx.query<DueRow>({
    text: `with ${policies}
           ${named(`
             select c.project_id, c.made_at, ${dueAt} as due_at
             from (
               select r.project_id, r.primary_made_at as made_at, o.age, o.early
               from policy o join keyring.keyrings r on r.project_id = o.project_id
               where o.enabled and ${isAmong('r.project_id')}
             ) c where ${dueAt} > now()`)}`,
    values: [idsOf(among), limit],
  });
  return rows.map(dueProject);
}

/** The soonest of some, with names. */
function named(some: string): string {
  return `select d.project_id, p.name as project_name, r.primary_key_id as key_id, d.made_at, d.due_at
    from (select * from (${some}) s order by s.due_at, s.project_id limit $2) d
    join public.projects p on p.id = d.project_id
    join keyring.keyrings r on r.project_id = d.project_id
    order by d.due_at, d.project_id`;
}

export async function selectOldest(tx: Queryable, among: ProjectIds): Promise<DueProject | undefined> {
  const { rows } = await tx.query<DueRow>({
    text: `with ${policies},
             oldest as (
               select r.project_id, r.primary_key_id, r.primary_made_at as made_at
               from keyring.keyrings r where r.primary_made_at is not null and ${isAmong('r.project_id')}
               order by r.primary_made_at, r.project_id limit 1
             )
           select c.project_id, p.name as project_name, c.primary_key_id as key_id, c.made_at,
             case when c.enabled then ${dueAt} end as due_at
           from (
             select r.*, o.enabled, o.age, o.early from oldest r
             cross join lateral (
               select o.enabled, o.age, o.early from policy o
               where o.project_id = r.project_id or o.project_id is null
               order by o.project_id nulls last limit 1) o
           ) c join public.projects p on p.id = c.project_id`,
    values: [idsOf(among)],
  });
  return rows[0] && dueProject(rows[0]);
}

// A week, months, a quarter, half a year, a year.
const AGES = [0, 7, 30, 60, 90, 180, 365];

/** Each group is a range of the index on ages, and so are those whose age nobody noted: together, all there are. */
export async function selectAges(
  tx: Queryable,
  among: ProjectIds,
): Promise<{ readonly ages: AgeGroup[]; readonly withKey: number }> {
  const { rows } = await tx.query<{ from_days: number; to_days: number | null; keys: number; unknown: number }>({
    text: `select a.from_days, a.to_days,
             (select count(*) from keyring.keyrings r
               where r.primary_made_at is null and ${isAmong('r.project_id')})::int as unknown, (
               select count(*) from keyring.keyrings r
               where r.primary_made_at <= a.until and r.primary_made_at > a.after and ${isAmong('r.project_id')}
             )::int as keys
           from (
             select d.from_days, d.to_days,
               -- One that is from the future by another clock is new.
               case d.from_days when 0 then 'infinity' else now() - make_interval(days => d.from_days) end as until,
               coalesce(now() - make_interval(days => d.to_days), '-infinity') as after
             from (select f as from_days, lead(f) over (order by f) as to_days from unnest($2::int[]) f) d
           ) a order by a.from_days`,
    values: [idsOf(among), AGES],
  });
  return {
    ages: rows.map(({ from_days, to_days, keys }) => ({ fromDays: from_days, toDays: to_days ?? undefined, keys })),
    withKey: rows.reduce((sum, { keys }) => sum + keys, rows[0]?.unknown ?? 0),
  };
}

export async function selectRotationStates(
  tx: Queryable,
  among: ProjectIds,
): Promise<Pick<Overview['rotations'], 'running' | 'paused' | 'blocked'>> {
  const { rows } = await tx.query<{ running: number; paused: number; blocked: number }>({
    text: `select count(*) filter (where r.state in ('requested', 'running', 'rolling_back'))::int as running,
             count(*) filter (where r.state = 'paused')::int as paused,
             count(*) filter (where r.state = 'blocked')::int as blocked
           from keyring.rotations r
           where r.state in ('requested', 'running', 'paused', 'blocked', 'rolling_back') and ${isWithin}`,
    values: [idsOf(among)],
  });
  return rows[0] ?? { running: 0, paused: 0, blocked: 0 };
}

// Of a rotation with many projects, the first that is not among them tells: the fleet's is nobody's who has a few.
const isWithin = `($1::uuid[] is null or (
  exists (select from keyring.rotation_projects g where g.rotation_id = r.id)
  and not exists (select from keyring.rotation_projects g where g.rotation_id = r.id and g.project_id <> all ($1))))`;
const NAMES = 3;

/** Without their counts: those of a rotation of the fleet are as many rows as it has projects. */
export async function selectRecentRotations(
  tx: Queryable,
  among: ProjectIds,
  limit: number,
): Promise<RecentRotation[]> {
  const { rows } = await tx.query<{
    id: string;
    scope: RecentRotation['scope'];
    trigger: RecentRotation['trigger'];
    state: RecentRotation['state'];
    requested_by: string;
    reason: string | null;
    requested_at: Date;
    started_at: Date | null;
    finished_at: Date | null;
    duration_ms: string | null;
    names: string[];
  }>({
    text: `select r.id, r.scope, r.trigger, r.state, r.requested_by, r.reason, r.requested_at, r.started_at, r.finished_at,
             (extract(epoch from coalesce(r.finished_at, now()) - r.started_at) * 1000)::bigint as duration_ms,
             array(select g.project_name from keyring.rotation_projects g where g.rotation_id = r.id
               order by g.project_id limit $3) as names
           from keyring.rotations r where ${isWithin} order by r.requested_at desc, r.id desc limit $2`,
    values: [idsOf(among), limit, NAMES + 1],
  });
  return rows.map((row) => ({
    id: row.id,
    scope: row.scope,
    trigger: row.trigger,
    state: row.state,
    requestedBy: row.requested_by,
    reason: row.reason ?? undefined,
    requestedAt: row.requested_at,
    startedAt: row.started_at ?? undefined,
    finishedAt: row.finished_at ?? undefined,
    durationMs: row.duration_ms === null ? undefined : Number(row.duration_ms),
    projectNames: row.names.slice(0, NAMES),
    moreProjects: row.names.length > NAMES,
  }));
}

function dueProject(row: DueRow): DueProject {
  return {
    projectId: row.project_id,
    projectName: row.project_name,
    keyId: row.key_id,
    madeAt: row.made_at,
    dueAt: row.due_at ?? undefined,
  };
}
