-- Who does the work now: a row for each worker process, which it writes once a second. A worker that has not for five seconds
-- is taken for dead, and what it had is done by others; nothing but speed depends on the list being right.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.workers (
  id uuid primary key,
  host text not null check (length(host) between 1 and 255),
  pid integer not null,
  version text not null check (length(version) between 1 and 100),
  concurrency integer not null check (concurrency between 1 and 64),
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  -- {"units": [{"rotationId", "projects", "since"}], "driving": [rotation id, …]}: ids and numbers, no names.
  doing jsonb not null default '{"units": [], "driving": []}'
) with (fillfactor = 50);
comment on table keyring.workers is 'One row a worker process. Gone when it ends, or an hour after it was last seen';

alter table keyring.workers enable row level security;
alter table keyring.workers force row level security;
create policy keyring_roles on keyring.workers to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update, delete on keyring.workers to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127000400' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
