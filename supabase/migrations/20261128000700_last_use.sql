-- When a version was last used, to encrypt or to open a value for somebody: whoever is about to destroy an old one wants to know.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.key_usage add column last_used_at timestamptz;
comment on column keyring.key_usage.last_used_at is
  'Last reserved for encryptions, or used by a reader or a writer, to the hour; null: not since this is kept';

create or replace function keyring.guard_key_usage() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    if (new.key_id, new.project_id) <> (old.key_id, old.project_id) or new.reserved < old.reserved
      or new.last_used_at < old.last_used_at or (new.last_used_at is null and old.last_used_at is not null)
    then
      raise exception 'a usage count only grows' using errcode = 'MK005';
    end if;
    return new;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000700' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
