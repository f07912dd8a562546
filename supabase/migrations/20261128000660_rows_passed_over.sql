-- Two ways to pass over rows that the catalog check did not see. A partition whose `detach … concurrently` was interrupted, or is
-- waiting, is no longer read by way of its table, and its foreign key is still that of the table: nobody counted its rows and nobody
-- named it, so a rotation completed without them and their version could be destroyed. And a move function takes row ids of the type
-- that they had when the column was registered: after a change of type every sweep failed, and the doctor saw nothing.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create or replace function keyring.catalog_problems()
  returns table (code text, relation text, column_name text, detail text)
  language plpgsql stable security definer set search_path = '' set enable_hashjoin = off set enable_mergejoin = off
  as $$
  #variable_conflict use_column
  begin
    return query select p.code, p.relation::pg_catalog.text, p.column_name::pg_catalog.text, p.detail from (
      with registered as (
        select e.*, t.oid is not null as found, t.relrowsecurity,
          'fence_' || pg_catalog.replace(e.label, '.', '__') as fence,
          'move_' || pg_catalog.replace(e.label, '.', '__') as move
        from keyring.encrypted_columns e left join pg_catalog.pg_class t on t.oid = e.table_id
      ),
      parts as (
        select r.fence, r.ciphertext_column, r.table_id as relid from registered r where r.found
        union
        select r.fence, r.ciphertext_column, p.relid
        from registered r cross join lateral pg_catalog.pg_partition_tree(r.table_id) p where r.found
      ),
      key_references as (
        select c.conrelid, c.conkey, c.convalidated,
          c.conkey[pg_catalog.array_position(c.confkey, k.attnum)] as key_id_number
        from pg_catalog.pg_constraint c
        join pg_catalog.pg_attribute k on k.attrelid = c.confrelid and k.attname = 'id'
        where c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::pg_catalog.regclass and c.conparentid = 0
      )
      -- A column that names keys and is not in the registry: a rotation would forget it.
      select 'unregistered_column', f.conrelid::pg_catalog.regclass, a.attname,
        'has a foreign key to keyring.encryption_keys and is not registered'
      from key_references f
      join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.key_id_number
      join pg_catalog.pg_class t on t.oid = f.conrelid
      -- The keyring's own tables tell of keys; none of them holds a ciphertext.
      where t.relnamespace <> 'keyring'::pg_catalog.regnamespace
        and not exists (select from registered r where r.table_id = f.conrelid and r.key_id_column = a.attname)
      union all
      select distinct 'detaching_partition', i.inhrelid::pg_catalog.regclass, null,
        'is being detached, so that nobody counts the rows in it that name keys: finish that, then attach it again or drop it'
      from parts p
      join pg_catalog.pg_inherits i on i.inhparent = p.relid and i.inhdetachpending
      union all
      select 'missing_table', r.table_id, null, pg_catalog.format('the table registered as %s is gone', r.label)
      from registered r where not r.found
      union all
      select 'missing_column', r.table_id, w.wanted,
        pg_catalog.format('registered as %s, but the table has no such column', r.label)
      from registered r
      cross join lateral (
        values (r.row_id_column), (r.project_column), (r.ciphertext_column), (r.key_id_column)) w (wanted)
      where r.found and not exists (select from pg_catalog.pg_attribute a
        where a.attrelid = r.table_id and a.attname = w.wanted and not a.attisdropped)
      union all
      select 'missing_foreign_key', r.table_id, r.key_id_column,
        'has no validated foreign key, with its project, to keyring.encryption_keys'
      from registered r
      where r.found and not exists (select from key_references f
        join pg_catalog.pg_attribute k on k.attrelid = f.conrelid and k.attnum = f.key_id_number
        join pg_catalog.pg_attribute p on p.attrelid = f.conrelid and p.attnum = any (f.conkey)
        where f.conrelid = r.table_id and f.convalidated
          and k.attname = r.key_id_column and p.attname = r.project_column)
      union all
      -- The fence, on the table and on each of its partitions: there, enabled, and last of what can change a row.
      select 'missing_fence', p.relid, p.ciphertext_column,
        pg_catalog.format('trigger %s is missing, disabled or not the fence', w.wanted)
      from parts p
      cross join (values ('insert', 7), ('update', 19)) e (event, row_before_event)
      cross join lateral (
        select 'zz_keyring_' || pg_catalog.replace(p.fence, 'fence_', 'fence_' || e.event || '_') as wanted) w
      where not exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
        where t.tgrelid = p.relid and t.tgname = w.wanted and t.tgenabled in ('O', 'A')
          and t.tgtype = e.row_before_event
          and f.proname = p.fence and f.pronamespace = 'keyring'::pg_catalog.regnamespace)
      union all
      -- What the sweep moves rows with: it names the table as it was called when the column was registered.
      select 'missing_move', r.table_id, r.ciphertext_column,
        pg_catalog.format('function keyring.%s is missing or was made for another table: register the column again', r.move)
      from registered r
      where r.found and not exists (select from pg_catalog.pg_proc f
        where f.proname = r.move and f.pronamespace = 'keyring'::pg_catalog.regnamespace
          and f.prosecdef and pg_catalog.pg_get_userbyid(f.proowner) = 'keyring_mover'
          and f.proconfig[1] = 'search_path=pg_catalog, pg_temp'
          and f.proargtypes[2] = (select y.typarray from pg_catalog.pg_attribute a
            join pg_catalog.pg_type y on y.oid = a.atttypid
            where a.attrelid = r.table_id and a.attname = r.row_id_column)
          and f.prosrc = keyring.move_body(r.label, r.table_id, r.ciphertext_column, r.key_id_column, r.row_id_column,
            r.project_column))
      union all
      select distinct 'trigger_after_fence', p.relid, t.tgname,
        'fires after the fence and could change what it checked: rename it to sort before zz_keyring'
      from parts p
      join pg_catalog.pg_trigger t on t.tgrelid = p.relid
      join pg_catalog.pg_proc f on f.oid = t.tgfoid
      where t.tgparentid = 0 and t.tgenabled <> 'D' and t.tgname > 'zz_keyring_fence_'
        and (t.tgtype & 3) = 3 and (t.tgtype & 20) <> 0
        and f.pronamespace <> 'keyring'::pg_catalog.regnamespace
      union all
      -- A child that inherits is no partition: it has none of the triggers, and its rows are counted with the parent's.
      select 'inherited_table', i.inhrelid, null, pg_catalog.format('inherits from %s and has no fence', r.table_id)
      from registered r
      join pg_catalog.pg_inherits i on i.inhparent = r.table_id
      join pg_catalog.pg_class child on child.oid = i.inhrelid and not child.relispartition
      where r.found
      union all
      -- A sweep addresses a row by its id, and the associated data binds it. PostgreSQL cannot promise that a partitioned table's
      -- ids are unique over its partitions; for UUIDs chance does.
      select 'row_id_not_unique', r.table_id, r.row_id_column,
        'is not the primary key, nor unique (with the project) and not null: it does not say which row is meant'
      from registered r
      join pg_catalog.pg_class t on t.oid = r.table_id
      join pg_catalog.pg_attribute a on a.attrelid = r.table_id and a.attname = r.row_id_column
      where not (a.attnotnull and exists (
        select from pg_catalog.pg_index x
        where x.indrelid = r.table_id and x.indisunique and x.indisvalid and x.indpred is null and x.indexprs is null
          and a.attnum = any (x.indkey)
          and ((t.relkind = 'p' and a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype)
            or not exists (select from pg_catalog.unnest(x.indkey::pg_catalog.int2[]) k (number)
              join pg_catalog.pg_attribute c on c.attrelid = r.table_id and c.attnum = k.number
              where c.attname not in (r.row_id_column, r.project_column)))))
      union all
      select 'row_security_off', r.table_id, null,
        'row-level security is off on a table that holds ciphertext'
      from registered r where r.found and not r.relrowsecurity
      union all
      -- Under row-level security a row that the counting definer may not see is not counted, and nobody is told.
      select 'hidden_rows', r.table_id, null,
        'row-level security hides rows from keyring_owner, which counts what names a key: register the column again'
      from registered r
      cross join lateral (
        select
          coalesce(pg_catalog.bool_or(p.polpermissive and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'), false)
            as sees_all,
          coalesce(pg_catalog.bool_or(not p.polpermissive), false) as restricted
        from pg_catalog.pg_policy p
        where p.polrelid = r.table_id and p.polcmd in ('r', '*')
          and exists (select from pg_catalog.unnest(p.polroles) g (role)
            where case when g.role = 0 then true else pg_catalog.pg_has_role(current_user, g.role, 'usage') end)
      ) v
      where r.relrowsecurity and (v.restricted or not v.sees_all)
    ) p (code, relation, column_name, detail)
    order by 2, 3, 1;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000660' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
