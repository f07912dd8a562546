import type { RotationProject, RotationProjectState } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { Direction } from './rotation-store.ts';

/** Where one project of a rotation stands: what the engine works from. */
export interface ProjectProgress {
  readonly rotationId: string;
  readonly projectId: string;
  readonly projectName: string;
  readonly state: RotationProjectState;
  readonly direction: Direction;
  readonly sourceKeyId: string | undefined;
  readonly targetKeyId: string | undefined;
  readonly promoted: boolean;
}

// Says of a project's `state` that its rotation has not ended: the condition of the index one_open_rotation_per_project.
export const isOpen = `not in ('completed', 'rolled_back', 'canceled', 'failed')`;

interface ProgressRow {
  readonly rotation_id: string;
  readonly project_id: string;
  readonly project_name: string;
  readonly state: RotationProjectState;
  readonly direction: Direction;
  readonly source_key_id: string | null;
  readonly target_key_id: string | null;
  readonly promoted: boolean;
}

const progressColumns = `p.rotation_id, p.project_id, p.project_name, p.state, p.direction, p.source_key_id,
  p.target_key_id, p.promoted_at is not null as promoted`;

/** Is any project of the rotation not at an end? */
export async function hasUnfinished(database: Queryable, rotationId: string): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `select from keyring.rotation_projects p where p.rotation_id = $1 and p.state ${isOpen} limit 1`,
    values: [rotationId],
  });
  return rowCount > 0;
}

/** The projects of a rotation that may move in a direction: not at an end, nor blocked on the very same way. */
export async function selectMovable(database: Queryable, rotationId: string, direction: Direction): Promise<string[]> {
  const { rows } = await database.query<{ project_id: string }>({
    text: `select p.project_id from keyring.rotation_projects p
           where p.rotation_id = $1 and p.state ${isOpen} and (p.state <> 'blocked' or p.direction <> $2)
           order by p.project_id`,
    values: [rotationId, direction],
  });
  return rows.map((row) => row.project_id);
}

/**
 * Projects of the rotation $1 as rows to join with, of arrays that hold a value for each. Joined on rotation and project, each is looked
 * up by the primary key. With the rotation as a condition of its own, PostgreSQL, which has no statistics of what was just asked for
 * and takes it to be small, reads all of it for every set. So it would with a `state` that is a condition of its own: there is an index of
 * those that are open.
 */
export function projectsOf(arrays: string, names: string, state?: RotationProjectState): string {
  const each = state === undefined ? '' : `'${state}'::text as state, `;
  return `(select $1::uuid as rotation_id, ${each}u.* from unnest(${arrays}) as u (${names}) offset 0)`;
}

export async function selectProgress(
  database: Queryable,
  rotationId: string,
  projectId: string,
): Promise<ProjectProgress | undefined> {
  const { rows } = await database.query<ProgressRow>({
    text: `select ${progressColumns} from keyring.rotation_projects p where p.rotation_id = $1 and p.project_id = $2`,
    values: [rotationId, projectId],
  });
  return rows[0] && toProgress(rows[0]);
}

/** `selectProgress` of many, by id. */
export async function selectProgresses(
  database: Queryable,
  rotationId: string,
  projectIds: readonly string[],
): Promise<ProjectProgress[]> {
  const { rows } = await database.query<ProgressRow>({
    text: `select ${progressColumns} from ${projectsOf('$2::uuid[]', 'project_id')} c
           join keyring.rotation_projects p on p.rotation_id = c.rotation_id and p.project_id = c.project_id
           order by p.project_id`,
    values: [rotationId, projectIds],
  });
  return rows.map(toProgress);
}

export interface ProjectMove {
  readonly to: RotationProjectState;
  readonly direction?: Direction;
  readonly sourceKeyId?: string;
  readonly targetKeyId?: string;
  readonly errorCode?: string;
  readonly errorDetail?: string;
}

