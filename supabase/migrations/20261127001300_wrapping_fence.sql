-- Wrapping keys have versions, one of which the installation's pointer names; what the fence of secrets is for data keys
-- (docs/decisions/0003-fence.md), this is for them: after the pointer has moved, no key wrapped under another wrapping key can be
-- committed. The same order, for the same reasons:
--   1. the advisory lock, shared: a fair queue, so that a promote is not starved by those who make keys;
--   2. the pointer's row, `for share`: under repeatable read and serializable this is what refuses;
--   3. only then the comparison, failing closed where there is no pointer.
-- Error codes: MK003 bytes and column disagree, MK004 identity changed, MK005 illegal move, MK006 still in use, MK009 stale wrapping key.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.wrapping_keys
  add column promoted_at timestamptz,
  add column disabled_at timestamptz,
  add column compromised_at timestamptz,
  add column exposed_at timestamptz,
  add column destroyed_at timestamptz,
  add constraint disabled_has_a_time check ((state = 'disabled') <= (disabled_at is not null)),
  add constraint compromised_has_a_time check ((state = 'compromised') <= (compromised_at is not null)),
  add constraint compromised_time_means_so check (compromised_at is null or state in ('compromised', 'destroyed')),
  add constraint destroyed_has_a_time check ((state = 'destroyed') = (destroyed_at is not null));
comment on column keyring.wrapping_keys.exposed_at is 'When a root key that had wrapped it was found to have leaked: rotate it, too';
comment on column keyring.wrapping_keys.state is
  'Only an enabled one is ever primary. Disabled and compromised ones unwrap what is still under them, as restored rows';

-- Without `set search_path`, which would keep them from being inlined; every name in them is qualified.
create function keyring.wrapping_lock() returns bigint
  language sql immutable parallel safe
  as $$ select 5577006791947779411::pg_catalog.int8 $$;
comment on function keyring.wrapping_lock() is 'The queue in front of the pointer to the wrapping key: who makes keys shares it';
create function keyring.roots_lock() returns bigint
  language sql immutable parallel safe
  as $$ select 5577006791947779412::pg_catalog.int8 $$;
comment on function keyring.roots_lock() is 'Whoever takes a way into a wrapping key away has it alone: two would each leave the other';

-- What the fence says to a wrapping key that is not the pointer's. The door for restored rows is this fence's door, too.
create function keyring.refuse_stale_wrapping(stale_id uuid) returns void
  language plpgsql security definer set search_path = ''
  as $$
  begin
    if exists (select from keyring.restore_doors d
      where d.transaction_id = pg_catalog.pg_current_xact_id_if_assigned())
    then
      -- Waits for a destroy that is under way, and a later one waits for us and counts the row.
      if exists (select from keyring.wrapping_keys w where w.id = stale_id and w.state <> 'destroyed' for key share) then
        return;
      end if;
      raise exception 'the wrapping key % is destroyed: what is under it would never open', stale_id using errcode = 'MK006';
    end if;
    raise exception 'stale wrapping key %', stale_id using errcode = 'MK009',
      hint = 'Read the pointer again and wrap with the key it names.';
  end
  $$;

create function keyring.fence_wrapped_key() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    primary_id pg_catalog.uuid;
  begin
    if keyring.envelope_key_id(new.wrapped_key) is distinct from new.wrapping_key_id then
      raise exception 'the wrapped key of a row in % does not name its wrapping key', tg_table_name using errcode = 'MK003';
    end if;
    perform pg_catalog.pg_advisory_xact_lock_shared(keyring.wrapping_lock());
    select i.wrapping_key_id into primary_id from keyring.installation i for share;
    if primary_id is distinct from new.wrapping_key_id then
      perform keyring.refuse_stale_wrapping(new.wrapping_key_id);
    end if;
    return new;
  end
  $$;
-- A destroyed version keeps the name of the wrapping key it was under, and no bytes.
create trigger zz_keyring_fence_insert before insert on keyring.encryption_keys
  for each row when (new.wrapped_key is not null) execute function keyring.fence_wrapped_key();
create trigger zz_keyring_fence_update before update on keyring.encryption_keys
  for each row when (new.wrapped_key is not null and (old.wrapping_key_id is distinct from new.wrapping_key_id
    or old.wrapped_key is distinct from new.wrapped_key))
  execute function keyring.fence_wrapped_key();
