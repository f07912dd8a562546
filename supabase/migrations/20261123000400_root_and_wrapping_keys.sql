-- The upper two layers of the hierarchy: root key (outside, in a provider) → wrapping key (here, only wrapped).

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.root_keys (
  id uuid primary key default gen_random_uuid(),
  uri text not null check (length(uri) between 1 and 2048),
  fingerprint text not null unique check (fingerprint ~ '^[0-9a-f]{32}$'),
  state text not null default 'enabled' check (state in ('enabled', 'disabled', 'compromised', 'destroyed')),
  created_at timestamptz not null default now()
);
comment on table keyring.root_keys is 'Root keys known here: where each lives and how to recognise it, never the key';

create table keyring.wrapping_keys (
  id uuid primary key,
  version integer not null unique check (version > 0),
  state text not null default 'enabled' check (state in ('enabled', 'disabled', 'compromised', 'destroyed')),
  fingerprint bytea not null check (octet_length(fingerprint) = 32),
  created_at timestamptz not null default now()
);
comment on column keyring.wrapping_keys.fingerprint is 'Key check value (HKDF), verified at every unwrap; commits to the key';

create table keyring.wrapped_wrapping_keys (
  wrapping_key_id uuid not null references keyring.wrapping_keys (id),
  root_key_id uuid not null references keyring.root_keys (id),
  wrapped bytea not null check (octet_length(wrapped) between 32 and 8192),
  created_at timestamptz not null default now(),
  primary key (wrapping_key_id, root_key_id)
);
comment on table keyring.wrapped_wrapping_keys is
  'A wrapping key under a root key. Two rows of one wrapping key are two ways in, as while the root key rotates';

create table keyring.installation (
  singleton boolean primary key default true check (singleton),
  wrapping_key_id uuid not null references keyring.wrapping_keys (id),
  created_at timestamptz not null default now()
);
comment on table keyring.installation is 'One row: the pointer to the wrapping key that wraps new data keys';

alter table keyring.root_keys enable row level security;
alter table keyring.root_keys force row level security;
alter table keyring.wrapping_keys enable row level security;
alter table keyring.wrapping_keys force row level security;
alter table keyring.wrapped_wrapping_keys enable row level security;
alter table keyring.wrapped_wrapping_keys force row level security;
alter table keyring.installation enable row level security;
alter table keyring.installation force row level security;

create policy keyring_roles on keyring.root_keys to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.wrapping_keys to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.wrapped_wrapping_keys to keyring_owner, keyring_service
  using (true) with check (true);
create policy keyring_roles on keyring.installation to keyring_owner, keyring_service using (true) with check (true);

grant select, insert on keyring.root_keys to keyring_service;
grant update (uri) on keyring.root_keys to keyring_service;
grant select, insert on keyring.wrapping_keys to keyring_service;
grant select, insert on keyring.wrapped_wrapping_keys to keyring_service;
grant select, insert on keyring.installation to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000400' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
