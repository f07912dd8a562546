-- What somebody who acts is (a user, a token, the command line, …), and where the request came from. Null: written before this, or
-- by a program that is older.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.audit_log
  add column principal_kind text
    check (principal_kind in ('user', 'token', 'session', 'cli', 'service', 'worker', 'system')),
  add column source_address text check (length(source_address) between 1 and 100);
comment on column keyring.audit_log.principal_kind is 'What the actor is. Null: not told';
comment on column keyring.audit_log.source_address is 'Where the request came from, as far as it was told';
grant insert (principal_kind, source_address) on keyring.audit_log to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003000' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
