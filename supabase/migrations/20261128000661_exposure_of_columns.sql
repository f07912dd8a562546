-- Values that the library sets in columns of other tables are in the trail (`row.written`): an exposure report can say since when each
-- was there, and name those that were replaced. As in exposure_of_restored_rows, but for that.

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
        select t.*,
          lead(t.at) over (partition by t.of_label, t.of_row order by t.id) as until,
          pg_catalog.row_number() over (partition by t.of_label, t.of_row order by t.id) as nth
        from (
          select a.id, a.action, a.at, a.details ->> 'name' as secret_name, a.details ->> 'key' as key_id,
            -- Was there a value before it?
            case a.action when 'row.written' then a.details ->> 'previousKey' is not null
              when 'secret.deleted' then true else a.details ->> 'created' = 'false' end as replaces,
            case a.action when 'row.written' then a.details ->> 'label' else 'secrets.value' end as of_label,
            case a.action when 'row.written' then a.details ->> 'row' else pg_catalog.substr(a.subject, 8) end as of_row
          from keyring.audit_log a
          where a.project_id = version.project_id and a.action in ('secret.written', 'secret.deleted', 'row.written')
        ) t
      )
      select w.of_label, w.of_row, w.secret_name, w.at, w.until
      from trail w
      -- Written under it, whatever the clocks say; or moved to it, of which only they tell.
      where w.action <> 'secret.deleted' and (w.key_id = of_key::pg_catalog.text
        or w.at < version.ended and coalesce(w.until, 'infinity') > version.activated_at)
      union all
      -- A trail that begins with a change: the value before it (an adopted one) is known only by its end.
      select w.of_label, w.of_row, w.secret_name, null, w.at
      from trail w
      where w.nth = 1 and w.replaces and w.at > version.activated_at
      order by 3, 4 nulls first;

    for entry in select * from keyring.encrypted_columns c order by c.label loop
      return query execute pg_catalog.format(
        'select %1$L::pg_catalog.text, t.%2$I::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.timestamptz, null::pg_catalog.timestamptz
         from %3$s t
         left join (
           select distinct on (e.of_row) e.of_row, e.action from (
             select a.id, a.action,
               case a.action when ''row.written'' then a.details ->> ''row'' else pg_catalog.substr(a.subject, 8) end as of_row
             from keyring.audit_log a
             where a.project_id = $1
               and case when %1$L = ''secrets.value'' then a.action in (''secret.written'', ''secret.deleted'')
                 else a.action = ''row.written'' and a.details ->> ''label'' = %1$L end
           ) e order by e.of_row, e.id desc) last on last.of_row = t.%2$I::pg_catalog.text
         where t.%4$I = $1 and t.%5$I is not null
           -- Where the last that the trail says is that it was written, the value is among those above, if it was under the version.
           and (last.action is null or last.action = ''secret.deleted'')
         order by 2',
        entry.label, entry.row_id_column, entry.table_id, entry.project_column, entry.key_id_column)
        using version.project_id;
    end loop;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000661' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
