-- The door locks the version that it looks at. Without, a destroy that is under way commits after the look: the row goes in
-- under a version that is gone, and the foreign key sees nothing, because the row of the version stays.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create or replace function keyring.refuse_stale(column_label text, stale_key_id uuid) returns void
  language plpgsql security definer set search_path = ''
  as $$
  begin
    if exists (select from keyring.restore_doors d
      where d.transaction_id = pg_catalog.pg_current_xact_id_if_assigned())
    then
      -- Waits for a destroy that is under way, and a later one waits for us and counts the row.
      if exists (select from keyring.encryption_keys k
        where k.id = stale_key_id and k.state <> 'destroyed' for key share)
      then
        return;
      end if;
      raise exception 'the version % of a row in % is destroyed: it would never open', stale_key_id, column_label
        using errcode = 'MK006';
    end if;
    raise exception 'stale key version in %', column_label using errcode = 'MK001',
      hint = 'Read the primary version again and encrypt with it.';
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261124000500' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