const timeOfArrival: Partial<Record<RotationProjectState, string>> = {
  staged: 'staged_at',
  sweeping: 'promoted_at',
  verifying: 'swept_at',
  completed: 'finished_at',
  rolled_back: 'finished_at',
  canceled: 'finished_at',
  failed: 'finished_at',
};

/** Compare-and-set on the state the caller acted on: false when somebody else moved the project first. */
export async function moveProject(tx: Queryable, from: ProjectProgress, move: ProjectMove): Promise<boolean> {
  const arrival = timeOfArrival[move.to];
  const { rowCount } = await tx.query({
    text: `update keyring.rotation_projects p
           set state = $4, direction = coalesce($5, direction), source_key_id = coalesce($6, source_key_id),
             target_key_id = coalesce($7, target_key_id), error_code = $8, error_detail = $9
             ${arrival === undefined ? '' : `, ${arrival} = coalesce(${arrival}, now())`}
           where p.rotation_id = $1 and p.project_id = $2 and p.state = $3`,
    values: [
      from.rotationId,
      from.projectId,
      from.state,
      move.to,
      move.direction ?? null,
      move.sourceKeyId ?? null,
      move.targetKeyId ?? null,
      move.errorCode ?? null,
      move.errorDetail ?? null,
    ],
  });
  return rowCount === 1;
}

/** Sweeps begin or begin anew: what is left to move, on top of what was moved before. */
export async function noteRowsToMove(
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly rows: number }[],
): Promise<void> {
  await tx.query({
    text: `update keyring.rotation_projects p set rows_total = p.rows_moved + c.remaining, rows_quarantined = 0
           from ${projectsOf('$2::uuid[], $3::bigint[]', 'project_id, remaining')} c
           where p.rotation_id = c.rotation_id and p.project_id = c.project_id`,
    values: [rotationId, projects.map((one) => one.projectId), projects.map((one) => one.rows)],
  });
}

export async function noteRowsVerified(tx: Queryable, of: ProjectProgress, verified: number): Promise<void> {
  await tx.query({
    text: `update keyring.rotation_projects set rows_verified = $3, verified_at = now()
           where rotation_id = $1 and project_id = $2`,
    values: [of.rotationId, of.projectId, verified],
  });
}

/**
 * The end of proved projects of one rotation that stand at the same state: false when somebody else moved one of them. What was
 * counted to be moved was an estimate, since values were written and deleted meanwhile; what was moved is what there was.
 */
