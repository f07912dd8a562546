-- The trail, sealed: beside `audit_log`, which nobody changes, a place for every entry in a chain of hashes, and signed
-- checkpoints of it (docs/spec/audit.md). Writers take no lock for it: a sealer gives places, seconds behind.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

-- No key serves two purposes. The newest of its purpose signs.
alter table keyring.signing_keys
  add column purpose text not null default 'receipts' check (purpose in ('receipts', 'audit'));
drop trigger guard_signing_key on keyring.signing_keys;
create trigger guard_signing_key before update on keyring.signing_keys
  for each row when ((new.id, new.version, new.algorithm, new.public_key, new.created_at, new.purpose)
    is distinct from (old.id, old.version, old.algorithm, old.public_key, old.created_at, old.purpose))
  execute function keyring.guard_signing_key();

create table keyring.audit_seals (
  place bigint primary key check (place > 0),
  entry_id bigint not null unique,
  hash bytea not null check (octet_length(hash) = 32)
);
comment on table keyring.audit_seals is 'The place of each entry in the chain, and the head of the chain there';

create table keyring.audit_checkpoints (
  id bigint generated always as identity primary key,
  size bigint not null check (size > 0),
  floor_id bigint not null,
  note text not null check (length(note) between 1 and 2000),
  signing_key_id uuid not null references keyring.signing_keys (id),
  mark_id bigint,
  mark_xid xid8,
  signed_at timestamptz not null default clock_timestamp(),
  check ((mark_id is null) = (mark_xid is null))
);
create index audit_checkpoints_size on keyring.audit_checkpoints (size);
comment on table keyring.audit_checkpoints is 'How long the chain was, and its head, signed: a C2SP signed note each';
comment on column keyring.audit_checkpoints.floor_id is
  'Every entry up to this id has its place: no transaction is left that could bring another one';
comment on column keyring.audit_checkpoints.mark_id is
  'The next floor, once every transaction up to mark_xid is over. Null: the floor is the last entry';

create table keyring.audit_archives (
  through bigint primary key check (through > 0),
  note text not null check (length(note) between 1 and 2000),
  transaction_id xid8 not null default pg_current_xact_id(),
  archived_at timestamptz not null default clock_timestamp()
);
comment on table keyring.audit_archives is 'Up to which place the trail went into a file, and was removed here; signed';

create table keyring.audit_sealer (one boolean primary key default true check (one));
insert into keyring.audit_sealer default values;
comment on table keyring.audit_sealer is 'Locked by who seals, for as long as the transaction takes';

-- Ids are handed out in order, transactions end in any order. A transaction has its own id before it is handed the id of an entry, so
-- when all transactions up to one are over, no entry with a lower id than the last one then can turn up any more: the floor.
create function keyring.begin_audit_entry() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    perform pg_catalog.pg_current_xact_id();
    return null;
  end
  $$;
create trigger audit_log_begins before insert on keyring.audit_log
  for each statement execute function keyring.begin_audit_entry();

-- Nothing is changed, and removed only by `archive_audit`, in its transaction, up to the place that it archives.
create or replace function keyring.refuse_audit_change() returns trigger
  language plpgsql set search_path = ''
  as $$
  declare
    last_place bigint;
  begin
    if tg_op = 'DELETE' then
      select a.through into last_place from keyring.audit_archives a
        where a.transaction_id = pg_catalog.pg_current_xact_id_if_assigned();
      if last_place is not null then
        if tg_table_name = 'audit_log' then
          if exists (select from keyring.audit_seals s where s.entry_id = old.id and s.place <= last_place) then
            return old;
          end if;
        elsif tg_table_name = 'audit_seals' then
          if old.place <= last_place then
            return old;
          end if;
        elsif tg_table_name = 'audit_checkpoints' then
          if old.size < last_place then
            return old;
          end if;
        end if;
      end if;
    end if;
    raise exception 'the audit log is append-only' using errcode = 'MK007';
  end
  $$;
do $$
declare
  name text;