create trigger zz_keyring_fence_insert before insert on keyring.signing_keys
  for each row execute function keyring.fence_wrapped_key();
create trigger zz_keyring_fence_update before update on keyring.signing_keys
  for each row execute function keyring.fence_wrapped_key();

create function keyring.guard_signing_key() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    raise exception 'a signing key changes its wrapping and nothing else' using errcode = 'MK004';
  end
  $$;
create trigger guard_signing_key before update on keyring.signing_keys
  for each row when ((new.id, new.version, new.algorithm, new.public_key, new.created_at)
    is distinct from (old.id, old.version, old.algorithm, old.public_key, old.created_at))
  execute function keyring.guard_signing_key();

-- The pointer names an enabled wrapping key. The update waits for whoever changes its state now, and makes a later one wait for us.
create function keyring.guard_installation() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    candidate pg_catalog.text;
  begin
    if tg_op = 'DELETE' then
      raise exception 'the pointer to the wrapping key stays' using errcode = 'MK005';
    end if;
    update keyring.wrapping_keys w set promoted_at = coalesce(w.promoted_at, pg_catalog.clock_timestamp())
      where w.id = new.wrapping_key_id returning w.state into candidate;
    if candidate is distinct from 'enabled' then
      raise exception 'only an enabled wrapping key can be primary (this one is %)', coalesce(candidate, 'unknown')
        using errcode = 'MK005';
    end if;
    return new;
  end
  $$;

-- The legal moves of a wrapping key, and the locked count in front of destroying one.
create function keyring.guard_wrapping_key() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    keys pg_catalog.int8;
  begin
    if tg_op = 'DELETE' then
      raise exception 'wrapping keys are destroyed, never deleted' using errcode = 'MK005';
    end if;
    if (new.id, new.version, new.fingerprint, new.created_at)
      is distinct from (old.id, old.version, old.fingerprint, old.created_at)
    then
      raise exception 'the identity of a wrapping key never changes' using errcode = 'MK004';
    end if;
    if old.state = 'destroyed' then
      raise exception 'a destroyed wrapping key never changes' using errcode = 'MK005';
    end if;
    if old.compromised_at is not null and new.compromised_at is distinct from old.compromised_at
      or old.exposed_at is not null and new.exposed_at is distinct from old.exposed_at
    then
      raise exception 'compromised is for good' using errcode = 'MK005';
    end if;
    if new.state = old.state then
      return new;
    end if;
    if not (case old.state
      when 'enabled' then new.state in ('disabled', 'compromised', 'destroyed')
      when 'disabled' then new.state in ('compromised', 'destroyed')
      else new.state = 'destroyed'
    end) then
      raise exception 'a wrapping key does not go from % to %', old.state, new.state using errcode = 'MK005';
    end if;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'this needs read committed: an older snapshot would miss the pointer' using errcode = 'MK005';
    end if;
    -- Our lock on this row is the one that a promote to it wants: what is read now is the whole truth.
    if exists (select from keyring.installation i where i.wrapping_key_id = old.id) then
      raise exception 'the wrapping key is primary' using errcode = 'MK006';
    end if;
    if new.state <> 'destroyed' then
      return new;
    end if;

    -- Conflicts with the `key share` of a key in flight that names this one, as an update's own lock would not.
    perform from keyring.wrapping_keys w where w.id = old.id for update;
    if exists (select from keyring.upper_rotations r
      where r.finished_at is null and old.id in (r.from_wrapping_key_id, r.to_wrapping_key_id))
    then
      raise exception 'an open rotation needs the wrapping key' using errcode = 'MK006';
    end if;
    select count(*) into keys from keyring.encryption_keys k where k.wrapping_key_id = old.id and k.wrapped_key is not null;
    if keys > 0 then
      raise exception '% data keys are under the wrapping key', keys using errcode = 'MK006';
    end if;
    select count(*) into keys from keyring.signing_keys k where k.wrapping_key_id = old.id;
    if keys > 0 then
      raise exception '% signing keys are under the wrapping key', keys using errcode = 'MK006';
    end if;
    return new;
  end
  $$;

create function keyring.erase_wrapping_key() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    delete from keyring.wrapped_wrapping_keys c where c.wrapping_key_id = new.id;
    return null;
  end
  $$;