export async function endProjects(
  tx: Queryable,
  proved: readonly { readonly progress: ProjectProgress; readonly verified: number }[],
  to: 'completed' | 'rolled_back',
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.rotation_projects p
           set state = $2, finished_at = now(), error_code = null, error_detail = null, rows_verified = c.verified,
             verified_at = coalesce(verified_at, now()), rows_quarantined = 0, rows_total = rows_moved
           from ${projectsOf('$3::uuid[], $4::text[], $5::bigint[]', 'project_id, state, verified')} c
           where p.rotation_id = c.rotation_id and p.project_id = c.project_id and p.state = c.state`,
    values: [
      proved[0]?.progress.rotationId,
      to,
      proved.map(({ progress }) => progress.projectId),
      proved.map(({ progress }) => progress.state),
      proved.map(({ verified }) => verified),
    ],
  });
  return rowCount === proved.length;
}

/** Blocked projects are tried again, each from where it stood: before its promote, or in its sweep. */
export async function reopenBlocked(tx: Queryable, rotationId: string): Promise<void> {
  await tx.query({
    text: `update keyring.rotation_projects
           set state = case when direction = 'back' then 'rolling_back' when target_key_id is null then 'requested'
             when promoted_at is null then 'staged' else 'sweeping' end, error_code = null, error_detail = null
           where rotation_id = $1 and state = 'blocked'`,
    values: [rotationId],
  });
}

/** Ends those projects of a rotation that are not promoted: their ids, and the versions that were staged for them. */
export async function cancelUnpromoted(
  tx: Queryable,
  rotationId: string,
): Promise<{ projectId: string; targetKeyId: string | undefined }[]> {
  const { rows } = await tx.query<{ project_id: string; target_key_id: string | null }>({
    text: `update keyring.rotation_projects p
           set state = 'canceled', finished_at = now(), error_code = 'canceled', error_detail = null
           where p.rotation_id = $1 and p.promoted_at is null and p.state ${isOpen}
           returning p.project_id, p.target_key_id`,
    values: [rotationId],
  });
  return rows.map((row) => ({ projectId: row.project_id, targetKeyId: row.target_key_id ?? undefined }));
}

/** Projects of a rotation that cannot turn back: the version they came from may not be primary again. */
export async function selectNoWayBack(database: Queryable, rotationId: string): Promise<string[]> {
  const { rows } = await database.query<{ project_name: string }>({
    text: `select p.project_name from keyring.rotation_projects p
           join keyring.encryption_keys k on k.id = p.source_key_id
           where p.rotation_id = $1 and p.direction = 'forward' and k.state <> 'enabled'
             and p.state ${isOpen}
           order by p.project_name limit 20`,
    values: [rotationId],
  });
  return rows.map((row) => row.project_name);
}

/** Does an open rotation come from, or go to, this version? */
export async function isInOpenRotation(database: Queryable, projectId: string, keyId: string): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `select from keyring.rotation_projects
           where project_id = $1 and $2 in (source_key_id, target_key_id)
             and state ${isOpen}`,
    values: [projectId, keyId],
  });
  return rowCount > 0;
}

/** The emergency that moves a project's rows away from a compromised version, while it is open. */
export async function selectOpenEmergency(database: Queryable, projectId: string): Promise<string | undefined> {
  const { rows } = await database.query<{ rotation_id: string }>({
    text: `select p.rotation_id from keyring.rotation_projects p
           join keyring.rotations r on r.id = p.rotation_id and r.trigger = 'compromise'
           where p.project_id = $1 and p.state ${isOpen}`,
    values: [projectId],
  });
  return rows[0]?.rotation_id;
}

/** Ends whatever open rotation holds a project. */
export async function overtakeProject(
  tx: Queryable,
  projectId: string,
): Promise<{ rotationId: string; targetKeyId: string | undefined; promoted: boolean }[]> {
  const { rows } = await tx.query<{ rotation_id: string; target_key_id: string | null; promoted: boolean }>({
    text: `update keyring.rotation_projects
           set state = 'canceled', finished_at = now(), error_code = 'overtaken',
             error_detail = 'A compromise of its key overtook it.'
           where project_id = $1 and state ${isOpen}
           returning rotation_id, target_key_id, promoted_at is not null as promoted`,
    values: [projectId],
  });
  return rows.map((row) => ({
    rotationId: row.rotation_id,
    targetKeyId: row.target_key_id ?? undefined,
    promoted: row.promoted,
  }));
}

/** Puts a project into a rotation whose promote happens in the same transaction. */
export async function insertPromotedProject(
  tx: Queryable,
  project: { rotationId: string; projectId: string; sourceKeyId: string; targetKeyId: string },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.rotation_projects
             (rotation_id, project_id, project_name, state, source_key_id, target_key_id, staged_at, promoted_at)
           select $1, q.id, q.name, 'sweeping', $3, $4, now(), now() from public.projects q where q.id = $2`,
    values: [project.rotationId, project.projectId, project.sourceKeyId, project.targetKeyId],
  });
}

export async function countProjectStates(
  tx: Queryable,
  rotationId: string,
): Promise<Partial<Record<RotationProjectState, number>>> {
  const { rows } = await tx.query<{ state: RotationProjectState; projects: string }>({
    text: 'select state, count(*) as projects from keyring.rotation_projects where rotation_id = $1 group by state',
    values: [rotationId],
  });
  return Object.fromEntries(rows.map((row) => [row.state, Number(row.projects)]));
}

