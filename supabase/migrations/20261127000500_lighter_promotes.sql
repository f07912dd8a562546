-- A promote notes its times on both versions by one statement, and the guard of a version looks only where something that it
-- guards changes. A third of what PostgreSQL does for a promote; what is guarded stays the same.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create or replace function keyring.note_promotion() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    -- The clock, not `now()`: a promote may have begun long before it got its turn, and values were written under the old
    -- version meanwhile. The exposure report compares with these times.
    update keyring.encryption_keys k set
      activated_at = case when k.id = new.primary_key_id
        then coalesce(k.activated_at, pg_catalog.clock_timestamp()) else k.activated_at end,
      deactivated_at = case when k.id = new.primary_key_id then null else pg_catalog.clock_timestamp() end
      -- Of a first keyring there is no old version.
      where k.id = any (array[new.primary_key_id, old.primary_key_id]);
    return null;
  end
  $$;

drop trigger guard_encryption_key on keyring.encryption_keys;
create trigger guard_encryption_key before update on keyring.encryption_keys for each row
  when (old.state = 'destroyed'
    or (new.id, new.project_id, new.version, new.algorithm, new.fingerprint, new.created_at, new.state,
      new.compromised_at, new.rolled_back_at, new.retention_until)
      is distinct from (old.id, old.project_id, old.version, old.algorithm, old.fingerprint, old.created_at, old.state,
      old.compromised_at, old.rolled_back_at, old.retention_until))
  execute function keyring.guard_encryption_key();
create trigger guard_encryption_key_end before delete on keyring.encryption_keys
  for each row execute function keyring.guard_encryption_key();

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127000500' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