-- A copy never changes; the last way into a wrapping key never goes.
create function keyring.guard_wrapped_copy() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    found_state pg_catalog.text;
  begin
    if tg_op = 'UPDATE' then
      raise exception 'a wrapped key never changes' using errcode = 'MK004';
    end if;
    if tg_op = 'INSERT' then
      select w.state into found_state from keyring.wrapping_keys w where w.id = new.wrapping_key_id for share;
      if found_state is null or found_state = 'destroyed' then
        raise exception 'the wrapping key is %', coalesce(found_state, 'unknown') using errcode = 'MK005';
      end if;
      select r.state into found_state from keyring.root_keys r where r.id = new.root_key_id for share;
      if found_state is distinct from 'enabled' then
        raise exception 'the root key is %', coalesce(found_state, 'unknown') using errcode = 'MK005';
      end if;
      return new;
    end if;
    perform pg_catalog.pg_advisory_xact_lock(keyring.roots_lock());
    if exists (select from keyring.wrapping_keys w where w.id = old.wrapping_key_id and w.state = 'destroyed')
      or exists (select from keyring.wrapped_wrapping_keys c join keyring.root_keys r on r.id = c.root_key_id
        where c.wrapping_key_id = old.wrapping_key_id and c.root_key_id <> old.root_key_id and r.state = 'enabled')
    then
      return old;
    end if;
    raise exception 'no other enabled root key opens the wrapping key' using errcode = 'MK006';
  end
  $$;

-- A root key goes only when every wrapping key has another way in.
create function keyring.guard_root_key() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    if tg_op = 'DELETE' then
      raise exception 'root keys are kept in the list' using errcode = 'MK005';
    end if;
    if (new.id, new.fingerprint, new.created_at) is distinct from (old.id, old.fingerprint, old.created_at) then
      raise exception 'the identity of a root key never changes' using errcode = 'MK004';
    end if;
    if old.state in ('compromised', 'destroyed') and new.state <> old.state
      and not (old.state = 'compromised' and new.state = 'destroyed')
    then
      raise exception '% is for good', old.state using errcode = 'MK005';
    end if;
    if new.state = 'enabled' or old.state <> 'enabled' then
      return new;
    end if;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'this needs read committed: an older snapshot would miss another root key''s end' using errcode = 'MK005';
    end if;
    perform pg_catalog.pg_advisory_xact_lock(keyring.roots_lock());
    if exists (select from keyring.wrapping_keys w where w.state <> 'destroyed' and not exists (
      select from keyring.wrapped_wrapping_keys c join keyring.root_keys r on r.id = c.root_key_id
      where c.wrapping_key_id = w.id and r.id <> old.id and r.state = 'enabled'))
    then
      raise exception 'no other enabled root key opens every wrapping key' using errcode = 'MK006';
    end if;
    return new;
  end
  $$;

update keyring.wrapping_keys w set promoted_at = i.created_at from keyring.installation i where i.wrapping_key_id = w.id;

create trigger guard_installation before insert or update or delete on keyring.installation
  for each row execute function keyring.guard_installation();
create trigger guard_wrapping_key before update or delete on keyring.wrapping_keys
  for each row execute function keyring.guard_wrapping_key();
create trigger erase_wrapping_key after update on keyring.wrapping_keys
  for each row when (new.state = 'destroyed') execute function keyring.erase_wrapping_key();
create trigger guard_wrapped_copy before insert or update or delete on keyring.wrapped_wrapping_keys
  for each row execute function keyring.guard_wrapped_copy();
create trigger guard_root_key before update or delete on keyring.root_keys
  for each row execute function keyring.guard_root_key();
do $$
declare
  name text;
begin
  foreach name in array array['root_keys', 'wrapping_keys', 'wrapped_wrapping_keys', 'installation', 'signing_keys'] loop
    execute pg_catalog.format('create trigger keys_are_not_truncated before truncate on keyring.%I
      for each statement execute function keyring.refuse_truncate()', name);
  end loop;
end
$$;

grant update (state, disabled_at, compromised_at, exposed_at, destroyed_at) on keyring.wrapping_keys to keyring_service;
grant update (wrapping_key_id) on keyring.installation to keyring_service;
grant update (state) on keyring.root_keys to keyring_service;
grant delete on keyring.wrapped_wrapping_keys to keyring_service;
grant update (wrapped_key, wrapping_key_id) on keyring.signing_keys to keyring_service;
grant execute on function keyring.wrapping_lock() to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127001300' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
