import type { ProjectIds } from '../api.ts';
import type { PolicyPosition, QuietHours } from '../api-schedule.ts';
import type { Queryable } from '../db/port.ts';
import type { PolicyTerms } from './policy.ts';

/** A row of `keyring.rotation_policies`. */
export interface StoredPolicy extends PolicyTerms {
  readonly projectId: string | undefined;
  readonly projectName: string | undefined;
  readonly revision: number;
  readonly changedAt: Date;
  readonly changedBy: string | undefined;
}

interface PolicyRow {
  readonly project_id: string | null;
  readonly project_name: string | null;
  readonly revision: string;
  readonly enabled: boolean;
  readonly reason: string | null;
  readonly rotate_after_ms: string;
  readonly max_encryptions: string;
  readonly jitter_ms: string | null;
  readonly quiet_hours: QuietHours | null;
  readonly retention_ms: string;
  readonly destroy_after_retention: boolean;
  readonly changed_at: Date;
  readonly changed_by: string | null;
}

const policyColumns = `o.project_id, (select p.name from public.projects p where p.id = o.project_id) as project_name, o.revision, o.enabled, o.reason, o.max_encryptions, o.quiet_hours, o.destroy_after_retention,
  o.changed_at, o.changed_by, (extract(epoch from o.rotate_after) * 1000)::bigint as rotate_after_ms,
  (extract(epoch from o.jitter) * 1000)::bigint as jitter_ms, (extract(epoch from o.retention) * 1000)::bigint as retention_ms`;

/** A project's own policy, if it has one, or the default. */
export async function selectPolicy(
  database: Queryable,
  projectId: string | undefined,
): Promise<StoredPolicy | undefined> {
  const { rows } = await database.query<PolicyRow>({
    text: `select ${policyColumns} from keyring.rotation_policies o where o.project_id is not distinct from $1::uuid`,
    values: [projectId ?? null],
  });
  return rows[0] && toPolicy(rows[0]);
}

export async function selectPolicies(
  database: Queryable,
  { among, limit, after }: { among: ProjectIds; limit: number; after: PolicyPosition | undefined },
): Promise<StoredPolicy[]> {
  const { rows } = await database.query<PolicyRow>({
    text: `select ${policyColumns} from keyring.rotation_policies o left join public.projects p on p.id = o.project_id
           where (o.project_id is null or $2::uuid[] is null or o.project_id = any ($2))
             and (not $3 or o.project_id is not null and ($5::uuid is null or (p.name, p.id) > ($4, $5)))
           order by o.project_id is not null, p.name, o.project_id limit $1`,
    values: [
      limit,
      among === 'all' ? null : among,
      after !== undefined,
      ...[after?.projectName ?? null, after?.projectId ?? null],
    ],
  });
  return rows.map(toPolicy);
}

/** Undefined when there is no such project. */
export async function selectProjectName(database: Queryable, projectId: string): Promise<string | undefined> {
  const { rows } = await database.query<{ name: string }>({
    text: 'select p.name from public.projects p where p.id = $1',
    values: [projectId],
  });
  return rows[0]?.name;
}

const spans = `make_interval(secs => $4::double precision / 1000), $5, make_interval(secs => $6::double precision / 1000), $7,
  make_interval(secs => $8::double precision / 1000), $9`;

/** Changes the row of this revision. Undefined when there is none any more. */
export async function updatePolicy(
  tx: Queryable,
  projectId: string | undefined,
  revision: number,
  terms: PolicyTerms,
  by: string,
): Promise<StoredPolicy | undefined> {
  const { rows } = await tx.query<PolicyRow>({
    text: `update keyring.rotation_policies o
           set (enabled, reason, rotate_after, max_encryptions, jitter, quiet_hours, retention, destroy_after_retention, changed_by,
               changed_at, revision) = ($2, $3, ${spans}, $10, now(), nextval('keyring.policy_revisions'))
           where o.project_id is not distinct from $1::uuid and o.revision = $11
           returning ${policyColumns}`,
    values: [...values(projectId, terms, by), revision],
  });
  return rows[0] && toPolicy(rows[0]);
}

