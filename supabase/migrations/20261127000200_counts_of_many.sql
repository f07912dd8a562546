-- The last count of a rotation over many projects at once: `reference_counts` asks for one, or for all.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create function keyring.reference_counts_of(of_projects uuid[])
  returns table (project_id uuid, encryption_key_id uuid, label text, row_count bigint)
  language plpgsql stable security definer set search_path = ''
  -- Where one project has most of the rows, the planner takes every project for such a one: it would read the whole table for each,
  -- and compile the statement first.
  set enable_seqscan = off set jit = off
  as $$
  declare
    entry pg_catalog.record;
  begin
    -- As in reference_counts: what is missing, catalog_problems() names.
    for entry in
      select c.label, c.table_id, c.project_column, c.key_id_column
      from keyring.encrypted_columns c
      where 2 = (select count(*) from pg_catalog.pg_attribute a
        where a.attrelid = c.table_id and not a.attisdropped and a.attname in (c.project_column, c.key_id_column))
      order by c.label
    loop
      -- Project by project, so that it is the index that is asked, however many rows the planner thinks there are.
      return query execute pg_catalog.format(
        'select p.id, n.key_id, $2, n.row_count from pg_catalog.unnest($1) p (id)
         cross join lateral (
           select t.%2$I as key_id, count(*) as row_count from %3$s t where t.%1$I = p.id group by 1) n',
        entry.project_column, entry.key_id_column, entry.table_id)
        using of_projects, entry.label;
    end loop;
  end
  $$;
comment on function keyring.reference_counts_of(uuid[]) is 'reference_counts of these projects, each named once';
grant execute on function keyring.reference_counts_of(uuid[]) to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127000200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
