-- A floor above all entries would be below nothing that is ever written: whoever may sign could have sealing pass over everything to come.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create or replace function keyring.guard_audit_checkpoint() returns trigger
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
    if new.floor_id < floor_before
      or new.floor_id > floor_before and new.floor_id > (select coalesce(max(l.id), 0) from keyring.audit_log l)
      or exists (
        select from keyring.audit_log l where l.id > floor_before and l.id <= new.floor_id
          and not exists (select from keyring.audit_seals s where s.entry_id = l.id))
    then
      raise exception 'up to the floor every entry has its place' using errcode = 'MK005';
    end if;
    return new;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000220' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
