-- Who may do what: API tokens and sessions, only ever as digests, and grants. A person is `user:ID` (of Supabase Auth), `person:NAME`
-- (whom the operator named), or `operator` (who has a shell where the keyring runs).

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.grants (
  id uuid primary key default gen_random_uuid(),
  person text not null check (person = 'operator' or person ~ '^user:[0-9a-f-]{36}$' or person ~ '^person:[a-z0-9._@-]{1,100}$'),
  role text not null check (role in ('instance_admin', 'project_admin', 'auditor', 'service')),
  project_id uuid references public.projects (id) on delete cascade,
  reason text check (length(reason) <= 1000),
  granted_by text not null check (length(granted_by) between 1 and 200),
  granted_at timestamptz not null default clock_timestamp(),
  unique nulls not distinct (person, role, project_id),
  check (role <> 'instance_admin' or project_id is null)
);
comment on table keyring.grants is
  'Which person has which role, in a project or (null) in all of them. The owner of a project is not here: projects.owner says it';
create index grants_project on keyring.grants (project_id) where project_id is not null;

create table keyring.api_tokens (
  id uuid primary key default gen_random_uuid(),
  name text not null check (length(name) between 1 and 200),
  digest bytea not null unique check (octet_length(digest) = 32),
  role text check (role in ('instance_admin', 'project_admin', 'auditor', 'service')),
  permissions text[] check (cardinality(permissions) between 1 and 20),
  project_ids uuid[] check (cardinality(project_ids) between 1 and 1000),
  person text not null check (length(person) between 1 and 200),
  created_by text not null check (length(created_by) between 1 and 200),
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  last_used_at timestamptz,
  revoked_at timestamptz,
  revoked_by text check (length(revoked_by) between 1 and 200),
  check ((role is null) <> (permissions is null)),
  check (role is distinct from 'instance_admin' or project_ids is null),
  check ((revoked_at is null) = (revoked_by is null))
);
comment on table keyring.api_tokens is 'What a token may do, and its SHA-256. The token itself was shown once and is nowhere';
comment on column keyring.api_tokens.project_ids is 'Null: in all projects';
comment on column keyring.api_tokens.person is 'Who is answerable for it: the rule of two people takes it for this person';

create table keyring.sign_in_links (
  digest bytea primary key check (octet_length(digest) = 32),
  person text not null check (length(person) between 1 and 200),
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null
);
comment on table keyring.sign_in_links is 'A link that becomes a session, once: it is gone when it was used';

create table keyring.sessions (
  id uuid primary key default gen_random_uuid(),
  digest bytea not null unique check (octet_length(digest) = 32),
  person text not null check (length(person) between 1 and 200),
  created_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null
);
comment on column keyring.sessions.expires_at is 'The latest; a session that is idle ends before. One that was ended is gone';

create function keyring.guard_api_token() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    if (new.id, new.name, new.digest, new.role, new.permissions, new.project_ids, new.person, new.created_by, new.created_at,
        new.expires_at)
      is distinct from (old.id, old.name, old.digest, old.role, old.permissions, old.project_ids, old.person, old.created_by,
        old.created_at, old.expires_at)
    then
      raise exception 'what a token may do never changes: make another one' using errcode = 'MK004';
    end if;
    if old.revoked_at is not null then
      raise exception 'revoked is for good' using errcode = 'MK005';
    end if;
    return new;
  end
  $$;
create trigger guard_api_token before update on keyring.api_tokens
  for each row execute function keyring.guard_api_token();

alter table keyring.grants enable row level security;
alter table keyring.grants force row level security;
alter table keyring.api_tokens enable row level security;
alter table keyring.api_tokens force row level security;
alter table keyring.sign_in_links enable row level security;
alter table keyring.sign_in_links force row level security;
alter table keyring.sessions enable row level security;
alter table keyring.sessions force row level security;
create policy keyring_roles on keyring.grants to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.api_tokens to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.sign_in_links to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.sessions to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, delete on keyring.grants to keyring_service;
grant select, insert, update (last_used_at, revoked_at, revoked_by) on keyring.api_tokens to keyring_service;
grant select, insert, delete on keyring.sign_in_links to keyring_service;
grant select, insert, update (seen_at), delete on keyring.sessions to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003100' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
