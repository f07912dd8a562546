-- Notifications are tried for a day or two, as their queue was meant to: nine repeats that begin with half a minute took four hours.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

update keyring_jobs.queue set retry_limit = 13 where name = 'notifications';

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000300' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
