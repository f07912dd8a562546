-- A project of a rotation is written six times on its way. Its guard looked at each; now at what is not an ordinary move, since asking that in
-- a condition costs a tenth of calling a function. What is refused stays the same.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

drop trigger guard_rotation_project on keyring.rotation_projects;
create trigger guard_rotation_project before update on keyring.rotation_projects for each row
  when (new.rotation_id is distinct from old.rotation_id or new.project_id is distinct from old.project_id
    or old.source_key_id is not null and new.source_key_id is distinct from old.source_key_id
    or old.target_key_id is not null and new.target_key_id is distinct from old.target_key_id
    or new.direction is distinct from old.direction
    or new.state is distinct from old.state
      and (old.state, new.state) not in (
        ('requested', 'staged'), ('staged', 'sweeping'), ('sweeping', 'verifying'), ('verifying', 'completed')))
  execute function keyring.guard_rotation_project();

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128001100' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
