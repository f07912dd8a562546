import type { ProjectIds, Rotation, RotationPace, RotationProjectState, RotationState } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { Pacing } from './pacer.ts';

export type Direction = 'forward' | 'back';

interface RotationRow {
  readonly id: string;
  readonly scope: Rotation['scope'];
  readonly trigger: Rotation['trigger'];
  readonly state: RotationState;
  readonly requested_by: string;
  readonly reason: string | null;
  readonly requested_at: Date;
  readonly started_at: Date | null;
  readonly finished_at: Date | null;
  readonly planned_for: Date | null;
  readonly duration_ms: string | null;
  readonly runner: string | null;
  readonly pace: RotationPace;
  readonly max_rate: number | null;
  readonly projects: Partial<Record<RotationProjectState, number>>;
  readonly rows_total: string;
  readonly rows_moved: string;
  readonly rows_verified: string;
  readonly rows_quarantined: string;
}

// An emergency is never polite, whatever its row says: a program from before the columns may have written it.
const pacing = `
  case when trigger = 'compromise' then 'full' else pace end as pace,
  case when trigger <> 'compromise' then max_rate end as max_rate`;

// Whoever drives a rotation holds it for seconds from now. What ends much later was written before the clock of the server was set back.
const held = `runner_until between now() and now() + interval '1 minute'`;

const selectRotation = `
  select r.id, r.scope, r.trigger, r.state, r.requested_by, r.reason, r.requested_at, r.started_at, r.finished_at,
    r.planned_for, (extract(epoch from coalesce(r.finished_at, now()) - r.started_at) * 1000)::bigint as duration_ms,
    case when r.${held} then r.runner end as runner, ${pacing},
    coalesce(p.projects, '{}') as projects, coalesce(p.total, 0) as rows_total, coalesce(p.moved, 0) as rows_moved,
    coalesce(p.verified, 0) as rows_verified, coalesce(p.quarantined, 0) as rows_quarantined
  from keyring.rotations r
  left join lateral (
    select jsonb_object_agg(s.state, s.projects) as projects, sum(s.total) as total, sum(s.moved) as moved,
      sum(s.verified) as verified, sum(s.quarantined) as quarantined
    from (
      select p.state, count(*) as projects, sum(p.rows_total) as total, sum(p.rows_moved) as moved,
        sum(p.rows_verified) as verified, sum(p.rows_quarantined) as quarantined
      from keyring.rotation_projects p where p.rotation_id = r.id group by p.state
    ) s
  ) p on true`;

export async function insertRotation(
  tx: Queryable,
  rotation: {
    id: string;
    scope: Rotation['scope'];
    trigger: Rotation['trigger'];
    requestedBy: string;
    reason: string | undefined;
    pacing: Pacing;
    /** Of one that a policy asks for: when the first of its projects might have begun. */
    plannedFor?: Date | undefined;
  },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.rotations (id, scope, trigger, requested_by, reason, pace, max_rate, planned_for)
           values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    values: [
      rotation.id,
      rotation.scope,
      rotation.trigger,
      rotation.requestedBy,
      rotation.reason ?? null,
      rotation.pacing.pace,
      rotation.pacing.maxRate ?? null,
      rotation.plannedFor ?? null,
    ],
  });
}

export async function selectRotationById(database: Queryable, id: string): Promise<Rotation | undefined> {
  const { rows } = await database.query<RotationRow>({ text: `${selectRotation} where r.id = $1`, values: [id] });
  return rows[0] && toRotation(rows[0]);
}

export interface RotationPage {
  readonly limit: number;
  readonly before?: string | undefined;
  readonly among?: ProjectIds | undefined;
  readonly state?: RotationState | undefined;
  readonly projectId?: string | undefined;
}

export async function selectRotations(
  database: Queryable,
  { limit, before, among = 'all', state, projectId }: RotationPage,
): Promise<Rotation[]> {
  const { rows } = await database.query<RotationRow>({
    text: `${selectRotation}
           where ($2::uuid is null
               or (r.requested_at, r.id) < (
                 select b.requested_at, b.id from keyring.rotations b
                 where b.id = $2 and ($3::uuid[] is null or (${isOf('b.id', '$3')}))))
             and ($3::uuid[] is null or (${isOf('r.id', '$3')}))
             and ($4::text is null or r.state = $4)
             and ($5::uuid is null or exists (
               select from keyring.rotation_projects p where p.rotation_id = r.id and p.project_id = $5))
           order by r.requested_at desc, r.id desc limit $1`,
    values: [limit, before ?? null, among === 'all' ? null : among, state ?? null, projectId ?? null],
  });
  return rows.map(toRotation);
}

/** A rotation none of whose projects is left is nobody's. */
function isOf(rotationId: string, projects: string): string {
  return `exists (select from keyring.rotation_projects p where p.rotation_id = ${rotationId})
    and not exists (select from keyring.rotation_projects p
      where p.rotation_id = ${rotationId} and p.project_id <> all (${projects}::uuid[]))`;
}

