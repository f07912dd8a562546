-- A rotation of a key above the data keys: the root key moves to another one, or the wrapping key gets its next version. One at a
-- time, of either kind: while the root key moves, every wrapping key has to be wrapped by both, and a new one would have to be, too.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.upper_rotations (
  id uuid primary key,
  kind text not null check (kind in ('root', 'wrapping')),
  state text not null default 'requested' check (state in (
    'requested', 'prepared', 'rewrapping', 'verifying', 'completed', 'blocked', 'rolling_back', 'rolled_back', 'canceled',
    'failed')),
  direction text not null default 'forward' check (direction in ('forward', 'back')),
  -- What it leaves is compromised, and never gone back to.
  leaked boolean not null default false,
  from_root_key_id uuid references keyring.root_keys (id),
  to_root_key_id uuid references keyring.root_keys (id),
  from_wrapping_key_id uuid references keyring.wrapping_keys (id),
  to_wrapping_key_id uuid references keyring.wrapping_keys (id),
  requested_by text not null check (length(requested_by) between 1 and 200),
  reason text check (length(reason) <= 1000),
  requested_at timestamptz not null default now(),
  prepared_at timestamptz,
  promoted_at timestamptz,
  rewrapped_at timestamptz,
  verified_at timestamptz,
  finished_at timestamptz,
  keys_total bigint,
  keys_moved bigint not null default 0,
  keys_verified bigint not null default 0,
  -- Instances that it does not wait for, though they were alive and could not follow.
  forced uuid[] not null default '{}',
  error_code text,
  error_detail text,
  -- [{"kind": "data" | "signing", "id", "projectId", "version", "reason"}, …]: keys that stand in its way, up to 1,000.
  blocked_by jsonb not null default '[]',
  constraint ended_has_a_time check (
    (finished_at is not null) = (state in ('completed', 'rolled_back', 'canceled', 'failed'))),
  constraint turns_back_when_it_says_so check ((direction = 'back') >= (state in ('rolling_back', 'rolled_back'))),
  constraint of_one_kind check (case kind
    when 'root' then from_root_key_id is not null and to_root_key_id is not null and from_root_key_id <> to_root_key_id
      and from_wrapping_key_id is null and to_wrapping_key_id is null
    else from_wrapping_key_id is not null and from_root_key_id is null and to_root_key_id is null
      and to_wrapping_key_id is distinct from from_wrapping_key_id
      and (to_wrapping_key_id is not null or state in ('requested', 'canceled', 'failed')) end)
) with (fillfactor = 70);
comment on table keyring.upper_rotations is 'Rotations of the root key and of the wrapping key; those of data keys are in rotations';
create unique index one_open_upper_rotation on keyring.upper_rotations ((true)) where finished_at is null;
create index upper_rotations_by_time on keyring.upper_rotations (requested_at desc, id desc);

create function keyring.guard_upper_rotation() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    if tg_op = 'DELETE' then
      raise exception 'rotations are kept' using errcode = 'MK007';
    end if;
    if (new.id, new.kind, new.leaked, new.from_root_key_id, new.to_root_key_id, new.from_wrapping_key_id, new.requested_by,
        new.reason, new.requested_at)
      is distinct from (old.id, old.kind, old.leaked, old.from_root_key_id, old.to_root_key_id, old.from_wrapping_key_id,
        old.requested_by, old.reason, old.requested_at)
      or old.to_wrapping_key_id is not null and new.to_wrapping_key_id is distinct from old.to_wrapping_key_id
    then
      raise exception 'the identity of a rotation never changes' using errcode = 'MK004';
    end if;
    if old.finished_at is not null then
      raise exception 'a rotation that has ended never changes' using errcode = 'MK005';
    end if;
    if old.direction = 'back' and new.direction <> 'back' then
      raise exception 'a rollback is not turned around' using errcode = 'MK005';
    end if;
    if new.leaked and new.direction = 'back' then
      raise exception 'there is no way back to a key that leaked' using errcode = 'MK005';
    end if;
    if new.direction = 'back' and new.state in ('rewrapping', 'verifying', 'completed') then
      raise exception 'a rollback does not go forward' using errcode = 'MK005';
    end if;
    if new.state <> old.state and not (case old.state
      when 'requested' then new.state in ('prepared', 'canceled', 'failed')
      when 'prepared' then new.state in ('canceled', 'failed')
        or new.state = case new.kind when 'root' then 'completed' else 'rewrapping' end
      when 'rewrapping' then new.state in ('verifying', 'blocked', 'rolling_back')
      when 'verifying' then new.state in ('completed', 'rewrapping', 'blocked', 'rolling_back')
      when 'blocked' then new.state in ('rewrapping', 'rolling_back')
      when 'rolling_back' then new.state in ('rolled_back', 'blocked')
      else false
    end) then
      raise exception 'a rotation does not go from % to %', old.state, new.state using errcode = 'MK005';
    end if;
    return new;
  end
  $$;
create trigger guard_upper_rotation before update or delete on keyring.upper_rotations
  for each row execute function keyring.guard_upper_rotation();

alter table keyring.upper_rotations enable row level security;
alter table keyring.upper_rotations force row level security;
create policy keyring_roles on keyring.upper_rotations to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update on keyring.upper_rotations to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127001200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
