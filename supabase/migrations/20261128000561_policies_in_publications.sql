-- In a database that publishes all its tables (`create publication … for all tables`) PostgreSQL refuses to change rows that it cannot
-- name to a subscriber: no policy could be set, and no project with a policy of its own could be deleted. This is the only table here
-- without a primary key, its default having no project.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.rotation_policies replica identity full;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000561' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