/** Up to 1,000 of a rotation's projects: the unfinished first, and of these the blocked. */
export async function selectProjectDetails(database: Queryable, rotationId: string): Promise<RotationProject[]> {
  const { rows } = await database.query<ProjectRow>({
    text: withVersions(
      `select * from keyring.rotation_projects p where p.rotation_id = $1`,
      `p.finished_at is not null, p.state = 'blocked' desc, p.project_name, p.project_id`,
      '1000',
    ),
    values: [rotationId],
  });
  return rows.map(rotationProject);
}

/** Those of them in a state, or all, in the order of the primary key. */
export async function selectProjects(
  database: Queryable,
  rotationId: string,
  { state, after, limit }: { state: RotationProjectState | undefined; after: string | undefined; limit: number },
): Promise<RotationProject[]> {
  const { rows } = await database.query<ProjectRow>({
    text: withVersions(
      `select * from keyring.rotation_projects p
       where p.rotation_id = $1 and ($2::text is null or p.state = $2) and ($3::uuid is null or p.project_id > $3)`,
      'p.project_id',
      '$4',
    ),
    values: [rotationId, state ?? null, after ?? null, limit],
  });
  return rows.map(rotationProject);
}

/** The versions are looked up for those that are given alone, not for all of a fleet before they are sorted. */
const withVersions = (projects: string, order: string, limit: string): string => `
  select p.project_id, p.project_name, p.state, p.direction, p.source_key_id, s.version as source_version,
    p.target_key_id, t.version as target_version, p.rows_total, p.rows_moved, p.rows_verified,
    p.rows_quarantined, p.error_code, p.error_detail, p.staged_at, p.promoted_at, p.swept_at, p.verified_at,
    p.finished_at
  from (${projects} order by ${order} limit ${limit}) p
  left join keyring.encryption_keys s on s.id = p.source_key_id
  left join keyring.encryption_keys t on t.id = p.target_key_id
  order by ${order}`;

interface ProjectRow {
  project_id: string;
  project_name: string;
  state: RotationProjectState;
  direction: Direction;
  source_key_id: string | null;
  source_version: number | null;
  target_key_id: string | null;
  target_version: number | null;
  rows_total: string | null;
  rows_moved: string;
  rows_verified: string;
  rows_quarantined: string;
  error_code: string | null;
  error_detail: string | null;
  staged_at: Date | null;
  promoted_at: Date | null;
  swept_at: Date | null;
  verified_at: Date | null;
  finished_at: Date | null;
}

function rotationProject(row: ProjectRow): RotationProject {
  return {
    projectId: row.project_id,
    projectName: row.project_name,
    state: row.state,
    direction: row.direction,
    sourceKeyId: row.source_key_id ?? undefined,
    sourceVersion: row.source_version ?? undefined,
    targetKeyId: row.target_key_id ?? undefined,
    targetVersion: row.target_version ?? undefined,
    rowsTotal: row.rows_total === null ? undefined : Number(row.rows_total),
    rowsMoved: Number(row.rows_moved),
    rowsVerified: Number(row.rows_verified),
    rowsQuarantined: Number(row.rows_quarantined),
    errorCode: row.error_code ?? undefined,
    errorDetail: row.error_detail ?? undefined,
    stagedAt: row.staged_at ?? undefined,
    promotedAt: row.promoted_at ?? undefined,
    sweptAt: row.swept_at ?? undefined,
    verifiedAt: row.verified_at ?? undefined,
    finishedAt: row.finished_at ?? undefined,
  };
}

function toProgress(row: ProgressRow): ProjectProgress {
  return {
    rotationId: row.rotation_id,
    projectId: row.project_id,
    projectName: row.project_name,
    state: row.state,
    direction: row.direction,
    sourceKeyId: row.source_key_id ?? undefined,
    targetKeyId: row.target_key_id ?? undefined,
    promoted: row.promoted,
  };
}
