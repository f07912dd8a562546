import type { ProjectIds } from '../api.ts';
import type { OverdueCause, OverduePosition, OverdueVersion, QuietHours } from '../api-schedule.ts';
import type { Queryable } from '../db/port.ts';

export type Task = 'request' | 'overdue' | 'destroy';

/**
 * Takes a task for this transaction, unless another process did it within `atMostEveryMs` before: others wait for the end of the
 * transaction, and then find that. A moment in the future counts for nothing: the clock was turned back since. Gives the
 * database's present moment.
 */
export async function takeTurn(tx: Queryable, task: Task, atMostEveryMs: number): Promise<Date | undefined> {
  const { rows } = await tx.query<{ last_at: Date }>({
    text: `update keyring.schedule_turns t set last_at = clock_timestamp()
           where t.task = $1 and not (t.last_at > clock_timestamp() - make_interval(secs => $2::double precision / 1000)
             and t.last_at <= clock_timestamp())
           returning t.last_at`,
    values: [task, atMostEveryMs],
  });
  return rows[0]?.last_at;
}

/** Gives a turn back: whoever looks next takes it. */
export async function giveTurnBack(database: Queryable, task: Task): Promise<void> {
  await database.query({
    text: `update keyring.schedule_turns set last_at = '-infinity' where task = $1`,
    values: [task],
  });
}

/** The different quiet hours of all policies, as they are stored. */
export async function selectQuietHours(tx: Queryable): Promise<{ stored: string; quietHours: QuietHours }[]> {
  const { rows } = await tx.query<{ stored: string; quiet_hours: QuietHours }>({
    text: `select distinct o.quiet_hours::text as stored, o.quiet_hours from keyring.rotation_policies o
           where o.enabled and o.quiet_hours is not null`,
  });
  return rows.map((row) => ({ stored: row.stored, quietHours: row.quiet_hours }));
}

/** Quiet hours that are open now. */
export interface OpenNow {
  readonly stored: string;
  readonly opens: Date;
  /** Undefined: never. */
  readonly closes: Date | undefined;
  /** When they open again; undefined: never. */
  readonly reopens: Date | undefined;
}

export interface Startable {
  readonly projectId: string;
  readonly keyId: string;
  readonly madeAt: Date;
  readonly dueAt: Date;
  readonly promisedAt: Date;
  readonly byAge: boolean;
  readonly quiet: string | undefined;
}

// 0.9 × 2^32: nobody waits there, for an hour to pass or for quiet hours.
const due = `
  s.enabled
  and case
    when s.encryptions >= 3865470566 then true
    when s.quiet_hours is not null and q.stored is null then false
    else s.due_at <= $1
      or s.encryptions >= s.max_encryptions and s.promoted_at <= $1 - interval '1 hour'
      or s.quiet_hours is not null and s.due_at >= q.closes and s.promised_at < q.reopens
        and s.made_at < q.opens and s.made_at <= $1 - interval '12 hours'
  end`;

/**
 * Projects whose rotation may begin now, and that are in no open one: what `mayStart` says of one, of all of them. In one snapshot, so
 * that whose rotation ends meanwhile is either in it or has its new version.
 */
export async function selectStartable(tx: Queryable, now: Date, open: readonly OpenNow[]): Promise<Startable[]> {
  const { rows } = await tx.query<{
    project_id: string;
    key_id: string;
    made_at: Date;
    due_at: Date;
    promised_at: Date;
    by_age: boolean;
    stored: string | null;
  }>({
    // One after the other: what became of earlier rotations is looked up for those alone that are due, and in no open one. Left to
    // itself, PostgreSQL asks it of every project first.
    text: `with due as materialized (
             select s.project_id, s.key_id, s.made_at, s.due_at, s.promised_at, s.promoted_at,
               s.due_at <= $1 or s.encryptions < s.max_encryptions as by_age, q.stored
             from keyring.scheduled_projects s
             left join unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) as q (stored, opens, closes, reopens)
               on q.stored::jsonb = s.quiet_hours
             where ${due}
           ), free as materialized (
             select d.* from due d
             where not exists (
               select from keyring.rotation_projects g
               where g.project_id = d.project_id and g.state not in ('completed', 'rolled_back', 'canceled', 'failed'))
           )
           select f.project_id, f.key_id, f.made_at, f.due_at, f.promised_at, f.by_age, f.stored
           from free f
           where coalesce(keyring.not_asked_before(f.project_id, f.promoted_at), '-infinity') <= $1
           order by f.project_id`,
    values: [
      now,
      open.map((one) => one.stored),
      open.map((one) => one.opens),
      open.map((one) => one.closes ?? 'infinity'),
      // What never closes never opens again, and has no last chance.
      open.map((one) => (one.closes === undefined ? '-infinity' : (one.reopens ?? 'infinity'))),
    ],
  });
  return rows.map((row) => ({
    projectId: row.project_id,
    keyId: row.key_id,
    madeAt: row.made_at,
    dueAt: row.due_at,
    promisedAt: row.promised_at,
    byAge: row.by_age,
    quiet: row.stored ?? undefined,
  }));
}

