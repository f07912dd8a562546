-- The associated data of a row holds its id as text. Where that text depends on a session's settings (TimeZone, DateStyle,
-- extra_float_digits, bytea_output), a value sealed in one session would not open in another; where equal ids have several texts
-- (1.5 and 1.50, or by a collation that takes A for a), an update nobody has to refuse would lose the value. Columns that are
-- registered already stay so.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create function keyring.check_row_id_type() returns trigger
  language plpgsql set search_path = ''
  as $$
  declare
    kind pg_catalog.regtype;
    modifier pg_catalog.int4;
    folds pg_catalog.bool;
  begin
    if exists (select from keyring.encrypted_columns e
      where e.label = new.label and e.table_id = new.table_id and e.row_id_column = new.row_id_column)
    then
      return new;
    end if;
    select a.atttypid, a.atttypmod, not coalesce(l.collisdeterministic, true) into kind, modifier, folds
      from pg_catalog.pg_attribute a left join pg_catalog.pg_collation l on l.oid = a.attcollation
      where a.attrelid = new.table_id and a.attname = new.row_id_column and not a.attisdropped;
    if not found then
      -- `missing_column` says so.
      return new;
    end if;
    while exists (select from pg_catalog.pg_type t where t.oid = kind and t.typtype = 'd') loop
      select t.typbasetype, t.typtypmod into kind, modifier from pg_catalog.pg_type t where t.oid = kind;
    end loop;
    if folds or (kind = 'pg_catalog.numeric'::pg_catalog.regtype and modifier < 0) or kind <> all (array[
      'pg_catalog.uuid', 'pg_catalog.int2', 'pg_catalog.int4', 'pg_catalog.int8', 'pg_catalog.numeric', 'pg_catalog.text',
      'pg_catalog.varchar', 'pg_catalog.bpchar', 'pg_catalog.name']::pg_catalog.regtype[])
    then
      raise exception 'row_id_type: column % of % is of type %, whose text is not always the same for the same id',
        new.row_id_column, new.table_id,
        (select pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
          where a.attrelid = new.table_id and a.attname = new.row_id_column)
        using errcode = 'MK005',
          hint = 'Name a unique column that is a uuid, an integer, a numeric with a scale, or text of a deterministic collation.';
    end if;
    return new;
  end
  $$;

create trigger check_row_id_type before insert or update on keyring.encrypted_columns
  for each row execute function keyring.check_row_id_type();

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000580' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
