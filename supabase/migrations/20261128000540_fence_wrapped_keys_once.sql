-- The fence of wrapped keys, once a statement instead of once a row: of wrapping 1,000 keys anew it was a third of PostgreSQL's time.
-- It fires after the rows are written and looks at what was stored, so no other trigger can change it behind its back. Neither table has
-- partitions, which a statement could write to directly. docs/decisions/0013-upper-keys.md.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create function keyring.fence_wrapped_keys() returns trigger
  language plpgsql security definer set search_path = ''
  -- What it joins are the rows of one statement, whatever its caller thinks of joins.
  set enable_hashjoin = on set enable_nestloop = off set enable_mergejoin = off set jit = off
  as $$
  declare
    misnamed pg_catalog.bool;
    named pg_catalog.uuid[];
    primary_id pg_catalog.uuid;
    stale_id pg_catalog.uuid;
  begin
    if tg_op = 'INSERT' then
      select pg_catalog.bool_or(keyring.envelope_key_id(w.wrapped_key) is distinct from w.wrapping_key_id),
          pg_catalog.array_agg(distinct w.wrapping_key_id)
        into misnamed, named
        from written w
        where w.wrapped_key is not null;
    else
      -- Who changes anything else of a key waits in no queue.
      select pg_catalog.bool_or(keyring.envelope_key_id(w.wrapped_key) is distinct from w.wrapping_key_id),
          pg_catalog.array_agg(distinct w.wrapping_key_id)
        into misnamed, named
        from written w left join replaced r on r.id = w.id
        where w.wrapped_key is not null
          and (w.wrapped_key is distinct from r.wrapped_key or w.wrapping_key_id is distinct from r.wrapping_key_id);
    end if;
    if named is null then
      return null;
    end if;
    if misnamed then
      raise exception 'the wrapped key of a row in % does not name its wrapping key', tg_table_name using errcode = 'MK003';
    end if;
    perform pg_catalog.pg_advisory_xact_lock_shared(keyring.wrapping_lock());
    select i.wrapping_key_id into primary_id from keyring.installation i for share;
    foreach stale_id in array named loop
      if primary_id is distinct from stale_id then
        perform keyring.refuse_stale_wrapping(stale_id);
      end if;
    end loop;
    return null;
  end
  $$;
revoke execute on function keyring.fence_wrapped_keys() from public;

do $$
declare
  name text;
begin
  foreach name in array array['encryption_keys', 'signing_keys'] loop
    execute pg_catalog.format('drop trigger zz_keyring_fence_insert on keyring.%I', name);
    execute pg_catalog.format('drop trigger zz_keyring_fence_update on keyring.%I', name);
    execute pg_catalog.format('create trigger keyring_fence_insert after insert on keyring.%I
      referencing new table as written for each statement execute function keyring.fence_wrapped_keys()', name);
    execute pg_catalog.format('create trigger keyring_fence_update after update on keyring.%I
      referencing old table as replaced new table as written
      for each statement execute function keyring.fence_wrapped_keys()', name);
    -- After the fence, as before: a key under a wrapping key that this database does not know, restored as it may be, is stale.
    execute pg_catalog.format('alter table keyring.%1$I alter constraint %1$s_wrapping_key_id_fkey deferrable initially deferred', name);
  end loop;
end
$$;
drop function keyring.fence_wrapped_key();

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000540' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