const overdue = `s.enabled and (s.promised_at + interval '1 hour' <= $1 or s.encryptions >= 3865470566)`;

/** The oldest first. Without `cause`, which needs the quiet hours, where nothing but waiting is known. */
export async function selectOverdue(
  database: Queryable,
  now: Date,
  { among, limit, after }: { among: ProjectIds; limit: number; after: OverduePosition | undefined },
): Promise<{
  total: number;
  next: OverduePosition | undefined;
  projects: (Omit<OverdueVersion, 'cause'> & { cause: OverdueCause | undefined; quietHours: QuietHours | undefined })[];
}> {
  const { rows } = await database.query<{
    total: string;
    project_id: string;
    /** Null in the one row of a page that is empty. */
    project_name: string | null;
    key_id: string;
    promised_at: Date;
    by_age: boolean;
    quiet_hours: QuietHours | null;
    open_state: string | null;
    rotation_state: string | null;
    rotation_id: string | null;
    error_code: string | null;
    ended_state: string | null;
    retry_at: Date | null;
  }>({
    text: `with overdue as materialized (
             select s.project_id, s.key_id, date_trunc('milliseconds', s.promised_at) as promised_at, s.promoted_at, s.quiet_hours,
               s.promised_at <= $1 as by_age
             from keyring.scheduled_projects s where ${overdue} and ($3::uuid[] is null or s.project_id = any ($3))
           )
           select t.total, s.*, p.name as project_name, g.open_state, r.state as rotation_state, g.rotation_id, g.error_code, g.ended_state,
             keyring.not_asked_before(s.project_id, s.promoted_at) as retry_at
           from (select count(*) as total from overdue) t
           left join (
             select s.* from overdue s
             where $4::timestamptz is null or (s.promised_at, s.project_id) > ($4, $5::uuid)
             order by s.promised_at, s.project_id limit $2::bigint + 1
           ) s on true
           left join public.projects p on p.id = s.project_id
           left join lateral (
             select g.rotation_id, g.error_code, case when g.finished_at is null then g.state end as open_state,
               case when g.finished_at is not null then g.state end as ended_state
             from keyring.rotation_projects g
             where g.project_id = s.project_id
               and (g.state not in ('completed', 'rolled_back', 'canceled', 'failed')
                 or g.state in ('rolled_back', 'canceled', 'failed') and g.finished_at >= s.promoted_at)
             order by g.finished_at desc nulls first limit 1
           ) g on true
           left join keyring.rotations r on r.id = g.rotation_id
           order by s.promised_at, s.project_id`,
    values: [now, limit, among === 'all' ? null : among, after?.promisedAt ?? null, after?.projectId ?? null],
  });
  const page = rows
    .slice(0, limit)
    .flatMap(({ project_name: name, ...row }) => (name === null ? [] : [{ ...row, name }]));
  const last = rows.length > limit ? page.at(-1) : undefined;
  return {
    total: Number(rows[0]?.total ?? 0),
    next: last && { promisedAt: last.promised_at, projectId: last.project_id },
    projects: page.map((row) => ({
      projectId: row.project_id,
      projectName: row.name,
      keyId: row.key_id,
      promisedAt: row.by_age ? row.promised_at : undefined,
      quietHours: row.quiet_hours ?? undefined,
      rotationId: row.rotation_id ?? undefined,
      errorCode: row.error_code ?? undefined,
      retryAt: row.retry_at !== null && row.retry_at > now ? row.retry_at : undefined,
      cause: causeOf(row.open_state, row.rotation_state, row.ended_state),
    })),
  };
}

function causeOf(open: string | null, rotation: string | null, ended: string | null): OverdueCause | undefined {
  if (open !== null) {
    if (open === 'blocked') return 'blocked';
    return rotation === 'paused' ? 'paused' : 'running';
  }
  if (ended === 'failed') return 'failed';
  return ended === null ? undefined : 'given_up';
}

/** Notes versions that became overdue, forgets those that are no longer primary, and gives the projects of the new ones, the oldest first. */
export async function noteOverdue(tx: Queryable, now: Date): Promise<string[]> {
  await tx.query({
    text: `delete from keyring.overdue_notices n
           where not exists (select from keyring.keyrings r where r.project_id = n.project_id and r.primary_key_id = n.key_id)`,
  });
  const { rows } = await tx.query<{ project_id: string }>({
    // Sorted, hence all of them known before the first is noted: the search for notices would read those of this very statement, too.
    text: `with became as materialized (
             select s.key_id, s.project_id, s.made_at from keyring.scheduled_projects s
             where ${overdue}
               and not exists (select from keyring.overdue_notices n where n.key_id = s.key_id)
             order by s.made_at, s.project_id
           ), noted as (
             insert into keyring.overdue_notices (key_id, project_id)
             select b.key_id, b.project_id from became b
             on conflict do nothing returning key_id
           )
           select b.project_id from became b join noted n using (key_id)
           order by b.made_at, b.project_id`,
    values: [now],
  });
  return rows.map((row) => row.project_id);
}
