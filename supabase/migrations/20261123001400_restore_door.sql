-- The one door in the fence: rows of a backup come back into a live database under the versions they were under. For members of
-- `keyring_owner` only, for one transaction at a time, on the record, and never for a destroyed version. What came in is
-- stale; the next sweep moves it. Restoring a whole database needs no door.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.restore_doors (
  transaction_id xid8 primary key,
  opened_by name not null default session_user,
  reason text not null check (length(reason) between 1 and 1000),
  opened_at timestamptz not null default clock_timestamp()
);
comment on table keyring.restore_doors is 'Transactions in which old ciphertext may be restored. A record, too: rows stay';
alter table keyring.restore_doors enable row level security;
alter table keyring.restore_doors force row level security;
create policy keyring_roles on keyring.restore_doors to keyring_owner using (true) with check (true);
create policy keyring_read on keyring.restore_doors for select to keyring_service using (true);
grant select on keyring.restore_doors to keyring_service;

-- Executable by `keyring_owner` and its members alone: it is granted to nobody.
create function keyring.open_restore_door(reason text) returns void
  language plpgsql set search_path = ''
  as $$
  begin
    insert into keyring.restore_doors (transaction_id, reason)
      values (pg_catalog.pg_current_xact_id(), open_restore_door.reason)
      on conflict (transaction_id) do nothing;
    insert into keyring.audit_log (actor, action, outcome, subject, reason)
      values ('database:' || session_user, 'restore.door_opened', 'succeeded',
        'transaction:' || pg_catalog.pg_current_xact_id()::text, open_restore_door.reason);
  end
  $$;
comment on function keyring.open_restore_door(text) is
  'Lets the rest of this transaction restore ciphertext under old versions (docs/runbooks/restore-old-rows.md)';

create or replace function keyring.refuse_stale(column_label text, stale_key_id uuid) returns void
  language plpgsql security definer set search_path = ''
  as $$
  begin
    if exists (select from keyring.restore_doors d
      where d.transaction_id = pg_catalog.pg_current_xact_id_if_assigned())
    then
      if exists (select from keyring.encryption_keys k where k.id = stale_key_id and k.state <> 'destroyed') then
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
  as $$ select '20261123001400' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
