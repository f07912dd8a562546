import type { OffProject, OverdueProject, ReportedKey, ReportedRotation } from '../api-monitoring.ts';
import type { Queryable } from '../db/port.ts';

/** Pages of so many. */
export const PAGE = 500;

export interface Range {
  readonly since: Date;
  readonly until: Date;
}

interface RotationRow {
  readonly id: string;
  readonly kind: ReportedRotation['kind'];
  readonly trigger: string;
  readonly state: string;
  readonly requested_by: string;
  readonly reason: string | null;
  readonly requested_at: Date;
  readonly started_at: Date | null;
  readonly finished_at: Date | null;
  readonly duration_ms: string | null;
  readonly projects: Record<string, number>;
  readonly total: string;
  readonly moved: string;
  readonly verified: string;
  readonly quarantined: string;
  readonly errors: string[];
  readonly receipts: string;
  readonly signing_keys: string[];
  readonly place: string;
}

/** Rotations of any kind that were open at some moment of the range, the oldest first, after a place in their order. */
export async function selectReportedRotations(
  database: Queryable,
  { since, until }: Range,
  after: { readonly place: string; readonly id: string } | undefined,
): Promise<{ rotations: ReportedRotation[]; last: { place: string; id: string } | undefined }> {
  const { rows } = await database.query<RotationRow>({
    text: `with page as (
             (select 'data_key' as kind, r.id, r.trigger, r.state, r.requested_by, r.reason, r.requested_at,
                r.started_at, r.finished_at, null::text as error_code, null::bigint as keys_moved,
                null::bigint as keys_verified
              from keyring.rotations r
              where r.requested_at < $2 and (r.finished_at is null or r.finished_at >= $1)
                and ($3::timestamptz is null or (r.requested_at, r.id) > ($3::timestamptz, $4::uuid))
              order by r.requested_at, r.id limit ${String(PAGE)})
             union all
             (select u.kind || '_key', u.id, case when u.leaked then 'compromise' else 'manual' end, u.state,
                u.requested_by, u.reason, u.requested_at, u.prepared_at, u.finished_at, u.error_code, u.keys_moved,
                u.keys_verified
              from keyring.upper_rotations u
              where u.requested_at < $2 and (u.finished_at is null or u.finished_at >= $1)
                and ($3::timestamptz is null or (u.requested_at, u.id) > ($3::timestamptz, $4::uuid))
              order by u.requested_at, u.id limit ${String(PAGE)})
             order by requested_at, id limit ${String(PAGE)}
           )
           select g.id, g.kind, g.trigger, g.state, g.requested_by, g.reason, g.requested_at, g.started_at, g.finished_at,
             (extract(epoch from g.finished_at - coalesce(g.started_at, g.requested_at)) * 1000)::bigint as duration_ms,
             coalesce(p.projects, '{}') as projects, coalesce(p.total, 0) as total,
             coalesce(g.keys_moved, p.moved, 0) as moved, coalesce(g.keys_verified, p.verified, 0) as verified,
             coalesce(p.quarantined, 0) as quarantined,
             array_remove(array_append(coalesce(p.errors, '{}'), g.error_code), null) as errors,
             coalesce(c.receipts, 0) as receipts, coalesce(c.signing_keys, '{}') as signing_keys,
             g.requested_at::text as place
           from page g
           left join lateral (
             select jsonb_object_agg(s.state, s.projects) as projects, sum(s.projects) as total, sum(s.moved) as moved,
               sum(s.verified) as verified, sum(s.quarantined) as quarantined,
               (select array_agg(distinct e.error_code order by e.error_code) from keyring.rotation_projects e
                where e.rotation_id = g.id and e.error_code is not null and e.state <> 'completed') as errors
             from (
               select p.state, count(*) as projects, sum(p.rows_moved) as moved, sum(p.rows_verified) as verified,
                 sum(p.rows_quarantined) as quarantined
               from keyring.rotation_projects p where p.rotation_id = g.id group by p.state
             ) s
           ) p on true
           left join lateral (
             select count(*) as receipts, array_agg(distinct c.signing_key_id::text) as signing_keys
             from keyring.receipts c where c.rotation_id = g.id
           ) c on true
           order by g.requested_at, g.id`,
    values: [since, until, after?.place ?? null, after?.id ?? null],
  });
  const last = rows.at(-1);
  return {
    rotations: rows.map((row) => ({
      id: row.id,
      kind: row.kind,
      trigger: row.trigger,
      outcome: row.state,
      requestedBy: row.requested_by,
      reason: row.reason ?? undefined,
      requestedAt: row.requested_at,
      startedAt: row.started_at ?? undefined,
      finishedAt: row.finished_at ?? undefined,
      durationMs: row.duration_ms === null ? undefined : Number(row.duration_ms),
      projects: { ...row.projects, total: Number(row.total) },
      moved: Number(row.moved),
      verified: Number(row.verified),
      quarantined: Number(row.quarantined),
      errors: row.errors,
      receipts: Number(row.receipts),
      signingKeys: row.signing_keys,
    })),
    last: last && { place: last.place, id: last.id },
  };
}

