-- What an emergency adds: its own trigger, the projects it overtakes, and what a leaked version exposed.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.rotations drop constraint rotations_trigger_check;
alter table keyring.rotations add constraint rotations_trigger_check
  check (trigger in ('manual', 'api', 'usage', 'compromise'));

-- Every value of a project that was ever under a version: those set before the version's end and not replaced before its
-- beginning. From the trail, so that overwritten and deleted values are in it; rows the trail does not know (adopted ones,
-- other tables) by what the row says, and where it says nothing, counted in.
create function keyring.exposed_secrets(of_key uuid)
  returns table (label text, row_id text, name text, written_at timestamptz, replaced_at timestamptz)
  language plpgsql stable security definer set search_path = ''
  as $$
  declare
    version pg_catalog.record;
    entry pg_catalog.record;
  begin
    select k.project_id, k.activated_at, coalesce(k.deactivated_at, 'infinity') as ended into version
      from keyring.encryption_keys k where k.id = of_key and k.activated_at is not null;
    if not found then
      return;
    end if;

    return query
      with trail as (
        select a.subject, a.action, a.at, a.details ->> 'name' as secret_name, a.details ->> 'created' as created,
          lead(a.at) over (partition by a.subject order by a.id) as until,
          pg_catalog.row_number() over (partition by a.subject order by a.id) as nth
        from keyring.audit_log a
        where a.project_id = version.project_id and a.action in ('secret.written', 'secret.deleted')
      )
      select 'secrets.value'::pg_catalog.text, pg_catalog.substr(w.subject, 8), w.secret_name, w.at, w.until
      from trail w
      where w.action = 'secret.written' and w.at < version.ended
        and coalesce(w.until, 'infinity') > version.activated_at
      union all
      -- A trail that begins with a change: the value before it (an adopted one) is known only by its end.
      select 'secrets.value', pg_catalog.substr(w.subject, 8), w.secret_name, null, w.at
      from trail w
      where w.nth = 1 and (w.action = 'secret.deleted' or w.created = 'false') and w.at > version.activated_at
      order by 3, 4 nulls first;

    for entry in select * from keyring.encrypted_columns c order by c.label loop
      return query execute pg_catalog.format(
        'select %1$L::pg_catalog.text, t.%2$I::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.timestamptz, null::pg_catalog.timestamptz
         from %3$s t
         where t.%4$I = $1 and t.%5$I is not null
           and not exists (select from keyring.audit_log a
             where a.project_id = $1 and a.action = ''secret.written'' and a.subject = ''secret:'' || t.%2$I::pg_catalog.text)
         order by 2',
        entry.label, entry.row_id_column, entry.table_id, entry.project_column, entry.key_id_column)
        using version.project_id;
    end loop;
  end
  $$;
comment on function keyring.exposed_secrets(uuid) is
  'Values of a project that were ever under this version; no times where only the row itself is known';
grant execute on function keyring.exposed_secrets(uuid) to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123001200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
