-- What became of a project's earlier rotations is looked up by the index of those that did not complete, however few there were when it was
-- first planned: a plan for an empty table read all of it for each of the projects of a fleet.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter function keyring.not_asked_before(uuid, timestamptz) set enable_seqscan = off;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000310' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
