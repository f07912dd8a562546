-- Which processes have the keyring open, and which root and wrapping keys each can use: a row a process, which it writes every few
-- seconds. A rotation of the keys above the data keys waits for those that are alive; nothing but its patience depends on the list
-- being right, for a process that meets a wrapping key it does not hold loads it.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.instances (
  id uuid primary key,
  host text not null check (length(host) between 1 and 255),
  pid integer not null,
  actor text not null check (length(actor) between 1 and 200),
  version text not null check (length(version) between 1 and 100),
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  usable_roots text[] not null default '{}',
  wrapping_keys uuid[] not null default '{}',
  troubles text[] not null default '{}'
) with (fillfactor = 50);
comment on table keyring.instances is 'One row a process. Gone when it closes its keyring, or an hour after it was last seen';
comment on column keyring.instances.usable_roots is 'Fingerprints of root keys through which it has unwrapped a wrapping key';
comment on column keyring.instances.wrapping_keys is 'Ids of the wrapping keys that it holds unwrapped';
comment on column keyring.instances.troubles is 'Root keys it was given and cannot use: where, and the code of the error. No credential';

alter table keyring.instances enable row level security;
alter table keyring.instances force row level security;
create policy keyring_roles on keyring.instances to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update, delete on keyring.instances to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127001100' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
