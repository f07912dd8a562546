-- How fast a rotation goes, changeable while it runs: whoever works on it reads these every few hundred milliseconds. An
-- emergency is at full speed whatever they say.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.rotations
  add column pace text not null default 'polite' check (pace in ('polite', 'full')),
  add column max_rate integer check (max_rate between 1 and 1000000);
comment on column keyring.rotations.max_rate is 'Rows a second, for each process that works on it';

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261124000200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
