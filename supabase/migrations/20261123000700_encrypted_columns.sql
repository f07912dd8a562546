-- The registry of encrypted columns, and the fence that every one of them stands behind.
--
-- The fence: after a promote commits, no ciphertext under any other version can be committed, whatever the writer's cache
-- or isolation level. Its order matters (docs/decisions/0003-fence.md says what each variant did):
--   1. the project's advisory lock, shared: a fair queue, so that a promote is not starved by overlapping writers;
--   2. the keyring row, `for share`, unconditionally: under repeatable read and serializable this is what refuses;
--   3. only then the comparison, failing closed where no keyring is visible.
-- Error codes: MK001 stale version, MK002 plaintext, MK003 envelope and column disagree, MK004 identity changed.

set role keyring_owner;

create table keyring.encrypted_columns (
  label text primary key check (label ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$' and length(label) <= 48),
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
      then pg_catalog.encode(pg_catalog.substr(envelope, 3, 16), 'hex')::uuid
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

create function keyring.reference_counts(of_project uuid default null)
  returns table (project_id uuid, encryption_key_id uuid, label text, row_count bigint)
  language plpgsql stable security definer set search_path = ''
  as $$
  declare
    entry record;
  begin
    for entry in select * from keyring.encrypted_columns c order by c.label loop
      return query execute pg_catalog.format(
        'select t.%1$I, t.%2$I, %3$L::text, count(*) from %4$s t where ($1 is null or t.%1$I = $1) group by 1, 2',
        entry.project_column, entry.key_id_column, entry.label, entry.table_id)
        using of_project;
    end loop;
  end
  $$;
comment on function keyring.reference_counts(uuid) is
  'Rows per project, key version and registered column; a null key id counts rows not encrypted yet';

-- What in the catalog would make "every column" a lie. Empty is the only good answer; rotations start with it.
create function keyring.catalog_problems()
  returns table (code text, relation text, column_name text, detail text)
  language plpgsql stable security definer set search_path = ''
  as $$
  declare
    entry record;
    wanted name;
  begin
    -- A column that names keys and is not in the registry: a rotation would forget it.
    return query
      select 'unregistered_column'::text, c.conrelid::regclass::text, a.attname::text,
        'has a foreign key to keyring.encryption_keys and is not registered'::text
      from pg_catalog.pg_constraint c
      join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[pg_catalog.array_length(c.conkey, 1)]
      where c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::regclass and c.conparentid = 0
        and c.conrelid <> 'keyring.keyrings'::regclass
        and not exists (
          select from keyring.encrypted_columns e
          join pg_catalog.pg_attribute k on k.attrelid = e.table_id and k.attname = e.key_id_column
          where e.table_id = c.conrelid and k.attnum = any (c.conkey))
      order by 2, 3;

    for entry in select e.*, r.relname, r.relnamespace, r.relrowsecurity
      from keyring.encrypted_columns e left join pg_catalog.pg_class r on r.oid = e.table_id order by e.label
    loop
      if entry.relname is null then
        return query select 'missing_table'::text, entry.table_id::text, null::text,
          pg_catalog.format('the table registered as %s is gone', entry.label);
        continue;
      end if;
      foreach wanted in array
        array[entry.row_id_column, entry.project_column, entry.ciphertext_column, entry.key_id_column]
      loop
        if not exists (select from pg_catalog.pg_attribute a
          where a.attrelid = entry.table_id and a.attname = wanted and not a.attisdropped)
        then
          return query select 'missing_column'::text, entry.table_id::text, wanted::text,
            pg_catalog.format('registered as %s, but the table has no such column', entry.label);
        end if;
      end loop;
      if not exists (select from pg_catalog.pg_constraint c
        join pg_catalog.pg_attribute k on k.attrelid = c.conrelid and k.attname = entry.key_id_column
        where c.contype = 'f' and c.conrelid = entry.table_id and c.convalidated
          and c.confrelid = 'keyring.encryption_keys'::regclass and k.attnum = any (c.conkey))
      then
        return query select 'missing_foreign_key'::text, entry.table_id::text, entry.key_id_column::text,
          'has no validated foreign key to keyring.encryption_keys'::text;
      end if;
      -- The fence, on the table and on each of its partitions, enabled, and last among the triggers that can change a row.
      return query
        select 'missing_fence'::text, p.relid::regclass::text, entry.ciphertext_column::text,
          pg_catalog.format('trigger %s is missing or disabled', f.fence)
        from (select entry.table_id as relid union select t.relid from pg_catalog.pg_partition_tree(entry.table_id) t) p
        cross join (values ('zz_keyring_fence_insert_'), ('zz_keyring_fence_update_')) v (prefix)
        cross join lateral (select v.prefix || pg_catalog.replace(entry.label, '.', '__') as fence) f
        where not exists (select from pg_catalog.pg_trigger t
          where t.tgrelid = p.relid and t.tgname = f.fence and t.tgenabled in ('O', 'A'));
      return query
        select 'trigger_after_fence'::text, t.tgrelid::regclass::text, t.tgname::text,
          'fires after the fence and could change what it checked: rename it to sort before zz_keyring'::text
        from pg_catalog.pg_trigger t
        where t.tgrelid = entry.table_id and not t.tgisinternal and t.tgenabled <> 'D'
          and (t.tgtype & 3) = 3 and t.tgname > 'zz_keyring_fence_z';
      if not entry.relrowsecurity then
        return query select 'row_security_off'::text, entry.table_id::text, null::text,
          'row-level security is off on a table that holds ciphertext'::text;
      end if;
    end loop;
  end
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
          primary_id uuid;
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
          perform pg_catalog.pg_advisory_xact_lock_shared(keyring.project_lock(new.%3$I));
          select k.primary_key_id into primary_id
            from keyring.keyrings k where k.project_id = new.%3$I for share;
          if primary_id is distinct from new.%5$I then
            raise exception 'stale key version in %6$s' using errcode = 'MK001',
              hint = 'Read the primary version again and encrypt with it.';
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

    if not exists (select from pg_catalog.pg_constraint c
      join pg_catalog.pg_attribute k on k.attrelid = c.conrelid and k.attname = key_id_column
      where c.conrelid = in_table and c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::regclass
        and k.attnum = any (c.conkey))
    then
      execute pg_catalog.format(
        'alter table %s add foreign key (%I, %I) references keyring.encryption_keys (project_id, id)',
        in_table, project_column, key_id_column);
    end if;

    -- The service reads and writes the row; the definers that count references read two columns of it.
    execute pg_catalog.format('grant select, insert, update, delete on %s to keyring_service', in_table);
    execute pg_catalog.format('grant select (%I, %I) on %s to keyring_owner', project_column, key_id_column, in_table);
    execute pg_catalog.format('alter table %s enable row level security', in_table);
    execute pg_catalog.format('drop policy if exists keyring_service on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_service on %s to keyring_service using (true) with check (true)', in_table);
    execute pg_catalog.format('drop policy if exists keyring_owner on %s', in_table);
    execute pg_catalog.format('create policy keyring_owner on %s for select to keyring_owner using (true)', in_table);
  end
  $body$;
comment on function keyring.register_encrypted_column(text, regclass, name, name, name, name) is
  'Registers an encrypted column and puts the fence, the foreign key, grants and policies on its table';

-- Ends adoption: from its commit on, plaintext cannot be stored in the column. Refused while plaintext rows are left.
create function keyring.finish_adoption(column_label text) returns void
  language plpgsql security definer set search_path = ''
  as $$
  declare
    remaining bigint;
  begin
    update keyring.encrypted_columns set accepts_plaintext = false where label = column_label;
    if not found then
      raise exception 'no encrypted column is registered as %', column_label using errcode = 'MK005';
    end if;
    -- A new statement: it sees every plaintext row of the transactions that the update waited for.
    select coalesce(sum(r.row_count), 0) into remaining
      from keyring.reference_counts() r where r.label = column_label and r.encryption_key_id is null;
    if remaining > 0 then
      raise exception '% plaintext rows are left in %', remaining, column_label using errcode = 'MK006';
    end if;
  end
  $$;
grant execute on function keyring.finish_adoption(text) to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000700' $$;
reset role;