interface KeyRow {
  readonly kind: ReportedKey['kind'];
  readonly id: string;
  readonly project_id: string | null;
  readonly project_name: string | null;
  readonly version: number | null;
  readonly status: string;
  readonly fingerprint: string;
  readonly created_at: Date;
  readonly activated_at: Date | null;
  readonly deactivated_at: Date | null;
  readonly suspended_at: Date | null;
  readonly compromised_at: Date | null;
  readonly rolled_back_at: Date | null;
  readonly retention_until: Date | null;
  readonly destroyed_at: Date | null;
  readonly encryptions: string | null;
}

const toKey = (row: KeyRow): ReportedKey => ({
  kind: row.kind,
  id: row.id,
  projectId: row.project_id ?? undefined,
  projectName: row.project_name ?? undefined,
  version: row.version ?? undefined,
  status: row.status,
  fingerprint: row.fingerprint,
  createdAt: row.created_at,
  activatedAt: row.activated_at ?? undefined,
  deactivatedAt: row.deactivated_at ?? undefined,
  suspendedAt: row.suspended_at ?? undefined,
  compromisedAt: row.compromised_at ?? undefined,
  rolledBackAt: row.rolled_back_at ?? undefined,
  retentionUntil: row.retention_until ?? undefined,
  destroyedAt: row.destroyed_at ?? undefined,
  encryptions: row.encryptions === null ? undefined : Number(row.encryptions),
});

/** Root and wrapping keys: few. */
export async function selectReportedUpperKeys(database: Queryable, { since, until }: Range): Promise<ReportedKey[]> {
  const { rows } = await database.query<KeyRow>({
    text: `select 'root_key' as kind, r.id, null as project_id, null as project_name, null::int as version, r.state as status,
             r.fingerprint, r.created_at, null::timestamptz as activated_at, null::timestamptz as deactivated_at,
             null::timestamptz as suspended_at, null::timestamptz as compromised_at, null::timestamptz as rolled_back_at,
             null::timestamptz as retention_until, null::timestamptz as destroyed_at, null::bigint as encryptions
           from keyring.root_keys r where r.created_at < $2
           union all
           select 'wrapping_key', w.id, null, null, w.version,
             case when i.wrapping_key_id = w.id then 'active'
               when w.state = 'enabled' then case when w.promoted_at is null then 'pre-activation' else 'deactivated' end
               when w.state = 'disabled' then 'suspended' else w.state end,
             left(encode(w.fingerprint, 'hex'), 16), w.created_at, w.promoted_at, null, w.disabled_at, w.compromised_at, null,
             null, w.destroyed_at, null
           from keyring.wrapping_keys w left join keyring.installation i on true
           where w.created_at < $2 and (w.destroyed_at is null or w.destroyed_at >= $1)
           order by kind, version, created_at`,
    values: [since, until],
  });
  return rows.map(toKey);
}

