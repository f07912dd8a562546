-- A column that may be null could not be: the fence took a row without a value for one with plaintext. As in moves_in_batches, but that
-- neither ciphertext nor key id is no value, which is nobody's to refuse; taking a value away is, as deleting its row.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

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
          end if;
          if new.%5$I is null and new.%4$I is null then
            -- No value: none is under any version.
            return new;
          end if;
          if tg_op = 'UPDATE' then
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

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000562' $$;
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
