-- When versions are rotated by themselves: policies that can be switched off, spread over days and kept to quiet hours; and what
-- several processes that look at them have to agree on.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create sequence keyring.policy_revisions;
grant usage on sequence keyring.policy_revisions to keyring_service;

alter table keyring.rotation_policies
  add column enabled boolean not null default true,
  add column reason text check (length(reason) between 1 and 1000),
  add column jitter interval check (jitter >= interval '0'),
  add column quiet_hours jsonb check (jsonb_typeof(quiet_hours) = 'object'),
  add column destroy_after_retention boolean not null default true,
  -- Of a sequence: a policy that was removed and made anew is not taken for the one that somebody saw before.
  add column revision bigint not null default nextval('keyring.policy_revisions'),
  add column changed_at timestamptz not null default now(),
  add column changed_by text check (length(changed_by) between 1 and 200),
  add constraint rotation_policies_off_with_reason check (enabled or reason is not null);
comment on column keyring.rotation_policies.jitter is
  'How far before its age is reached a version may be due, each project at its own place. Null: a tenth of the age, 7 days at most';
comment on column keyring.rotation_policies.quiet_hours is
  'Null: rotations begin at any time. Otherwise a time zone with windows of days and times, or with a cron expression';
comment on column keyring.rotation_policies.revision is 'Changes are compare-and-set on it';

alter table keyring.rotations drop constraint rotations_trigger_check;
alter table keyring.rotations add constraint rotations_trigger_check
  check (trigger in ('manual', 'api', 'usage', 'schedule', 'compromise'));
alter table keyring.rotations add column planned_for timestamptz;
comment on column keyring.rotations.planned_for is
  'Of one that was asked for by a policy: when the first of its projects might have begun. Later than that by more than minutes, it was late';

-- Of every project with a key, the dates of its primary version. A span of a policy is elapsed time: no time zone of a session
-- has a say. Due dates are of full hours, rounded down, so that what is due together is rotated together.
-- Nothing in it keeps the planner from looking up a few projects by their ids.
create view keyring.scheduled_projects with (security_invoker = true) as
  select r.project_id, k.id as key_id, k.created_at as made_at, r.promoted_at,
    own.project_id is not null as own_policy, p.enabled, p.quiet_hours, p.max_encryptions, coalesce(u.reserved, 0) as encryptions,
    f.fraction,
    to_timestamp(extract(epoch from k.created_at)::double precision + p.age) as promised_at,
    to_timestamp(
      floor((extract(epoch from k.created_at)::double precision + p.age
        - least(coalesce(p.jitter, least(p.age / 10, 604800)), p.age - 86400) * f.fraction) / 3600) * 3600) as due_at
  from keyring.keyrings r
  join keyring.encryption_keys k on k.id = r.primary_key_id
  left join keyring.key_usage u on u.key_id = k.id
  left join keyring.rotation_policies own on own.project_id = r.project_id
  join keyring.rotation_policies general on general.project_id is null
  cross join lateral (
    select case when own.project_id is null then general.enabled else own.enabled end as enabled,
      case when own.project_id is null then general.quiet_hours else own.quiet_hours end as quiet_hours,
      case when own.project_id is null then general.max_encryptions else own.max_encryptions end as max_encryptions,
      extract(epoch from case when own.project_id is null then general.rotate_after else own.rotate_after end)::double precision
        as age,
      extract(epoch from case when own.project_id is null then general.jitter else own.jitter end)::double precision as jitter
  ) p
  -- Any number that is always the same for a project, and different for most: this one is made of its id.
  cross join lateral (
    select (uuid_hash_extended(r.project_id, 0) & 4294967295)::double precision / 4294967296 as fraction
  ) f;
comment on view keyring.scheduled_projects is
  'The primary version of every project, when it is due by age, and when its age reaches that of the policy (promised)';
grant select on keyring.scheduled_projects to keyring_service;

create function keyring.not_asked_before(of_project uuid, since timestamptz) returns timestamptz
  language sql stable set search_path = ''
  as $$
    select greatest(
      (select max(g.finished_at) + interval '24 hours' from keyring.rotation_projects g
        where g.project_id = of_project and g.state in ('rolled_back', 'canceled') and g.finished_at >= since),
      (select max(g.finished_at) + least(interval '24 hours', interval '1 hour' * power(2, least(count(*), 6) - 1))
        from keyring.rotation_projects g
        where g.project_id = of_project and g.state = 'failed' and g.finished_at >= since))
  $$;
comment on function keyring.not_asked_before(uuid, timestamptz) is
  'When a project is due again whose rotation did not complete since its version was promoted: 24 hours after it was turned back or '
  'canceled; 1, 2, 4 hours and so on, 24 at most, after it failed. Null: at once';
revoke execute on function keyring.not_asked_before(uuid, timestamptz) from public;
grant execute on function keyring.not_asked_before(uuid, timestamptz) to keyring_service;

create or replace view keyring.due_projects with (security_invoker = true) as
  select d.project_id, d.key_id, d.by_age, d.due_at, d.by_usage
  from (
    select s.project_id, s.key_id, s.due_at <= now() as by_age, s.due_at, s.promoted_at,
      s.encryptions >= s.max_encryptions
        -- 0.9 × 2^32, the default: nobody waits there.
        and (s.promoted_at <= now() - interval '1 hour' or s.encryptions >= 3865470566) as by_usage
    from keyring.scheduled_projects s where s.enabled
  ) d
  where (d.by_age or d.by_usage) and coalesce(keyring.not_asked_before(d.project_id, d.promoted_at), '-infinity') <= now();
comment on view keyring.due_projects is
  'Projects whose primary version is due by age or has encrypted too often for its policy, quiet hours or not. Not for a while '
  'after a rotation of the project did not complete (not_asked_before). By use not in the first hour '
  'of a primary version, whose limit may be less than its own sweep needs, unless it reached 0.9 × 2^32';

create table keyring.schedule_turns (
  task text primary key check (task in ('request', 'overdue', 'destroy')),
  last_at timestamptz not null default '-infinity'
);
comment on table keyring.schedule_turns is
  'When each task of the schedule was last done, by whichever process. Its row is locked for as long as one does it';
insert into keyring.schedule_turns (task) values ('request'), ('overdue'), ('destroy');
alter table keyring.schedule_turns enable row level security;
alter table keyring.schedule_turns force row level security;
create policy keyring_roles on keyring.schedule_turns to keyring_owner, keyring_service using (true) with check (true);
grant select, update (last_at) on keyring.schedule_turns to keyring_service;

create table keyring.overdue_notices (
  key_id uuid primary key,
  project_id uuid not null references public.projects (id) on delete cascade,
  noticed_at timestamptz not null default now()
);
comment on table keyring.overdue_notices is
  'Primary versions that the trail has called overdue: each once. No foreign key to encryption_keys: those are of columns with ciphertext';
alter table keyring.overdue_notices enable row level security;
alter table keyring.overdue_notices force row level security;
create policy keyring_roles on keyring.overdue_notices to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, delete on keyring.overdue_notices to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003400' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