/** Versions of data keys that were there at some moment of the range, by project and version, after one of them. */
export async function selectReportedKeys(
  database: Queryable,
  { since, until }: Range,
  after: ReportedKey | undefined,
): Promise<ReportedKey[]> {
  const { rows } = await database.query<KeyRow>({
    text: `select 'data_key' as kind, k.id, k.project_id, p.name as project_name, k.version,
             case when k.state = 'destroyed' then 'destroyed' when k.state = 'compromised' then 'compromised'
               when k.state = 'disabled' then 'suspended' when r.primary_key_id = k.id then 'active'
               when k.activated_at is null then 'pre-activation' else 'deactivated' end as status,
             left(encode(k.fingerprint, 'hex'), 16) as fingerprint, k.created_at, k.activated_at, k.deactivated_at,
             k.disabled_at as suspended_at, k.compromised_at, k.rolled_back_at, k.retention_until, k.destroyed_at,
             coalesce(u.reserved, 0) as encryptions
           from keyring.encryption_keys k
           join public.projects p on p.id = k.project_id
           left join keyring.keyrings r on r.project_id = k.project_id
           left join keyring.key_usage u on u.key_id = k.id
           where k.created_at < $2 and (k.destroyed_at is null or k.destroyed_at >= $1)
             and ($3::uuid is null or (k.project_id, k.version) > ($3::uuid, $4::int))
           order by k.project_id, k.version limit ${String(PAGE)}`,
    values: [since, until, after?.projectId ?? null, after?.version ?? null],
  });
  return rows.map(toKey);
}

interface ScheduledRow {
  readonly project_id: string;
  readonly project_name: string;
  readonly key_id: string;
  readonly version: number;
  readonly made_at: Date;
  readonly promised_at: Date;
  readonly by_age: boolean;
  readonly encryptions: string;
  readonly reason: string | null;
}

// What `policies.overdue` says (schedule/due-store.ts), of all of them, a page at a time by id.
const overdue = `s.enabled and (s.promised_at + interval '1 hour' <= now() or s.encryptions >= 3865470566)`;

async function selectScheduled(database: Queryable, where: string, after: string | undefined): Promise<ScheduledRow[]> {
  const { rows } = await database.query<ScheduledRow>({
    text: `select s.project_id, p.name as project_name, s.key_id, k.version, s.made_at, s.promised_at, s.promised_at <= now() as by_age,
             s.encryptions, case when s.own_policy then own.reason else general.reason end as reason
           from keyring.scheduled_projects s
           join public.projects p on p.id = s.project_id
           join keyring.encryption_keys k on k.id = s.key_id
           left join keyring.rotation_policies own on own.project_id = s.project_id
           left join keyring.rotation_policies general on general.project_id is null
           where ${where} and ($1::uuid is null or s.project_id > $1::uuid)
           order by s.project_id limit ${String(PAGE)}`,
    values: [after ?? null],
  });
  return rows;
}

/** Projects that are overdue, whatever became of their last rotation, by id, after one of them. */
export async function selectOverdue(database: Queryable, after: string | undefined): Promise<OverdueProject[]> {
  return (await selectScheduled(database, overdue, after)).map((row) => ({
    projectId: row.project_id,
    projectName: row.project_name,
    keyId: row.key_id,
    version: row.version,
    because: row.by_age ? 'age' : 'use',
    keyCreatedAt: row.made_at,
    dueAt: row.by_age ? row.promised_at : undefined,
    encryptions: Number(row.encryptions),
  }));
}

/** Projects whose policy is off, by id, after one of them. */
export async function selectOff(database: Queryable, after: string | undefined): Promise<OffProject[]> {
  return (await selectScheduled(database, 'not s.enabled', after)).map((row) => ({
    projectId: row.project_id,
    projectName: row.project_name,
    keyId: row.key_id,
    version: row.version,
    reason: row.reason ?? undefined,
    keyCreatedAt: row.made_at,
    dueAt: row.promised_at,
    encryptions: Number(row.encryptions),
  }));
}
