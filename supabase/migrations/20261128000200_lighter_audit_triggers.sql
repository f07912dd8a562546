-- What a writer of entries pays besides the entry. The transaction's id is handed out by a trigger's condition, which costs a call in the
-- executor and none of PL/pgSQL; and the trigger for MeshHook's log, with its transition table, is there only where that log is, made for the
-- columns that it has: a statement that is planned once, where every entry used to read the catalog and plan its own.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

-- Evaluated for every statement, before its first id is handed out; never true, for there is always an id.
create or replace trigger audit_log_begins before insert on keyring.audit_log
  for each statement when (pg_catalog.pg_current_xact_id() is null)
  execute function keyring.begin_audit_entry();

drop trigger mirror_audit_entries on keyring.audit_log;
drop function keyring.mirror_audit_entries();

-- Run as who owns `public.audit_log`; again, when it was made later, or its columns changed. Gives whether it is there.
create or replace function keyring.mirror_audit_log() returns boolean
  language plpgsql set search_path = ''
  as $$
  declare
    caller text := pg_catalog.current_setting('role');
    id_sequence text;
    columns text := '';
    given text := '';
    one record;
  begin
    if pg_catalog.to_regclass('public.audit_log') is null then
      return false;
    end if;
    grant insert on public.audit_log to keyring_owner;
    if exists (select from pg_catalog.pg_attribute a
      where a.attrelid = 'public.audit_log'::regclass and a.attname = 'id' and not a.attisdropped)
    then
      id_sequence := pg_catalog.pg_get_serial_sequence('public.audit_log', 'id');
    end if;
    if id_sequence is not null then
      execute 'grant usage on sequence ' || id_sequence || ' to keyring_owner';
    end if;
    -- Inert where the table is under no row-level security.
    if not exists (select from pg_catalog.pg_policy p
      where p.polrelid = 'public.audit_log'::regclass and p.polname = 'Keyring shows its entries')
    then
      create policy "Keyring shows its entries" on public.audit_log for insert to keyring_owner with check (true);
    end if;

    -- Columns that MeshHook has not are left out.
    for one in
      select a.attname as name, pg_catalog.format('%I.%I%s', s.nspname, t.typname,
          pg_catalog.substring(pg_catalog.format_type(a.atttypid, a.atttypmod), '[(][0-9,]+[)]')) as type,
        case a.attname
          when 'resource_type' then 'pg_catalog.split_part(n.subject, '':'', 1)'
          when 'resource_id' then 'pg_catalog.substr(n.subject, pg_catalog.strpos(n.subject, '':'') + 1)'
          when 'metadata' then 'n.details || pg_catalog.jsonb_build_object(''actor'', n.actor, ''outcome'', n.outcome, ''reason'', n.reason)'
          when 'ip_address' then 'case when n.source_address ~ ''^[0-9a-fA-F.:]+$'' then n.source_address end'
          else 'n.at'
        end as expression
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_namespace s on s.oid = t.typnamespace
      where a.attrelid = 'public.audit_log'::regclass and not a.attisdropped
        and a.attname in ('resource_type', 'resource_id', 'metadata', 'ip_address', 'created_at')
    loop
      columns := columns || pg_catalog.format(', %I', one.name);
      given := given || pg_catalog.format(', (%s)::%s', one.expression, one.type);
    end loop;
    perform pg_catalog.set_config('role', 'keyring_owner', true);
    -- Ours is the record: whatever goes wrong with theirs undoes nothing, and is a warning in the server's log. Who is no user of MeshHook's
    -- has the nil id.
    execute pg_catalog.format('create or replace function keyring.mirror_audit_entries() returns trigger
      language plpgsql security definer set search_path = '''' as %L', '
      begin
        insert into public.audit_log (project_id, user_id, action' || columns || ')
          select n.project_id, coalesce(case when n.principal_kind in (''user'', ''session'') then
              pg_catalog.substring(n.actor, ''[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'')::pg_catalog.uuid end,
              ''00000000-0000-0000-0000-000000000000''), n.action' || given || '
          from written n where n.project_id is not null and n.action <> ''project.deleted'' order by n.id;
        return null;
      exception when others then
        raise warning ''an entry of the keyring is not in public.audit_log: %'', sqlstate;
        return null;
      end');
    revoke execute on function keyring.mirror_audit_entries() from public;
    create or replace trigger mirror_audit_entries after insert on keyring.audit_log
      referencing new table as written for each statement
      when (pg_catalog.to_regclass('public.audit_log') is not null)
      execute function keyring.mirror_audit_entries();
    perform pg_catalog.set_config('role', caller, true);
    return true;
  end
  $$;
comment on function keyring.mirror_audit_log() is
  'Shows entries in MeshHook''s public.audit_log from now on: run as its owner, and again when its columns changed';
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);

select keyring.mirror_audit_log();

set role keyring_owner;
create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
