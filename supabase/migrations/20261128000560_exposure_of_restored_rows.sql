-- What an exposure report did not name: a secret that was deleted, and came back through the restore door (the trail ends with its
-- deletion); a row of another table whose id is that of a secret; and what was written while the clock of the server was ahead of,
-- or behind, that of the server before it. As in compromise, but for that.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create or replace function keyring.exposed_secrets(of_key uuid)
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
          a.details ->> 'key' as key_id,
          lead(a.at) over (partition by a.subject order by a.id) as until,
          pg_catalog.row_number() over (partition by a.subject order by a.id) as nth
        from keyring.audit_log a
        where a.project_id = version.project_id and a.action in ('secret.written', 'secret.deleted')
      )
      select 'secrets.value'::pg_catalog.text, pg_catalog.substr(w.subject, 8), w.secret_name, w.at, w.until
      from trail w
      -- Written under it, whatever the clocks say; or moved to it, of which only they tell.
      where w.action = 'secret.written' and (w.key_id = of_key::pg_catalog.text
        or w.at < version.ended and coalesce(w.until, 'infinity') > version.activated_at)
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
         left join (
           select distinct on (a.subject) a.subject, a.action from keyring.audit_log a
           where a.project_id = $1 and a.action in (''secret.written'', ''secret.deleted'')
           order by a.subject, a.id desc) last on %6$L and last.subject = ''secret:'' || t.%2$I::pg_catalog.text
         where t.%4$I = $1 and t.%5$I is not null
           -- Where the last that the trail says is that it was written, the value is among those above, if it was under the version.
           and last.action is distinct from ''secret.written''
         order by 2',
        entry.label, entry.row_id_column, entry.table_id, entry.project_column, entry.key_id_column,
        entry.label = 'secrets.value')
        using version.project_id;
    end loop;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000560' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
