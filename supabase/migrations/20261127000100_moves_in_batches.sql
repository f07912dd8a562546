-- A sweep passes the fence once a batch, instead of at every row: through a function per registered column that can do nothing
-- but put rows under the primary version of their own project (docs/decisions/0011-fence-once-a-batch.md). The fence of a row
-- stays what it was, for everybody else.
--
-- The functions run as a third role, keyring_mover, which can do just that. Whatever else runs with them (triggers of the
-- table's owner) runs as it, and not as the owner of the schema.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'keyring_mover') then
    begin
      create role keyring_mover nologin;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  if not pg_catalog.pg_has_role(current_user, 'keyring_mover', 'usage') then
    execute pg_catalog.format('grant keyring_mover to %I', current_user);
  end if;
end
$$;

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

grant usage on schema keyring to keyring_mover;

-- The first two steps of the fence, for these projects: their queues, without waiting in them, and only then, in a new
-- statement, their keyring rows. A project whose promote is under way, or waits, is left out: its rows' turn comes later.
create function keyring.lock_primaries(of_projects uuid[])
  returns table (project_id uuid, primary_key_id uuid)
  language plpgsql security definer set search_path = ''
  as $$
  declare
    queued pg_catalog.uuid[];
  begin
    select pg_catalog.array_agg(p.id) into queued
      from (
        select distinct keyring.project_lock(u.id) as lock, u.id from pg_catalog.unnest(of_projects) u (id) order by 1, 2
      ) p
      where pg_catalog.pg_try_advisory_xact_lock_shared(p.lock);
    return query
      select k.project_id, k.primary_key_id from keyring.keyrings k
      where k.project_id = any (queued) order by k.project_id for share skip locked;
  end
  $$;
comment on function keyring.lock_primaries(uuid[]) is
  'Holds the primary version of these projects until the transaction ends; those of which it cannot at once are left out';
grant execute on function keyring.lock_primaries(uuid[]) to keyring_mover;
grant execute on function keyring.refuse_stale(text, uuid) to keyring_mover;

-- The text of a column's move function. The catalog check compares it with what is there: a table that was renamed, or a
-- function that somebody changed, shows.
--
-- The row says which project it belongs to, the caller does not. Comparing with the bytes that were read lets a concurrent
-- edit win; a row that somebody holds is passed over. An address (`ctid`) is only where to look: a row that moved, or another one
-- in its place, does not match. Addresses of partitions are not unique, so a partitioned table is looked up by row id.
create function keyring.move_body(
  column_label text, in_table regclass, ciphertext_column name, key_id_column name, row_id_column name, project_column name
) returns text
  language plpgsql stable set search_path = ''
  as $body$
  declare
    partitioned pg_catalog.bool := (select c.relkind = 'p' from pg_catalog.pg_class c where c.oid = in_table);
    found pg_catalog.text := case when partitioned then $found$
        select r.tableoid as part, r.ctid as place, b.row_id, r.%3$I as project, b.new_envelope
        from unnest(row_ids, old_envelopes, new_envelopes) b (row_id, old_envelope, new_envelope)
        join %1$s r on r.%2$I = b.row_id
        where r.%3$I = any (projects) and r.%5$I is not null and r.%4$I = b.old_envelope
        for no key update of r skip locked$found$
      else $found$
        select t.place, b.row_id, t.project, b.new_envelope
        from unnest(places, row_ids, old_envelopes, new_envelopes) b (place, row_id, old_envelope, new_envelope)
        cross join lateral (
          select r.ctid as place, r.%3$I as project from %1$s r
          where r.ctid = b.place and r.%2$I = b.row_id
            and r.%3$I = any (projects) and r.%5$I is not null and r.%4$I = b.old_envelope
          for no key update skip locked) t$found$
      end;
  begin
    return pg_catalog.format($move$
    #variable_conflict use_variable
    declare
      projects pg_catalog.uuid[];
      primaries pg_catalog.uuid[];
      moved_projects pg_catalog.uuid[];
      counts pg_catalog.int8[];
      refused pg_catalog.bool;
      refused_key pg_catalog.uuid;
      meddled pg_catalog.bool;
    begin
      select pg_catalog.array_agg(l.project_id), pg_catalog.array_agg(l.primary_key_id) into projects, primaries
        from keyring.lock_primaries(of_projects) l;
      if projects is null then
        return;
      end if;
      -- A new statement, which sees what was committed before the locks were had.
      with held as materialized (
        select f.*, p.id as primary_id, coalesce(keyring.envelope_key_id(f.new_envelope) = p.id, false) as fits
        from (%7$s
        ) f
        cross join lateral (select primaries[pg_catalog.array_position(projects, f.project)] as id) p
      ), moved as (
        update %1$s r set %4$I = h.new_envelope, %5$I = h.primary_id
        from held h where h.fits and r.ctid = h.place%8$s
        returning r.%3$I as project, coalesce(r.%2$I = h.row_id and r.%3$I = h.project
          and r.%4$I = h.new_envelope and r.%5$I = h.primary_id, false) as intact
      )
      select pg_catalog.array_agg(m.project), pg_catalog.array_agg(m.row_count),
          exists (select from held h where not h.fits),
          (select keyring.envelope_key_id(h.new_envelope) from held h where not h.fits limit 1),
          pg_catalog.bool_or(m.meddled)
        into moved_projects, counts, refused, refused_key, meddled
        from (
          select m.project, pg_catalog.count(*) as row_count, pg_catalog.bool_or(not m.intact) as meddled
          from moved m group by m.project) m;
      if refused then
        perform keyring.refuse_stale(%6$L, refused_key);
      end if;
      if meddled then
        raise exception 'a trigger changed what a sweep wrote in %6$s' using errcode = 'MK003';
      end if;
      return query select m.project, m.row_count from unnest(moved_projects, counts) m (project, row_count);
    end
    $move$, in_table, row_id_column, project_column, ciphertext_column, key_id_column, column_label,
      pg_catalog.format(found, in_table, row_id_column, project_column, ciphertext_column, key_id_column),
      case when partitioned then ' and r.tableoid = h.part' else '' end);
  end
  $body$;

-- As in encrypted_columns, with `missing_move`.
create or replace function keyring.catalog_problems()
  returns table (code text, relation text, column_name text, detail text)
  language sql stable security definer set search_path = ''
  as $$
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
    order by 2, 3, 1
  $$;

-- As in encrypted_columns; new are the move function, what its role is granted, and that the fence of a row does not check again what
-- that function checked.
create or replace function keyring.register_encrypted_column(
  column_label text,
  in_table regclass,
  ciphertext_column name,
  key_id_column name,
  row_id_column name default 'id',
  project_column name default 'project_id'
) returns void
  language plpgsql set search_path = ''
  as $body$
  declare
    suffix text := pg_catalog.replace(column_label, '.', '__');
    fence text := 'fence_' || suffix;
    move text := 'move_' || suffix;
    row_id_array text;
    outdated pg_catalog.regprocedure;
    problem pg_catalog.record;
  begin
    insert into keyring.encrypted_columns
      (label, table_id, row_id_column, project_column, ciphertext_column, key_id_column)
      values (column_label, in_table, row_id_column, project_column, ciphertext_column, key_id_column)
      on conflict (label) do update set
        table_id = excluded.table_id, row_id_column = excluded.row_id_column,
        project_column = excluded.project_column, ciphertext_column = excluded.ciphertext_column,
        key_id_column = excluded.key_id_column;

    execute pg_catalog.format($fence$
      create or replace function keyring.%1$I() returns trigger
        language plpgsql security definer set search_path = ''
        as $trigger$
        declare
          primary_id pg_catalog.uuid;
        begin
          if tg_op = 'UPDATE' then
            if new.%2$I is distinct from old.%2$I or new.%3$I is distinct from old.%3$I then
              raise exception 'row id and project of an encrypted row never change' using errcode = 'MK004';
            end if;
            if new.%5$I is null and old.%5$I is not null then
              raise exception 'plaintext is refused in %6$s' using errcode = 'MK002';
            end if;
          end if;
          if new.%5$I is null then
            perform keyring.admit_plaintext(%6$L);
            return new;
          end if;
          if keyring.envelope_key_id(new.%4$I) is distinct from new.%5$I then
            raise exception 'the envelope does not name the key of its row in %6$s' using errcode = 'MK003';
          end if;
          if tg_op = 'INSERT' then
            -- The project first, which the foreign key would take last: the order in which deleting a project goes.
            perform from public.projects p where p.id = new.%3$I for key share;
          end if;
          perform pg_catalog.pg_advisory_xact_lock_shared(keyring.project_lock(new.%3$I));
          select k.primary_key_id into primary_id
            from keyring.keyrings k where k.project_id = new.%3$I for share;
          if primary_id is distinct from new.%5$I then
            perform keyring.refuse_stale(%6$L, new.%5$I);
          end if;
          return new;
        end
        $trigger$
      $fence$, fence, row_id_column, project_column, ciphertext_column, key_id_column, column_label);
    execute pg_catalog.format('revoke execute on function keyring.%I() from public', fence);
    execute pg_catalog.format('alter function keyring.%I() owner to keyring_owner', fence);

    execute pg_catalog.format('drop trigger if exists %I on %s', 'zz_keyring_fence_insert_' || suffix, in_table);
    execute pg_catalog.format('drop trigger if exists %I on %s', 'zz_keyring_fence_update_' || suffix, in_table);
    execute pg_catalog.format(
      'create trigger %I before insert on %s for each row execute function keyring.%I()',
      'zz_keyring_fence_insert_' || suffix, in_table, fence);
    execute pg_catalog.format(
      'create trigger %1$I before update on %2$s for each row when (
         current_user <> ''keyring_mover'' and (
           old.%3$I is distinct from new.%3$I or old.%4$I is distinct from new.%4$I
           or old.%5$I is distinct from new.%5$I or old.%6$I is distinct from new.%6$I))
       execute function keyring.%7$I()',
      'zz_keyring_fence_update_' || suffix, in_table, ciphertext_column, key_id_column, row_id_column, project_column,
      fence);

    select pg_catalog.format('%I.%I', n.nspname, y.typname) into row_id_array
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_type y on y.oid = t.typarray
      join pg_catalog.pg_namespace n on n.oid = y.typnamespace
      where a.attrelid = in_table and a.attname = row_id_column;
    for outdated in
      select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'keyring'::pg_catalog.regnamespace and p.proname = move
    loop
      execute pg_catalog.format('drop function %s', outdated);
    end loop;
    -- The plan is the same for any batch: by address, and never by way of the whole table.
    execute pg_catalog.format(
      'create function keyring.%I(of_projects pg_catalog.uuid[], places pg_catalog.tid[], row_ids %s,
         old_envelopes pg_catalog.bytea[], new_envelopes pg_catalog.bytea[])
       returns table (project_id pg_catalog.uuid, moved pg_catalog.int8)
       language plpgsql security definer set search_path = pg_catalog, pg_temp %s as %L',
      move, row_id_array,
      case when exists (select from pg_catalog.pg_class c where c.oid = in_table and c.relkind = 'p') then ''
        else 'set plan_cache_mode = force_generic_plan set enable_seqscan = off' end,
      keyring.move_body(column_label, in_table, ciphertext_column, key_id_column, row_id_column, project_column));
    execute pg_catalog.format('revoke execute on function keyring.%I from public', move);
    -- Who is given a function must be allowed to create one there; nobody is for longer than that.
    grant create on schema keyring to keyring_mover;
    execute pg_catalog.format('alter function keyring.%I owner to keyring_mover', move);
    revoke create on schema keyring from keyring_mover;
    execute pg_catalog.format('grant execute on function keyring.%I to keyring_service', move);

    -- Keys go only when their project does (guard_encryption_key): what names them goes with them, however many tables
    -- below the project it is. A plain reference would refuse the delete before a table of the second level was reached.
    if not exists (select from pg_catalog.pg_constraint c
      join pg_catalog.pg_attribute k on k.attrelid = c.conrelid and k.attname = key_id_column
      join pg_catalog.pg_attribute p on p.attrelid = c.conrelid and p.attname = project_column
      where c.conrelid = in_table and c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::regclass
        and k.attnum = any (c.conkey) and p.attnum = any (c.conkey))
    then
      execute pg_catalog.format(
        'alter table %s add foreign key (%I, %I) references keyring.encryption_keys (project_id, id) on delete cascade',
        in_table, project_column, key_id_column);
    end if;

    -- The service reads and writes the row; the definers that count references read two columns of it.
    execute pg_catalog.format('grant select, insert, update, delete on %s to keyring_service', in_table);
    execute pg_catalog.format('grant select (%I, %I, %I) on %s to keyring_owner',
      row_id_column, project_column, key_id_column, in_table);
    execute pg_catalog.format('alter table %s enable row level security', in_table);
    execute pg_catalog.format('drop policy if exists keyring_service on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_service on %s to keyring_service using (true) with check (true)', in_table);
    execute pg_catalog.format('drop policy if exists keyring_owner on %s', in_table);
    execute pg_catalog.format('create policy keyring_owner on %s for select to keyring_owner using (true)', in_table);

    -- What moves rows finds them by their address, reads five columns and changes two; on a partition, it says which.
    execute pg_catalog.format('grant select (tableoid, ctid, %I, %I, %I, %I), update (%I, %I) on %s to keyring_mover',
      row_id_column, project_column, ciphertext_column, key_id_column, ciphertext_column, key_id_column, in_table);
    execute pg_catalog.format('drop policy if exists keyring_mover_reads on %s', in_table);
    execute pg_catalog.format('drop policy if exists keyring_mover_writes on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_mover_reads on %s for select to keyring_mover using (true)', in_table);
    execute pg_catalog.format(
      'create policy keyring_mover_writes on %s for update to keyring_mover using (true) with check (true)', in_table);

    for problem in select p.code, p.column_name, p.detail from keyring.catalog_problems() p
      where p.relation = in_table::text and p.code in ('missing_column', 'row_id_not_unique', 'inherited_table')
    loop
      raise exception '%: column % of % %', problem.code, problem.column_name, in_table, problem.detail
        using errcode = 'MK005';
    end loop;
  end
  $body$;

