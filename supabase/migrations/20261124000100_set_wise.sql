-- Rotations set-wise: many rows, and many projects, in one statement, past the same fence.
--
-- The fence costs a row as much as its update does. For the rows of a sweep `move_…` passes it once a batch: it takes the
-- projects' locks, reads their pointers under them, and moves a row only to the primary of its own project.

select pg_catalog.set_config('keyring.migrator', current_user, false);

-- Room on every page for a second version of each of its rows: a sweep then stays off the indexes (HOT), and the table keeps
-- its size from rotation to rotation. Measured with 200,000 rows: 290,000 updates/s with 50, 92,000 with 80, where the
-- table grew by a third as well. Pages that are full already fill up as before; `vacuum full` rewrites them.
alter table public.secrets set (fillfactor = 50);

set role keyring_owner;
alter table keyring.keyrings set (fillfactor = 50);
alter table keyring.encryption_keys set (fillfactor = 50);

-- reference_counts for a set of projects.
create function keyring.reference_counts_in(of_projects uuid[])
  returns table (project_id uuid, encryption_key_id uuid, label text, row_count bigint)
  language plpgsql stable security definer set search_path = ''
  as $$
  declare
    entry pg_catalog.record;
  begin
    for entry in
      select c.label, c.table_id, c.project_column, c.key_id_column
      from keyring.encrypted_columns c
      where 2 = (select count(*) from pg_catalog.pg_attribute a
        where a.attrelid = c.table_id and not a.attisdropped and a.attname in (c.project_column, c.key_id_column))
      order by c.label
    loop
      return query execute pg_catalog.format(
        'select t.%1$I, t.%2$I, $2, count(*) from %3$s t where t.%1$I = any ($1) group by 1, 2',
        entry.project_column, entry.key_id_column, entry.table_id)
        using of_projects, entry.label;
    end loop;
  end
  $$;
comment on function keyring.reference_counts_in(uuid[]) is 'reference_counts for a set of projects';
grant execute on function keyring.reference_counts_in(uuid[]) to keyring_service;

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

    -- What a sweep moves rows by: the fence, passed once for a whole batch instead of once a row. It runs as keyring_owner, whose
    -- updates the trigger lets through, and nobody but it does.
    execute pg_catalog.format($move$
      create or replace function keyring.%1$I(
        places pg_catalog.tid[], tables pg_catalog.oid[], old_values pg_catalog.bytea[], new_values pg_catalog.bytea[],
        of_projects pg_catalog.uuid[]
      ) returns table (project_id pg_catalog.uuid, moved pg_catalog.int8)
        language plpgsql security definer set search_path = ''
        as $function$
        declare
          free pg_catalog.uuid[];
          primaries pg_catalog.uuid[];
        begin
          -- Never waits: a project whose promote is under way, or that is being deleted, is passed over.
          select pg_catalog.array_agg(p.id) into free from pg_catalog.unnest(of_projects) p (id)
            where pg_catalog.pg_try_advisory_xact_lock_shared(keyring.project_lock(p.id));
          select pg_catalog.array_agg(k.project_id), pg_catalog.array_agg(k.primary_key_id) into free, primaries
            from (select r.project_id, r.primary_key_id from keyring.keyrings r
                  where r.project_id = any (free) for share skip locked) k;
          return query
            with pointer as (
              select p.project_id, p.key_id from pg_catalog.unnest(free, primaries) p (project_id, key_id)
            ), held as (
              -- Each row by where it lies, and only if it still holds the very bytes that were read. A row's envelope must name
              -- the primary of the row's own project.
              select t.place, t.in_table, b.new_value, keyring.envelope_key_id(b.new_value) as key_id
              from pg_catalog.unnest(places, tables, old_values, new_values) b (place, in_table, old_value, new_value)
              cross join lateral (
                select s.ctid as place, s.tableoid as in_table, s.%5$I as of_project from %2$s s
                where s.ctid = b.place and s.tableoid = b.in_table and s.%3$I = b.old_value
                for no key update skip locked
              ) t
              join pointer p on p.project_id = t.of_project and p.key_id = keyring.envelope_key_id(b.new_value)
            ), done as (
              update %2$s s set %3$I = h.new_value, %4$I = h.key_id
              from held h where s.ctid = h.place and s.tableoid = h.in_table
              returning s.%5$I as of_project
            )
            select d.of_project, pg_catalog.count(*) from done d group by d.of_project;
        end
        $function$
      $move$, move, in_table, ciphertext_column, key_id_column, project_column);
    execute pg_catalog.format('revoke execute on function keyring.%I(tid[], oid[], bytea[], bytea[], uuid[]) from public', move);
    execute pg_catalog.format('alter function keyring.%I(tid[], oid[], bytea[], bytea[], uuid[]) owner to keyring_owner', move);
    execute pg_catalog.format('grant execute on function keyring.%I(tid[], oid[], bytea[], bytea[], uuid[]) to keyring_service', move);

    execute pg_catalog.format('drop trigger if exists %I on %s', 'zz_keyring_fence_insert_' || suffix, in_table);
    execute pg_catalog.format('drop trigger if exists %I on %s', 'zz_keyring_fence_update_' || suffix, in_table);
    execute pg_catalog.format(
      'create trigger %I before insert on %s for each row execute function keyring.%I()',
      'zz_keyring_fence_insert_' || suffix, in_table, fence);
    execute pg_catalog.format(
      'create trigger %1$I before update on %2$s for each row when (
         current_user <> ''keyring_owner'' and (
         old.%3$I is distinct from new.%3$I or old.%4$I is distinct from new.%4$I
         or old.%5$I is distinct from new.%5$I or old.%6$I is distinct from new.%6$I))
       execute function keyring.%7$I()',
      'zz_keyring_fence_update_' || suffix, in_table, ciphertext_column, key_id_column, row_id_column, project_column,
      fence);

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
    execute pg_catalog.format('grant select (%1$I, %2$I, %3$I, %4$I), update (%3$I, %4$I) on %5$s to keyring_owner',
      row_id_column, project_column, key_id_column, ciphertext_column, in_table);
    execute pg_catalog.format('alter table %s enable row level security', in_table);
    execute pg_catalog.format('drop policy if exists keyring_service on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_service on %s to keyring_service using (true) with check (true)', in_table);
    execute pg_catalog.format('drop policy if exists keyring_owner on %s', in_table);
    execute pg_catalog.format('create policy keyring_owner on %s for select to keyring_owner using (true)', in_table);
    execute pg_catalog.format('drop policy if exists keyring_owner_moves on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_owner_moves on %s for update to keyring_owner using (true) with check (true)', in_table);

    for problem in select p.code, p.column_name, p.detail from keyring.catalog_problems() p
      where p.relation = in_table::text and p.code in ('missing_column', 'row_id_not_unique', 'inherited_table')
    loop
      raise exception '%: column % of % %', problem.code, problem.column_name, in_table, problem.detail
        using errcode = 'MK005';
    end loop;
  end
  $body$;


select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);

-- The columns that are registered already get their function too, where their tables are the migrating role's.
do $$
declare
  entry record;
begin
  for entry in
    select c.* from keyring.encrypted_columns c join pg_catalog.pg_class t on t.oid = c.table_id
    where pg_catalog.pg_has_role(pg_catalog.current_setting('keyring.migrator'), t.relowner, 'usage')
  loop
    perform keyring.register_encrypted_column(entry.label, entry.table_id, entry.ciphertext_column, entry.key_id_column,
      entry.row_id_column, entry.project_column);
  end loop;
end
$$;

set role keyring_owner;
create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261124000100' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