export async function isRotationAmong(database: Queryable, id: string, among: ProjectIds): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `select from keyring.rotations r where r.id = $1 and ($2::uuid[] is null or (${isOf('r.id', '$2')}))`,
    values: [id, among === 'all' ? null : among],
  });
  return rowCount > 0;
}

/** Where a rotation is going now, and how fast. */
export interface Course {
  readonly state: RotationState;
  readonly direction: Direction;
  readonly pacing: Pacing;
}

interface CourseRow {
  readonly state: RotationState;
  readonly direction: Direction;
  readonly pace: RotationPace;
  readonly max_rate: number | null;
}

const toCourse = ({ state, direction, pace, max_rate: maxRate }: CourseRow): Course => ({
  state,
  direction,
  pacing: { pace, maxRate: maxRate ?? undefined },
});

export async function selectCourse(database: Queryable, id: string): Promise<Course | undefined> {
  const { rows } = await database.query<CourseRow>({
    text: `select state, direction, ${pacing} from keyring.rotations where id = $1`,
    values: [id],
  });
  return rows[0] && toCourse(rows[0]);
}

/** Open, wanting a runner, and without a live one: emergencies before all others, which may be more than the limit. */
export async function selectWaiting(database: Queryable, trigger?: Rotation['trigger']): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>({
    text: `select id from keyring.rotations
           where state in ('requested', 'running', 'rolling_back')
             and (${held}) is not true and ($1::text is null or trigger = $1)
           order by trigger <> 'compromise', requested_at, id limit 100`,
    values: [trigger ?? null],
  });
  return rows.map((row) => row.id);
}

export async function lockRotation(tx: Queryable, id: string): Promise<Course | undefined> {
  const { rows } = await tx.query<CourseRow>({
    text: `select state, direction, ${pacing} from keyring.rotations where id = $1 for update`,
    values: [id],
  });
  return rows[0] && toCourse(rows[0]);
}

export async function updatePacing(tx: Queryable, id: string, { pace, maxRate }: Pacing): Promise<void> {
  await tx.query({
    text: 'update keyring.rotations set pace = $2, max_rate = $3 where id = $1',
    values: [id, pace, maxRate ?? null],
  });
}

/** Moves a rotation's state, sets the times that go with it, and lets go of the runner when it ends. */
export async function updateRotationState(
  tx: Queryable,
  id: string,
  { state, direction }: { state: RotationState; direction?: Direction },
): Promise<void> {
  await tx.query({
    text: `update keyring.rotations
           set state = $2, direction = coalesce($3, direction),
             started_at = case when $2 in ('running', 'rolling_back') then coalesce(started_at, now()) else started_at end,
             finished_at = case when $2 in ('completed', 'rolled_back', 'canceled', 'failed') then now() end
           where id = $1`,
    values: [id, state, direction ?? null],
  });
}

/** Takes or keeps the rotation for `runner`, unless another one is alive. Gives its course, or undefined when not taken. */
export async function holdRotation(
  database: Queryable,
  { id, runner, forMs }: { id: string; runner: string; forMs: number },
): Promise<Course | undefined> {
  const { rows } = await database.query<CourseRow>({
    text: `update keyring.rotations set runner = $2, runner_until = now() + make_interval(secs => $3::double precision / 1000)
           where id = $1 and (runner = $2 or (${held}) is not true)
           returning state, direction, ${pacing}`,
    values: [id, runner, forMs],
  });
  return rows[0] && toCourse(rows[0]);
}

export async function releaseRotation(database: Queryable, id: string, runner: string): Promise<void> {
  await database.query({
    text: 'update keyring.rotations set runner = null, runner_until = null where id = $1 and runner = $2',
    values: [id, runner],
  });
}

function toRotation(row: RotationRow): Rotation {
  const total = Object.values(row.projects).reduce((sum, count) => sum + count, 0);
  return {
    id: row.id,
    scope: row.scope,
    trigger: row.trigger,
    state: row.state,
    requestedBy: row.requested_by,
    reason: row.reason ?? undefined,
    requestedAt: row.requested_at,
    startedAt: row.started_at ?? undefined,
    finishedAt: row.finished_at ?? undefined,
    plannedFor: row.planned_for ?? undefined,
    durationMs: row.duration_ms === null ? undefined : Number(row.duration_ms),
    runner: row.runner ?? undefined,
    pace: row.pace,
    maxRate: row.max_rate ?? undefined,
    projects: { ...row.projects, total },
    rows: {
      total: Number(row.rows_total),
      moved: Number(row.rows_moved),
      verified: Number(row.rows_verified),
      quarantined: Number(row.rows_quarantined),
    },
  };
}
