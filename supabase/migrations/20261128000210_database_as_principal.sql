-- Entries that the database writes by itself say what their actor is, as all others do: `system`, in the name of the login that was connected.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create or replace function keyring.note_keyring_end() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  begin
    if pg_catalog.pg_trigger_depth() < 2 or exists (select from public.projects p where p.id = old.project_id) then
      raise exception 'a keyring lives as long as its project' using errcode = 'MK005';
    end if;
    update keyring.rotation_projects
      set state = 'canceled', finished_at = pg_catalog.now(), error_code = 'project_deleted'
      where project_id = old.project_id and state not in ('completed', 'rolled_back', 'canceled', 'failed');
    insert into keyring.audit_log (actor, principal_kind, action, outcome, project_id, subject)
      values ('database:' || session_user, 'system', 'project.deleted', 'succeeded', old.project_id, 'project:' || old.project_id);
    return old;
  end
  $$;

create or replace function keyring.open_restore_door(reason text) returns void
  language plpgsql set search_path = ''
  as $$
  begin
    insert into keyring.restore_doors (transaction_id, reason)
      values (pg_catalog.pg_current_xact_id(), open_restore_door.reason)
      on conflict (transaction_id) do nothing;
    insert into keyring.audit_log (actor, principal_kind, action, outcome, subject, reason)
      values ('database:' || session_user, 'system', 'restore.door_opened', 'succeeded',
        'transaction:' || pg_catalog.pg_current_xact_id()::text, open_restore_door.reason);
  end
  $$;
comment on column keyring.audit_log.principal_kind is 'What the actor is. Null: written before kinds were';

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000210' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