-- As in encrypted_columns; the move function goes with the entry.
create or replace function keyring.unregister_encrypted_column(column_label text) returns void
  language plpgsql set search_path = ''
  as $$
  declare
    remaining bigint;
    move pg_catalog.regprocedure;
  begin
    select coalesce(sum(r.row_count), 0) into remaining
      from keyring.reference_counts() r where r.label = column_label and r.encryption_key_id is not null;
    if remaining > 0 then
      raise exception '% rows of % name keys', remaining, column_label using errcode = 'MK006',
        hint = 'Delete or empty them first; ciphertext without a registry entry would be forgotten by rotations.';
    end if;
    delete from keyring.encrypted_columns where label = column_label;
    if not found then
      raise exception 'no encrypted column is registered as %', column_label using errcode = 'MK005';
    end if;
    for move in
      select p.oid from pg_catalog.pg_proc p
      where p.pronamespace = 'keyring'::pg_catalog.regnamespace
        and p.proname = 'move_' || pg_catalog.replace(column_label, '.', '__')
    loop
      execute pg_catalog.format('drop function %s', move);
    end loop;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127000100' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);

-- What is registered already, as whoever owns its table. A column of somebody else's table is left for its owner, and the catalog
-- check names it until then.
do $$
declare
  entry pg_catalog.record;
begin
  for entry in
    select e.* from keyring.encrypted_columns e
    join pg_catalog.pg_class c on c.oid = e.table_id
    where pg_catalog.pg_has_role(c.relowner, 'usage') and 4 = (select count(*) from pg_catalog.pg_attribute a
      where a.attrelid = e.table_id and not a.attisdropped
        and a.attname in (e.row_id_column, e.project_column, e.ciphertext_column, e.key_id_column))
    order by e.label
  loop
    perform keyring.register_encrypted_column(entry.label, entry.table_id, entry.ciphertext_column, entry.key_id_column,
      entry.row_id_column, entry.project_column);
  end loop;
end
$$;