/** A project's first policy of its own. Undefined when it has got one meanwhile, or is gone. */
export async function insertPolicy(
  tx: Queryable,
  projectId: string,
  terms: PolicyTerms,
  by: string,
): Promise<StoredPolicy | undefined> {
  const { rows } = await tx.query<PolicyRow>({
    text: `insert into keyring.rotation_policies as o
             (project_id, enabled, reason, rotate_after, max_encryptions, jitter, quiet_hours, retention, destroy_after_retention,
               changed_by)
           select p.id, $2, $3, ${spans}, $10 from public.projects p where p.id = $1
           on conflict (project_id) do nothing
           returning ${policyColumns}`,
    values: values(projectId, terms, by),
  });
  return rows[0] && toPolicy(rows[0]);
}

export async function deletePolicy(tx: Queryable, projectId: string, revision: number): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: 'delete from keyring.rotation_policies where project_id = $1 and revision = $2',
    values: [projectId, revision],
  });
  return rowCount === 1;
}

function values(projectId: string | undefined, terms: PolicyTerms, by: string): unknown[] {
  return [
    projectId ?? null,
    terms.enabled,
    terms.reason ?? null,
    terms.rotateAfterMs,
    terms.maxEncryptions,
    terms.ownJitterMs ?? null,
    terms.quietHours === undefined ? null : JSON.stringify(terms.quietHours),
    terms.retentionMs,
    terms.destroyAfterRetention,
    by,
  ];
}

function toPolicy(row: PolicyRow): StoredPolicy {
  return {
    projectId: row.project_id ?? undefined,
    projectName: row.project_name ?? undefined,
    revision: Number(row.revision),
    enabled: row.enabled,
    reason: row.reason ?? undefined,
    rotateAfterMs: Number(row.rotate_after_ms),
    maxEncryptions: Number(row.max_encryptions),
    ownJitterMs: row.jitter_ms === null ? undefined : Number(row.jitter_ms),
    quietHours: row.quiet_hours ?? undefined,
    retentionMs: Number(row.retention_ms),
    destroyAfterRetention: row.destroy_after_retention,
    changedAt: row.changed_at,
    changedBy: row.changed_by ?? undefined,
  };
}

/** The dates of a project's primary version. */
export interface ScheduledVersion {
  readonly madeAt: Date;
  readonly dueAt: Date;
  readonly promisedAt: Date;
  /** The project's place in the spread. */
  readonly fraction: number;
  /** Not to be asked for before: its last rotation did not complete. */
  readonly retryAt: Date | undefined;
}

interface VersionRow {
  readonly made_at: Date;
  readonly due_at: Date;
  readonly promised_at: Date;
  readonly fraction: number;
  readonly retry_at: Date | null;
}

/** Of a project; undefined while it has no key. */
export async function selectVersion(database: Queryable, projectId: string): Promise<ScheduledVersion | undefined> {
  return version(database, 's.project_id = $1', [projectId]);
}

/** Of the project by the default policy that is due first. */
export async function selectFirstByDefault(
  database: Queryable,
  among: ProjectIds,
): Promise<ScheduledVersion | undefined> {
  return version(
    database,
    'not s.own_policy and ($1::uuid[] is null or s.project_id = any ($1)) order by s.due_at, s.project_id limit 1',
    [among === 'all' ? null : among],
  );
}

async function version(database: Queryable, where: string, given: unknown[]): Promise<ScheduledVersion | undefined> {
  const { rows } = await database.query<VersionRow>({
    text: `select s.made_at, s.due_at, s.promised_at, s.fraction, keyring.not_asked_before(s.project_id, s.promoted_at) as retry_at
           from keyring.scheduled_projects s where ${where}`,
    values: given,
  });
  const [row] = rows;
  return (
    row && {
      ...{ madeAt: row.made_at, dueAt: row.due_at, promisedAt: row.promised_at, fraction: row.fraction },
      retryAt: row.retry_at ?? undefined,
    }
  );
}

/** The database's clock: the one that all processes share. */
export async function selectNow(database: Queryable): Promise<Date> {
  const { rows } = await database.query<{ now: Date }>({ text: 'select clock_timestamp() as now' });
  const [row] = rows;
  if (row === undefined) throw new TypeError('no clock');
  return row.now;
}
