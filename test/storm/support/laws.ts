const ENDED = `('completed', 'rolled_back', 'canceled', 'failed')`;

/** Claims, and the query that gives what violates each. */
export type Laws = Readonly<Record<string, string>>;

/** What holds at any moment of a storm, in any snapshot. */
export const always: Laws = {
  'every primary is enabled, was never rolled back, and has its key': `
    select r.project_id, k.version, k.state from keyring.keyrings r
    left join keyring.encryption_keys k on k.id = r.primary_key_id and k.project_id = r.project_id
    where k.state is distinct from 'enabled' or k.rolled_back_at is not null or k.activated_at is null
      or k.wrapped_key is null`,
  'a row is under its project’s primary version, unless a rotation of it is open': `
    select s.project_id, s.key, s.encryption_key_id from public.secrets s
    left join keyring.keyrings r on r.project_id = s.project_id
    where s.encryption_key_id is distinct from r.primary_key_id and not exists (
      select from keyring.rotation_projects p where p.project_id = s.project_id and p.state not in ${ENDED})`,
  'no row names a version that is suspended or destroyed': `
    select s.project_id, s.key, k.version, k.state from public.secrets s
    join keyring.encryption_keys k on k.id = s.encryption_key_id where k.state in ('disabled', 'destroyed')`,
  'a version has its bytes, exactly until it is destroyed': `
    select id, state from keyring.encryption_keys
    where (state = 'destroyed') <> (wrapped_key is null) or (state = 'destroyed') <> (destroyed_at is not null)`,
  'versions count up from one, without a gap': `
    select project_id, count(*), max(version) from keyring.encryption_keys group by 1
    having min(version) <> 1 or max(version) <> count(*)`,
  'an emergency marks the version that leaked in the transaction that it begins with': `
    select r.id, p.project_id from keyring.rotations r join keyring.rotation_projects p on p.rotation_id = r.id
    where r.trigger = 'compromise' and not exists (select from keyring.encryption_keys k
      where k.project_id = p.project_id and k.compromised_at <= r.requested_at)`,
  'a rotation is over when its projects are': `
    select r.id, r.state from keyring.rotations r where r.state in ${ENDED} and exists (
      select from keyring.rotation_projects p where p.rotation_id = r.id and p.state not in ${ENDED})`,
  'each finalized project has its receipt': `
    select p.rotation_id, p.project_id, p.state from keyring.rotation_projects p
    full join keyring.receipts r using (rotation_id, project_id)
    where (p.state in ('completed', 'rolled_back')) is distinct from (r.rotation_id is not null)`,
  'every end, and every move of a key, is in the trail once': `
    with ends as (
      select 'rotation.' || state as action, 'rotation:' || id as subject, null::uuid as project_id
      from keyring.rotations where state in ${ENDED}
      union all
      select case when error_code = 'overtaken' then 'rotation.project_overtaken' else 'rotation.project_' || state end,
        'rotation:' || rotation_id, project_id from keyring.rotation_projects where state in ${ENDED}
      union all
      select 'key.' || moved.word, 'key:' || k.id, k.project_id from keyring.encryption_keys k,
        lateral (values ('created', k.created_at), ('compromised', k.compromised_at), ('destroyed', k.destroyed_at),
          -- The first version of a project is primary from its creation.
          ('promoted', case when k.version > 1 then k.activated_at end)) as moved (word, at)
      where moved.at is not null
    ), entries as (
      select action, subject, project_id, count(*) as entries from keyring.audit_log
      where outcome = 'succeeded' group by 1, 2, 3
      union all
      select action, subject, project_id, count(*) from keyring.audit_log
      where outcome = 'failed' and action in ('rotation.failed', 'rotation.project_failed') group by 1, 2, 3
    )
    select e.action, e.subject, coalesce(t.entries, 0) as entries from ends e
    left join entries t on t.action = e.action and t.subject = e.subject
      and t.project_id is not distinct from coalesce(e.project_id, t.project_id)
    where coalesce(t.entries, 0) <> 1`,
  'a job of the queue is one try of a unit of a rotation, and holds no more than ids and numbers': `
    select j.id, j.state, j.retry_count, j.data from keyring_jobs.job j
    where j.retry_count <> 0 or j.retry_limit <> 0 or j.state = 'active' and j.heartbeat_on is null
      or not exists (select from keyring.rotations r where r.id::text = j.singleton_key and r.id::text = j.data ->> 'rotationId')
      or exists (select from jsonb_object_keys(j.data) field (name) where name not in
        ('kind', 'rotationId', 'projectIds', 'attempt', 'partRows', 'label', 'fromBlock', 'toBlock', 'rows'))`,
};

/** What holds once everything that was open has been driven to an end. */
export const inCalm: Laws = {
  'no rotation is open': `select id, state from keyring.rotations where state not in ${ENDED} or finished_at is null`,
  'no project of a rotation is open': `
    select rotation_id, project_id, state from keyring.rotation_projects where state not in ${ENDED} or finished_at is null`,
  'nothing failed': `select rotation_id, project_id from keyring.rotation_projects where state = 'failed'`,
  'a version that encrypted once and does no longer is retired': `
    select k.id, k.state from keyring.encryption_keys k
    where k.activated_at is not null and k.retention_until is null and k.state <> 'destroyed'
      and not exists (select from keyring.keyrings r where r.primary_key_id = k.id)`,
};

/** @throws Error naming the first law that is violated, and by what. */
export async function requireLaws(laws: Laws, sql: (text: string) => Promise<object[]>): Promise<void> {
  for (const [claim, violations] of Object.entries(laws)) {
    const [first] = await sql(violations);
    if (first !== undefined) throw new Error(`It is not so that ${claim}: ${JSON.stringify(first)}`);
  }
}
