-- A request that is sent again because its answer was lost: the rotation it made is found by what the caller called it. The row is
-- written in the transaction that records the rotation, so there is one if and only if there is the other.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.idempotency_keys (
  key_digest bytea primary key check (octet_length(key_digest) = 32),
  request_digest bytea not null check (octet_length(request_digest) = 32),
  rotation_id uuid not null references keyring.rotations (id) on delete cascade,
  created_at timestamptz not null default now()
);
comment on column keyring.idempotency_keys.key_digest is 'SHA-256 over who asked and what they called the request';
comment on column keyring.idempotency_keys.request_digest is 'SHA-256 over what was asked for';
comment on table keyring.idempotency_keys is 'Kept for 24 hours; older ones go, a few at each request';
create index idempotency_keys_by_age on keyring.idempotency_keys (created_at);

alter table keyring.idempotency_keys enable row level security;
alter table keyring.idempotency_keys force row level security;
create policy keyring_roles on keyring.idempotency_keys to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update, delete on keyring.idempotency_keys to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003201' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
