-- Lists that go on where they stopped, among any number of projects.

create index if not exists projects_by_name on public.projects (name, id);

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

-- Few: most versions are enabled, or destroyed in the end.
create index encryption_keys_unusual on keyring.encryption_keys (project_id, version)
  where state in ('disabled', 'compromised');

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
