import type { KeyPosition, KeyStatus, ProjectIds } from '../api.ts';
import type { QuietHours } from '../api-schedule.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { dueProjects } from './due-projects.ts';

export interface InventoryRow {
  readonly key_id: string;
  readonly project_id: string;
  readonly project_name: string;
  readonly version: number;
  readonly status: string;
  readonly active: boolean;
  readonly rows_naming: string;
  readonly fingerprint: Buffer;
  readonly created_at: Date;
  readonly activated_at: Date | null;
  readonly deactivated_at: Date | null;
  readonly retention_until: Date | null;
  readonly destroyed_at: Date | null;
  /** Of the primary version. */
  readonly scheduled: boolean | null;
  readonly due_at: Date | null;
  readonly promised_at: Date | null;
  readonly quiet_hours: QuietHours | null;
  readonly encryptions: string;
  readonly last_used_at: Date | null;
}

export interface PageOf {
  readonly among: ProjectIds;
  readonly projectId: string | undefined;
  readonly search: string | undefined;
  readonly status: KeyStatus | undefined;
  readonly due: boolean | undefined;
  readonly after: KeyPosition | undefined;
  readonly limit: number;
}

const isPrimary = 'r.primary_key_id = k.id';
const isDue = `(s.enabled and (s.due_at <= now() or s.encryptions >= s.max_encryptions))`;

// Each as a condition of its own, so that the planner can answer the rare ones by an index.
const hasStatus: Readonly<Record<KeyStatus, string>> = {
  'pre-activation': `k.state = 'enabled' and k.activated_at is null and ${isPrimary} is not true`,
  active: `k.state = 'enabled' and ${isPrimary}`,
  deactivated: `k.state = 'enabled' and k.activated_at is not null and ${isPrimary} is not true`,
  suspended: `k.state = 'disabled'`,
  compromised: `k.state = 'compromised'`,
  destroyed: `k.state = 'destroyed'`,
};

/**
 * What is told of versions of `projects`, a table of ids and names, by name, id and version. What rows name is counted for these projects
 * alone: counting for all there are would read the whole table of secrets.
 */
const inventory = (projects: string, conditions: string, most = ''): string => `
  with page as materialized (
    select k.id, k.project_id, p.name, k.version, k.state, k.fingerprint, k.created_at, k.activated_at, k.deactivated_at,
      k.retention_until, k.destroyed_at, coalesce(${isPrimary}, false) as active, coalesce(u.reserved, 0) as encryptions, u.last_used_at,
      s.enabled, s.due_at, s.promised_at, s.quiet_hours
    from ${projects} p
    join keyring.encryption_keys k on k.project_id = p.id
    left join keyring.keyrings r on r.project_id = p.id
    left join keyring.key_usage u on u.key_id = k.id
    left join keyring.scheduled_projects s on s.project_id = p.id and s.key_id = k.id
    where ${conditions}
    order by p.name, p.id, k.version ${most}
  ), counted as materialized (
    select n.encryption_key_id, sum(n.row_count) as rows_naming
    from keyring.seen_reference_counts((select array_agg(distinct g.project_id) from page g)) n
    group by n.encryption_key_id
  )
  select g.id as key_id, g.project_id, g.name as project_name, g.version,
    case
      when g.state = 'disabled' then 'suspended'
      when g.state <> 'enabled' then g.state
      when g.active then 'active'
      when g.activated_at is null then 'pre-activation'
      else 'deactivated'
    end as status,
    g.active, coalesce(c.rows_naming, 0) as rows_naming, g.fingerprint, g.encryptions, g.last_used_at, g.created_at, g.activated_at,
    g.deactivated_at, g.retention_until, g.destroyed_at,
    g.enabled as scheduled, g.due_at, g.promised_at, g.quiet_hours
  from page g left join counted c on c.encryption_key_id = g.id
  order by g.name, g.project_id, g.version`;

