-- Monitoring counts the rotations that ended, over the whole history when a process begins and what is new from then on. What it
-- reads of a rotation is in the index.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create index rotations_ended on keyring.rotations (finished_at) include (id, trigger, state, started_at)
  where finished_at is not null;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003300' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
