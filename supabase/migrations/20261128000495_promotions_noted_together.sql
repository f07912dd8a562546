-- The times of promotions are noted once a statement instead of once a row. PostgreSQL prepares the ten checks of the table of versions
-- anew for every statement that writes to it: of a promote of many projects, that was the half.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create function keyring.note_promotions() returns trigger
  language plpgsql security definer set search_path = ''
  -- By the versions' own index, whatever the statistics of the first call made of it: the plan is kept.
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
  as $$
  begin
    -- The clock, not `now()`: a promote may have begun long before it got its turn, and values were written under the old
    -- version meanwhile. The exposure report compares with these times.
    update keyring.encryption_keys k set
      activated_at = case when n.promoted then coalesce(k.activated_at, pg_catalog.clock_timestamp()) else k.activated_at end,
      deactivated_at = case when n.promoted then null else pg_catalog.clock_timestamp() end
      from (
        select b.key_id, pg_catalog.bool_or(b.promoted) as promoted
        from (
          select w.primary_key_id as key_id, true as promoted from written w
          union all
          select r.primary_key_id, false from replaced r
        ) b
        group by b.key_id
      ) n
      where k.id = n.key_id;
    return null;
  end
  $$;
revoke execute on function keyring.note_promotions() from public;

drop trigger note_promotion on keyring.keyrings;
-- A first keyring has no old version.
create trigger note_promotion after insert on keyring.keyrings
  for each row execute function keyring.note_promotion();
create trigger note_promotions after update on keyring.keyrings
  referencing old table as replaced new table as written
  for each statement execute function keyring.note_promotions();

create or replace function keyring.note_promotion() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    update keyring.encryption_keys k
      set activated_at = coalesce(k.activated_at, pg_catalog.clock_timestamp()), deactivated_at = null
      where k.id = new.primary_key_id;
    return null;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000495' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
