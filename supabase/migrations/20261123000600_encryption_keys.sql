-- Data keys, versioned per project, and the keyring row that points at the one which encrypts.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.encryption_keys (
  id uuid primary key,
  project_id uuid not null references public.projects (id) on delete cascade,
  version integer not null check (version > 0),
  state text not null default 'enabled' check (state in ('enabled', 'disabled', 'compromised', 'destroyed')),
  algorithm text not null default 'AES-256-GCM' check (algorithm = 'AES-256-GCM'),
  wrapped_key bytea check (octet_length(wrapped_key) = 78),
  wrapping_key_id uuid not null references keyring.wrapping_keys (id),
  fingerprint bytea not null check (octet_length(fingerprint) = 32),
  created_at timestamptz not null default now(),
  activated_at timestamptz,
  deactivated_at timestamptz,
  disabled_at timestamptz,
  compromised_at timestamptz,
  rolled_back_at timestamptz,
  retention_until timestamptz,
  destroyed_at timestamptz,
  unique (project_id, version),
  unique (project_id, id),
  constraint destroyed_means_erased check ((state = 'destroyed') = (wrapped_key is null)),
  constraint destroyed_has_a_time check ((state = 'destroyed') = (destroyed_at is not null)),
  constraint disabled_has_a_time check ((state = 'disabled') <= (disabled_at is not null)),
  constraint compromised_has_a_time check ((state = 'compromised') <= (compromised_at is not null)),
  -- Otherwise a version marked while primary could neither stay (nothing may change it) nor be promoted away from.
  constraint compromised_time_means_so check (compromised_at is null or state in ('compromised', 'destroyed'))
);
comment on column keyring.encryption_keys.wrapped_key is 'The key in an envelope under wrapping_key_id; null once destroyed';
comment on column keyring.encryption_keys.fingerprint is 'Key check value (HKDF), verified at every unwrap; kept for ever';
comment on column keyring.encryption_keys.retention_until is 'Fixed when the version is retired; destroy is refused before it';

create table keyring.keyrings (
  project_id uuid primary key references public.projects (id) on delete cascade,
  primary_key_id uuid not null,
  created_at timestamptz not null default now(),
  promoted_at timestamptz not null default now(),
  foreign key (project_id, primary_key_id) references keyring.encryption_keys (project_id, id)
);
comment on table keyring.keyrings is 'One row a project: the pointer to its primary version, hence exactly one primary';

-- One number per project for the fair queue in front of its keyring row: writers share it, a promote takes it alone.
-- Two projects may share a number; then they queue together, and nothing else.
create function keyring.project_lock(project uuid) returns bigint
  language sql immutable parallel safe
  as $$ select pg_catalog.uuid_hash_extended(project, 5577006791947779410) $$;

create function keyring.guard_keyring() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    candidate pg_catalog.record;
  begin
    if tg_op = 'UPDATE' and new.project_id is distinct from old.project_id then
      raise exception 'a keyring stays with its project' using errcode = 'MK004';
    end if;
    -- Waits for a destroy of this version that is under way, and makes a later one wait for us. Not `for share`: of two first
    -- keyrings, each would hold what the other's note_promotion then updates.
    select k.state, k.rolled_back_at, k.retention_until into candidate
      from keyring.encryption_keys k
      where k.project_id = new.project_id and k.id = new.primary_key_id
      for no key update;
    if candidate.state is distinct from 'enabled' then
      raise exception 'only an enabled version can be primary (this one is %)', coalesce(candidate.state, 'unknown')
        using errcode = 'MK005';
    end if;
    if candidate.rolled_back_at is not null then
      raise exception 'a version that was rolled back is never promoted again' using errcode = 'MK005';
    end if;
    if candidate.retention_until is not null then
      raise exception 'a version whose retention has begun is never promoted again' using errcode = 'MK005';
    end if;
    return new;
  end
  $$;
create trigger guard_keyring before insert or update on keyring.keyrings
  for each row execute function keyring.guard_keyring();

create function keyring.note_promotion() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    -- The clock, not `now()`: a promote may have begun long before it got its turn, and values were written under the old
    -- version meanwhile. The exposure report compares with these times.
    update keyring.encryption_keys
      set activated_at = coalesce(activated_at, pg_catalog.clock_timestamp()), deactivated_at = null
      where id = new.primary_key_id;
    if tg_op = 'UPDATE' and old.primary_key_id <> new.primary_key_id then
      update keyring.encryption_keys set deactivated_at = pg_catalog.clock_timestamp() where id = old.primary_key_id;
    end if;
    return null;
  end
  $$;
create trigger note_promotion after insert or update of primary_key_id on keyring.keyrings
  for each row execute function keyring.note_promotion();

alter table keyring.encryption_keys enable row level security;
alter table keyring.encryption_keys force row level security;
alter table keyring.keyrings enable row level security;
alter table keyring.keyrings force row level security;
create policy keyring_roles on keyring.encryption_keys to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.keyrings to keyring_owner, keyring_service using (true) with check (true);

grant select, insert on keyring.encryption_keys to keyring_service;
grant update (state, wrapped_key, wrapping_key_id, disabled_at, compromised_at, rolled_back_at, retention_until,
  destroyed_at) on keyring.encryption_keys to keyring_service;
grant select, insert on keyring.keyrings to keyring_service;
grant update (primary_key_id, promoted_at) on keyring.keyrings to keyring_service;
grant execute on function keyring.project_lock(uuid) to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000600' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