/** All versions of projects, or one version. */
export async function selectInventory(
  database: Queryable,
  {
    projectId,
    keyId,
    limit,
    among = 'all',
  }: {
    projectId?: string | undefined;
    keyId?: string | undefined;
    /** Of projects. */
    limit: number;
    among?: ProjectIds | undefined;
  },
): Promise<InventoryRow[]> {
  const projects = `(
    select p.id, p.name from public.projects p
    where ($1::uuid is null or p.id = $1)
      and ($4::uuid[] is null or p.id = any ($4))
      and ($2::uuid is null or p.id = (select k.project_id from keyring.encryption_keys k where k.id = $2))
      and exists (select from keyring.encryption_keys k where k.project_id = p.id)
    order by p.name, p.id limit $3
  )`;
  const { rows } = await database.query<InventoryRow>({
    text: inventory(projects, '$2::uuid is null or k.id = $2'),
    values: [projectId ?? null, keyId ?? null, limit, among === 'all' ? null : among],
  });
  return rows;
}

// So many are few; and so many projects are looked at, in their order, before all are.
const FEW = 1_000;

/**
 * Versions by the name and the id of their project and by version, after a position. Those that are due (or are not) may be few: they are
 * found by their ages. Where they are many, the first projects after the position are likely to have a page of them. Else all are found, and
 * sorted.
 */
export async function selectKeyPage(database: Database, page: PageOf): Promise<InventoryRow[]> {
  const { due, status, limit } = page;
  const isAsked = [
    ...(status === undefined ? [] : [hasStatus[status]]),
    ...(due === undefined ? [] : [`${isPrimary} and ${isDue} = ${String(due)}`]),
  ];
  const among = conditionsOf(page).join(' and ');
  const all = `(select p.id, p.name from public.projects p where ${among})`;
  if (isAsked.length === 0) return select(database, page, all, isAsked);
  if (due !== undefined) {
    const few = await selectFew(database, due);
    if (few !== undefined) {
      const those = `(select p.id, p.name from public.projects p where p.id = any ($8) and ${among})`;
      return transaction(database, (tx) => select(tx, page, those, isAsked, few), { byIndex: true });
    }
  }
  const first = `(select p.id, p.name from public.projects p where ${among} order by p.name, p.id limit ${String(FEW)})`;
  const some = await transaction(database, (tx) => select(tx, page, first, isAsked), { byIndex: true });
  if (some.length >= limit) return some;
  if (due === undefined) return select(database, page, all, isAsked);
  const inState =
    status === undefined ? '' : `join keyring.encryption_keys k on k.id = r.primary_key_id where ${hasStatus[status]}`;
  const found = `(
    select p.id, p.name from public.projects p
    where p.id in (select r.project_id from (${dueProjects(due)}) r ${inState}) and ${among}
    order by p.name, p.id limit $7::bigint + 1
  )`;
  return select(database, page, found, [isPrimary]);
}

/** All projects that are due (or are not), unless they are many. */
async function selectFew(database: Queryable, due: boolean): Promise<string[] | undefined> {
  const { rows } = await database.query<{ project_id: string }>({
    text: `select r.project_id from (${dueProjects(due)}) r limit $1`,
    values: [FEW + 1],
  });
  return rows.length > FEW ? undefined : rows.map((row) => row.project_id);
}

const conditionsOf = ({ after }: PageOf): string[] => [
  '($1::uuid[] is null or p.id = any ($1))',
  '($2::uuid is null or p.id = $2)',
  `($3::text is null or position(lower($3) in lower(p.name)) > 0)`,
  after === undefined ? '($4::text is null and $5::uuid is null)' : '(p.name, p.id) >= ($4, $5::uuid)',
];

async function select(
  queryable: Queryable,
  { among, projectId, search, after, limit }: PageOf,
  projects: string,
  conditions: readonly string[],
  ids?: readonly string[],
): Promise<InventoryRow[]> {
  const isAfter = after === undefined ? '$6::integer is null' : '((p.name, p.id) > ($4, $5::uuid) or k.version > $6)';
  const { rows } = await queryable.query<InventoryRow>({
    text: inventory(projects, [isAfter, ...conditions].join('\n and '), 'limit $7::bigint'),
    values: [
      among === 'all' ? null : among,
      projectId ?? null,
      search ?? null,
      after?.projectName ?? null,
      after?.projectId ?? null,
      after?.version ?? null,
      limit,
      ...(ids === undefined ? [] : [ids]),
    ],
  });
  return rows;
}
