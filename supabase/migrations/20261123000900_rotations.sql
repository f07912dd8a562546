-- A rotation is a set of projects with a target version each. Each project moves, and finalizes, alone.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.rotation_policies (
  project_id uuid references public.projects (id) on delete cascade,
  rotate_after interval not null default '90 days' check (rotate_after >= interval '24 hours'),
  retention interval not null default '30 days' check (retention >= interval '0'),
  unique nulls not distinct (project_id)
);
comment on column keyring.rotation_policies.project_id is 'Null is the default for every project without a row of its own';
insert into keyring.rotation_policies (project_id) values (null);

create table keyring.rotations (
  id uuid primary key,
  scope text not null check (scope in ('projects', 'all')),
  trigger text not null check (trigger in ('manual', 'api')),
  state text not null default 'requested' check (state in (
    'requested', 'running', 'paused', 'blocked', 'rolling_back', 'completed', 'rolled_back', 'canceled', 'failed')),
  direction text not null default 'forward' check (direction in ('forward', 'back')),
  requested_by text not null check (length(requested_by) between 1 and 200),
  reason text check (length(reason) <= 1000),
  requested_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  -- Who drives it now. A hint that spares two processes the same work: driving it twice does no harm.
  runner text,
  runner_until timestamptz
);
create index rotations_by_time on keyring.rotations (requested_at desc, id desc);
create index rotations_open on keyring.rotations (requested_at)
  where state in ('requested', 'running', 'paused', 'blocked', 'rolling_back');

create table keyring.rotation_projects (
  rotation_id uuid not null references keyring.rotations (id),
  project_id uuid not null,
  project_name text not null,
  state text not null default 'requested' check (state in (
    'requested', 'staged', 'sweeping', 'verifying', 'completed', 'blocked', 'rolling_back', 'rolled_back', 'canceled',
    'failed')),
  direction text not null default 'forward' check (direction in ('forward', 'back')),
  source_key_id uuid,
  target_key_id uuid,
  rows_total bigint,
  rows_moved bigint not null default 0,
  rows_verified bigint not null default 0,
  rows_quarantined bigint not null default 0,
  error_code text,
  error_detail text,
  staged_at timestamptz,
  promoted_at timestamptz,
  swept_at timestamptz,
  verified_at timestamptz,
  finished_at timestamptz,
  primary key (rotation_id, project_id)
) with (fillfactor = 70);
comment on table keyring.rotation_projects is
  'No foreign key to projects: what a rotation did outlives the project. The name is kept as it was';
create unique index one_open_rotation_per_project on keyring.rotation_projects (project_id)
  where state not in ('completed', 'rolled_back', 'canceled', 'failed');

create function keyring.guard_rotation_project() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    if (new.rotation_id, new.project_id) is distinct from (old.rotation_id, old.project_id) then
      raise exception 'the identity of a rotation never changes' using errcode = 'MK004';
    end if;
    if old.source_key_id is not null and new.source_key_id is distinct from old.source_key_id
      or old.target_key_id is not null and new.target_key_id is distinct from old.target_key_id
    then
      raise exception 'source and target of a rotation never change once set' using errcode = 'MK004';
    end if;
    if old.direction = 'back' and new.direction <> 'back' then
      raise exception 'a rollback is not turned around' using errcode = 'MK005';
    end if;
    if new.state <> old.state and not (case old.state
      when 'requested' then new.state in ('staged', 'blocked', 'canceled', 'failed')
      when 'staged' then new.state in ('sweeping', 'blocked', 'canceled', 'failed')
      when 'sweeping' then new.state in ('verifying', 'blocked', 'rolling_back', 'canceled')
      when 'verifying' then new.state in ('completed', 'sweeping', 'blocked', 'rolling_back', 'rolled_back', 'canceled')
      when 'blocked' then new.state in ('requested', 'staged', 'sweeping', 'rolling_back', 'canceled')
      when 'rolling_back' then new.state in ('rolled_back', 'blocked', 'canceled')
      else false
    end) then
      raise exception 'a rotation does not go from % to %', old.state, new.state using errcode = 'MK005';
    end if;
    return new;
  end
  $$;
create trigger guard_rotation_project before update on keyring.rotation_projects
  for each row execute function keyring.guard_rotation_project();

create table keyring.quarantine (
  id bigint generated always as identity primary key,
  rotation_id uuid not null references keyring.rotations (id),
  project_id uuid not null references public.projects (id) on delete cascade,
  label text not null,
  row_id text not null,
  encryption_key_id uuid,
  reason text not null check (reason in ('does_not_open', 'malformed', 'unknown_key', 'key_unavailable')),
  noticed_at timestamptz not null default now(),
  unique (project_id, label, row_id)
);
comment on table keyring.quarantine is 'Rows that would not open, with a reason and never a value. Gone once they open';

-- A project's end, cascaded here from `projects`: its rotation ends with it, and the trail says so.
create function keyring.note_keyring_end() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    if pg_catalog.pg_trigger_depth() < 2 or exists (select from public.projects p where p.id = old.project_id) then
      raise exception 'a keyring lives as long as its project' using errcode = 'MK005';
    end if;
    update keyring.rotation_projects
      set state = 'canceled', finished_at = pg_catalog.now(), error_code = 'project_deleted'
      where project_id = old.project_id and state not in ('completed', 'rolled_back', 'canceled', 'failed');
    insert into keyring.audit_log (actor, action, outcome, project_id, subject)
      values ('database:' || session_user, 'project.deleted', 'succeeded', old.project_id, 'project:' || old.project_id);
    return old;
  end
  $$;
create trigger note_keyring_end before delete on keyring.keyrings
  for each row execute function keyring.note_keyring_end();

alter table keyring.rotation_policies enable row level security;
alter table keyring.rotation_policies force row level security;
alter table keyring.rotations enable row level security;
alter table keyring.rotations force row level security;
alter table keyring.rotation_projects enable row level security;
alter table keyring.rotation_projects force row level security;
alter table keyring.quarantine enable row level security;
alter table keyring.quarantine force row level security;
create policy keyring_roles on keyring.rotation_policies to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.rotations to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.rotation_projects to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.quarantine to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update, delete on keyring.rotation_policies to keyring_service;
grant select, insert, update on keyring.rotations to keyring_service;
grant select, insert, update on keyring.rotation_projects to keyring_service;
grant select, insert, update, delete on keyring.quarantine to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000900' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
