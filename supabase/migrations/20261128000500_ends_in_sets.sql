-- Old versions destroyed in sets: the catalog is asked once a statement, and not once a version. Of what PostgreSQL did for one it was three
-- quarters. What is refused stays the same.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create function keyring.require_sound_catalog() returns void
  language plpgsql stable set search_path = ''
  as $$
  declare
    named pg_catalog.record;
  begin
    for named in select p.code, p.relation, p.column_name from keyring.catalog_problems() p loop
      raise exception 'rows that name the version could be missed: % (% %)', named.code, named.relation, named.column_name
        using errcode = 'MK006', hint = 'Mend what keyring.catalog_problems() names.';
    end loop;
  end
  $$;
revoke execute on function keyring.require_sound_catalog() from public;

create function keyring.guard_key_ends() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    perform keyring.require_sound_catalog();
    return null;
  end
  $$;
revoke execute on function keyring.guard_key_ends() from public;

-- A check of the table has every destruction set `destroyed_at`, and nothing else sets it. From the first of the two on no foreign key to
-- the versions can be made: it would wait for the lock that an update has on their table. What changes elsewhere between the two, so
-- that a count was not the whole truth, is seen by the second.
create trigger guard_key_ends_before before update of destroyed_at on keyring.encryption_keys
  for each statement execute function keyring.guard_key_ends();
create trigger guard_key_ends_after after update of destroyed_at on keyring.encryption_keys
  for each statement execute function keyring.guard_key_ends();

-- As before, but for the question about the catalog.
create or replace function keyring.guard_encryption_key() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    named pg_catalog.record;
  begin
    if tg_op = 'DELETE' then
      -- Only as the cascade of its project's end: by a trigger of the foreign key, with the project gone. Seeing no project
      -- is not enough, since a policy could hide it.
      if pg_catalog.pg_trigger_depth() < 2 or exists (select from public.projects p where p.id = old.project_id) then
        raise exception 'key versions are destroyed, never deleted' using errcode = 'MK005';
      end if;
      return old;
    end if;

    if (new.id, new.project_id, new.version, new.algorithm, new.fingerprint, new.created_at)
      is distinct from (old.id, old.project_id, old.version, old.algorithm, old.fingerprint, old.created_at)
    then
      raise exception 'the identity of a key version never changes' using errcode = 'MK004';
    end if;
    if old.state = 'destroyed' then
      raise exception 'a destroyed version never changes' using errcode = 'MK005';
    end if;
    if old.compromised_at is not null and (new.compromised_at is distinct from old.compromised_at
      or new.state not in ('compromised', 'destroyed'))
    then
      raise exception 'compromised is for good' using errcode = 'MK005';
    end if;
    if old.rolled_back_at is not null and new.rolled_back_at is distinct from old.rolled_back_at then
      raise exception 'rolled back is for good' using errcode = 'MK005';
    end if;
    if old.retention_until is not null and (new.retention_until is null or new.retention_until < old.retention_until)
      and not (new.retention_until is not null and keyring.is_approved('key.destroy_early', 'key:' || old.id))
    then
      raise exception 'a retention window is shortened by two people only' using errcode = 'MK008';
    end if;
    if new.retention_until is distinct from old.retention_until
      and exists (select from keyring.keyrings k where k.project_id = old.project_id and k.primary_key_id = old.id)
    then
      raise exception 'a primary version is not retired' using errcode = 'MK006';
    end if;
    if new.state = old.state then
      return new;
    end if;
    -- From here on the state moves: enabled ⇄ disabled, either → compromised, any of them → destroyed.

    if exists (select from keyring.keyrings k where k.project_id = old.project_id and k.primary_key_id = old.id) then
      raise exception 'the version is primary' using errcode = 'MK006';
    end if;
    -- What still opens is nobody's loss. A version that is suspended or destroyed opens nothing: not while a row names it.
    if new.state not in ('disabled', 'destroyed') then
      return new;
    end if;

    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'suspending and destroying need read committed: an older snapshot would miss references'
        using errcode = 'MK005';
    end if;
    -- An update's own lock does not conflict with the `key share` of a row in flight that names this version; `for
    -- update` does, and waits for it. What is read after it, in statements of their own, is then the whole truth.
    perform from keyring.encryption_keys k where k.id = old.id for update;
    if exists (select from keyring.keyrings k where k.project_id = old.project_id and k.primary_key_id = old.id) then
      raise exception 'the version is primary' using errcode = 'MK006';
    end if;
    if new.state = 'destroyed' and old.activated_at is not null and old.retention_until is null then
      raise exception 'the version was not retired by a finished rotation' using errcode = 'MK008';
    end if;
    if new.state = 'destroyed' and old.retention_until > pg_catalog.clock_timestamp() then
      raise exception 'the retention window ends at %', old.retention_until using errcode = 'MK008';
    end if;
    if exists (select from keyring.rotation_projects p
      where p.project_id = old.project_id and old.id in (p.source_key_id, p.target_key_id)
        and p.state not in ('completed', 'rolled_back', 'canceled', 'failed'))
    then
      raise exception 'an open rotation needs the version' using errcode = 'MK006';
    end if;
    if new.state <> 'destroyed' then
      -- One that is destroyed has this asked once a statement, before the first and after the last of them.
      perform keyring.require_sound_catalog();
    end if;
    for named in select r.label, r.row_count from keyring.reference_counts(old.project_id) r
      where r.encryption_key_id = old.id
    loop
      raise exception '% rows of % name the version', named.row_count, named.label using errcode = 'MK006';
    end loop;
    return new;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000500' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