begin
  foreach name in array array['audit_seals', 'audit_checkpoints', 'audit_archives'] loop
    execute pg_catalog.format('create trigger audit_is_append_only before update or delete on keyring.%I
      for each row execute function keyring.refuse_audit_change()', name);
    execute pg_catalog.format('create trigger audit_is_not_truncated before truncate on keyring.%I
      for each statement execute function keyring.refuse_audit_change()', name);
  end loop;
end
$$;

create function keyring.guard_audit_seals() returns trigger
  language plpgsql set search_path = ''
  as $$
  declare
    first_place bigint;
    last_place bigint;
    places bigint;
    taken bigint;
  begin
    select min(n.place), max(n.place), count(*) into first_place, last_place, places from sealed n;
    if places = 0 then
      return null;
    end if;
    select greatest(
      (select coalesce(max(s.place), 0) from keyring.audit_seals s where s.place < first_place),
      (select coalesce(max(a.through), 0) from keyring.audit_archives a)) into taken;
    if first_place <> taken + 1 or last_place - first_place + 1 <> places then
      raise exception 'places in the chain follow one another' using errcode = 'MK005';
    end if;
    if exists (select from sealed n where not exists (select from keyring.audit_log l where l.id = n.entry_id)) then
      raise exception 'a place in the chain is an entry''s' using errcode = 'MK005';
    end if;
    return null;
  end
  $$;
create trigger guard_audit_seals after insert on keyring.audit_seals
  referencing new table as sealed for each statement execute function keyring.guard_audit_seals();

create function keyring.guard_audit_checkpoint() returns trigger
  language plpgsql set search_path = ''
  as $$
  declare
    floor_before bigint;
  begin
    if new.size is distinct from coalesce((select max(s.place) from keyring.audit_seals s),
      (select max(a.through) from keyring.audit_archives a))
    then
      raise exception 'a checkpoint is of the whole chain' using errcode = 'MK005';
    end if;
    select coalesce(max(c.floor_id), 0) into floor_before from keyring.audit_checkpoints c
      where c.id = (select max(b.id) from keyring.audit_checkpoints b);
    if new.floor_id < floor_before or exists (
      select from keyring.audit_log l where l.id > floor_before and l.id <= new.floor_id
        and not exists (select from keyring.audit_seals s where s.entry_id = l.id))
    then
      raise exception 'up to the floor every entry has its place' using errcode = 'MK005';
    end if;
    return new;
  end
  $$;
create trigger guard_audit_checkpoint before insert on keyring.audit_checkpoints
  for each row execute function keyring.guard_audit_checkpoint();

-- Removes what went into a file: executable by `keyring_owner` and its members alone. What it does is an entry itself.
create function keyring.archive_audit(last_place bigint, signed_note text, who text, kind text, why text) returns bigint
  language plpgsql set search_path = ''
  as $$
  declare
    first_place bigint;
    removed bigint;
  begin
    perform from keyring.audit_sealer for update;
    select min(s.place) into first_place from keyring.audit_seals s;
    if first_place is null or last_place < first_place
      or not exists (select from keyring.audit_checkpoints c where c.size = last_place)
    then
      raise exception 'a range that is archived ends at a checkpoint of what is there' using errcode = 'MK005';
    end if;
    insert into keyring.audit_archives (through, note) values (last_place, signed_note);
    insert into keyring.audit_log (actor, principal_kind, action, outcome, subject, reason, details)
      values (who, kind, 'audit.archived', 'succeeded', 'audit:' || first_place || '-' || last_place, why,
        pg_catalog.jsonb_build_object('from', first_place, 'through', last_place, 'note', signed_note));
    delete from keyring.audit_log l using keyring.audit_seals s where s.entry_id = l.id and s.place <= last_place;
    get diagnostics removed = row_count;
    delete from keyring.audit_seals s where s.place <= last_place;
    delete from keyring.audit_checkpoints c where c.size < last_place;
    return removed;
  end
  $$;
comment on function keyring.archive_audit(bigint, text, text, text, text) is
  'Called by `mh-keys audit archive`, after the file is safe: removes the entries up to a checkpoint';

do $$
declare
  name text;
begin
  foreach name in array array['audit_seals', 'audit_checkpoints', 'audit_archives', 'audit_sealer'] loop
    execute pg_catalog.format('alter table keyring.%I enable row level security', name);
    execute pg_catalog.format('alter table keyring.%I force row level security', name);
    execute pg_catalog.format('create policy keyring_roles on keyring.%I for select
      to keyring_owner, keyring_service using (true)', name);
    execute pg_catalog.format('grant select on keyring.%I to keyring_service', name);
  end loop;
  foreach name in array array['audit_log', 'audit_seals', 'audit_checkpoints'] loop
    execute pg_catalog.format('create policy keyring_archive on keyring.%I for delete to keyring_owner using (true)', name);
  end loop;
end
$$;
create policy keyring_append on keyring.audit_seals for insert to keyring_owner, keyring_service with check (true);
create policy keyring_append on keyring.audit_checkpoints for insert to keyring_owner, keyring_service with check (true);
create policy keyring_append on keyring.audit_archives for insert to keyring_owner with check (true);
create policy keyring_hold on keyring.audit_sealer for update to keyring_owner, keyring_service using (true) with check (one);
grant insert on keyring.audit_seals to keyring_service;
grant insert (size, floor_id, note, signing_key_id, mark_id, mark_xid) on keyring.audit_checkpoints to keyring_service;
-- `for update` asks for it; there is one row, and one value that it may have.
grant update (one) on keyring.audit_sealer to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003010' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
