-- The registry of encrypted columns, and the fence that every one of them stands behind.
--
-- The fence: after a promote commits, no ciphertext under any other version can be committed, whatever the writer's cache
-- or isolation level. Its order matters (docs/decisions/0003-fence.md says what each variant did):
--   1. the project's advisory lock, shared: a fair queue, so that a promote is not starved by overlapping writers;
--   2. the keyring row, `for share`, unconditionally: under repeatable read and serializable this is what refuses;
--   3. only then the comparison, failing closed where no keyring is visible.
-- Error codes: MK001 stale version, MK002 plaintext, MK003 envelope and column disagree, MK004 identity changed.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.encrypted_columns (
  -- Short, and without `__`: it becomes part of names (a dot as `__`) that must differ within 63 bytes.
  label text primary key check (
    label ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$' and label !~ '__' and length(replace(label, '.', '__')) <= 39),
  table_id regclass not null,
  row_id_column name not null,
  project_column name not null,
  ciphertext_column name not null,
  key_id_column name not null,
  accepts_plaintext boolean not null default false,
  registered_at timestamptz not null default now(),
  unique (table_id, ciphertext_column),
  unique (table_id, key_id_column)
);
comment on column keyring.encrypted_columns.label is
  'Frozen: it is part of the associated data, so that renaming or partitioning the table keeps its rows readable';
comment on column keyring.encrypted_columns.accepts_plaintext is
  'True only while old plaintext rows are being adopted; `secrets adopt --finish` ends that for good';

-- The key id an envelope names, or null for anything that is no envelope (docs/spec/envelope.md). Not `set search_path`:
-- that would keep it from being inlined in the fence, and every name in it is qualified.
create function keyring.envelope_key_id(envelope bytea) returns uuid
  language sql immutable parallel safe
  as $$
    select case
      when pg_catalog.octet_length(envelope) between 46 and 65582
        and pg_catalog.get_byte(envelope, 0) = 1
        and pg_catalog.get_byte(envelope, 1) = 1
      then pg_catalog.encode(pg_catalog.substr(envelope, 3, 16), 'hex')::pg_catalog.uuid
    end
  $$;

-- Lets a row without a key id through while its column is being adopted. `for share` makes `finish_adoption` wait for
-- every transaction that was let through.
create function keyring.admit_plaintext(column_label text) returns void
  language plpgsql security definer set search_path = ''
  as $$
  declare
    admitted boolean;
  begin
    select c.accepts_plaintext into admitted
      from keyring.encrypted_columns c where c.label = column_label for share;
    if admitted is distinct from true then
      raise exception 'plaintext is refused in %', column_label
        using errcode = 'MK002', hint = 'Write values through the keyring service.';
    end if;
  end
  $$;

-- What the fence says to a version that is not the primary.
create function keyring.refuse_stale(column_label text, stale_key_id uuid) returns void
  language plpgsql security definer set search_path = ''
  as $$
  begin
    raise exception 'stale key version in %', column_label using errcode = 'MK001',
      hint = 'Read the primary version again and encrypt with it.';
  end
  $$;

create function keyring.reference_counts(of_project uuid default null)
  returns table (project_id uuid, encryption_key_id uuid, label text, row_count bigint)
  language plpgsql stable security definer set search_path = ''
  as $$
  declare
    entry pg_catalog.record;
  begin
    -- An entry whose table or columns are gone is left out: catalog_problems() names it, and whoever relies on every column
    -- being counted asks that first.
    for entry in
      select c.label, c.table_id, c.project_column, c.key_id_column
      from keyring.encrypted_columns c
      where 2 = (select count(*) from pg_catalog.pg_attribute a
        where a.attrelid = c.table_id and not a.attisdropped and a.attname in (c.project_column, c.key_id_column))
      order by c.label
    loop
      return query execute pg_catalog.format(
        'select t.%1$I, t.%2$I, $2, count(*) from %3$s t where ($1 is null or t.%1$I = $1) group by 1, 2',
        entry.project_column, entry.key_id_column, entry.table_id)
        using of_project, entry.label;
    end loop;
  end
  $$;
comment on function keyring.reference_counts(uuid) is
  'Rows per project, key version and registered column; a null key id counts rows not encrypted yet';

-- What in the catalog would make "every column" a lie. Empty is the only good answer; rotations start with it, and no
-- version is destroyed against it.
create function keyring.catalog_problems()
  returns table (code text, relation text, column_name text, detail text)
  language sql stable security definer set search_path = ''
  as $$
    with registered as (
      select e.*, t.oid is not null as found, t.relrowsecurity,
        'fence_' || pg_catalog.replace(e.label, '.', '__') as fence
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
comment on function keyring.catalog_problems() is 'Every way in which the registry and the catalog disagree';

alter table keyring.encrypted_columns enable row level security;
alter table keyring.encrypted_columns force row level security;
create policy keyring_roles on keyring.encrypted_columns to keyring_owner using (true) with check (true);
create policy keyring_read on keyring.encrypted_columns for select to keyring_service using (true);
grant select on keyring.encrypted_columns to keyring_service;
grant execute on function keyring.envelope_key_id(bytea) to public;
grant execute on function keyring.reference_counts(uuid), keyring.catalog_problems() to keyring_service;

-- Puts a column behind the fence and into the registry. Called by the owner of the table, in the migration that adds the
-- column; called again with the same label after the table was renamed, replaced or partitioned.
create function keyring.register_encrypted_column(
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
         old.%3$I is distinct from new.%3$I or old.%4$I is distinct from new.%4$I
         or old.%5$I is distinct from new.%5$I or old.%6$I is distinct from new.%6$I)
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
    execute pg_catalog.format('grant select (%I, %I, %I) on %s to keyring_owner',
      row_id_column, project_column, key_id_column, in_table);
    execute pg_catalog.format('alter table %s enable row level security', in_table);
    execute pg_catalog.format('drop policy if exists keyring_service on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_service on %s to keyring_service using (true) with check (true)', in_table);
    execute pg_catalog.format('drop policy if exists keyring_owner on %s', in_table);
    execute pg_catalog.format('create policy keyring_owner on %s for select to keyring_owner using (true)', in_table);

    for problem in select p.code, p.column_name, p.detail from keyring.catalog_problems() p
      where p.relation = in_table::text and p.code in ('missing_column', 'row_id_not_unique', 'inherited_table')
    loop
      raise exception '%: column % of % %', problem.code, problem.column_name, in_table, problem.detail
        using errcode = 'MK005';
    end loop;
  end
  $body$;
comment on function keyring.register_encrypted_column(text, regclass, name, name, name, name) is
  'Registers an encrypted column and puts the fence, the foreign key, grants and policies on its table';

-- Takes a column out of the registry, once nothing in it names a key: before its table is dropped, or after.
create function keyring.unregister_encrypted_column(column_label text) returns void
  language plpgsql set search_path = ''
  as $$
  declare
    remaining bigint;
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
  end
  $$;
comment on function keyring.unregister_encrypted_column(text) is
  'Takes an empty or dropped column out of the registry; its triggers go with its table';

-- Ends adoption: from its commit on, plaintext cannot be stored in the column. Refused while plaintext rows are left. False
-- when it was ended before.
create function keyring.finish_adoption(column_label text) returns boolean
  language plpgsql security definer set search_path = ''
  as $$
  declare
    closed pg_catalog.bool;
    remaining bigint;
  begin
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'finishing an adoption needs read committed: an older snapshot would miss rows' using errcode = 'MK005';
    end if;
    if exists (select from keyring.catalog_problems() p where p.code = 'hidden_rows') then
      raise exception 'row-level security hides rows from the count' using errcode = 'MK006';
    end if;
    update keyring.encrypted_columns set accepts_plaintext = false where label = column_label and accepts_plaintext;
    closed := found;
    if not closed and not exists (select from keyring.encrypted_columns c where c.label = column_label) then
      raise exception 'no encrypted column is registered as %', column_label using errcode = 'MK005';
    end if;
    -- A new statement: it sees every plaintext row of the transactions that the update waited for.
    select coalesce(sum(r.row_count), 0) into remaining
      from keyring.reference_counts() r where r.label = column_label and r.encryption_key_id is null;
    if remaining > 0 then
      raise exception '% plaintext rows are left in %', remaining, column_label using errcode = 'MK006';
    end if;
    return closed;
  end
  $$;
grant execute on function keyring.finish_adoption(text) to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000700' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
