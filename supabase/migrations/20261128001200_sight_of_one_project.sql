-- A value is read as keyring_reader, which sees no more than keyring_user and asks otherwise: whether one project is in sight, and not which
-- ones are. The project's row says whose it is, and grants and tokens are asked for that project alone (docs/decisions/0025-read-as-oneself.md).

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'keyring_reader') then
    begin
      create role keyring_reader nologin;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  -- As with keyring_user.
  if not pg_catalog.pg_has_role('keyring_service', 'keyring_reader', 'member') then
    begin
      grant keyring_reader to keyring_service;
    exception when insufficient_privilege then
      raise warning 'whoever is no instance admin will read no value: grant keyring_reader to keyring_service';
    end;
  end if;
end
$$;

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

grant usage on schema keyring to keyring_reader;

-- The same as `of_project = any (keyring.projects_of_principal())`. Both tables of a `get` ask, so what was found is noted for the
-- transaction, beside whom it is of; what was not found is not.
create function keyring.sees_project(of_project uuid) returns boolean
  language plpgsql stable security definer set search_path = '' cost 10000
  as $$
  declare
    the_principal pg_catalog.text := pg_catalog.current_setting('keyring.principal', true);
    note pg_catalog.text := the_principal || ' ' || of_project;
    found_it pg_catalog.bool;
  begin
    if note = pg_catalog.current_setting('keyring.project_in_sight', true) then
      return true;
    end if;
    if pg_catalog.starts_with(the_principal, 'token:') then
      -- As there: one that is somebody's does no more than they may by now, one that is nobody's, what was said when it was made.
      found_it := exists (
        select from keyring.api_tokens t
        where t.id = pg_catalog.substr(the_principal, 7)::pg_catalog.uuid
          and t.revoked_at is null and t.expires_at > pg_catalog.clock_timestamp()
          and (t.project_ids is null or of_project = any (t.project_ids))
          and (t.project_ids is not null and (t.person !~ '^(user|person):'
              or exists (select from keyring.grants g where g.person = t.person and g.project_id is null))
            or exists (select from keyring.grants g where g.person = t.person and g.project_id = of_project)
            or exists (select from public.projects p where p.id = of_project and 'user:' || p.owner = t.person)));
    else
      found_it := exists (select from keyring.grants g where g.person = the_principal and g.project_id = of_project)
        or exists (select from public.projects p where p.id = of_project and 'user:' || p.owner = the_principal);
    end if;
    if found_it then
      note := pg_catalog.set_config('keyring.project_in_sight', note, true);
    end if;
    return coalesce(found_it, false);
  end
  $$;
comment on function keyring.sees_project(uuid) is
  'Whether the principal that this transaction reads for holds a project: for who looks at rows of one';
grant execute on function keyring.sees_project(uuid) to keyring_reader;

-- The first condition is for speed: what it leaves out, the function sees. It compares for itself, and does not rely on the policies of
-- projects, which are the application's to switch off.
grant select (project_id, primary_key_id) on keyring.keyrings to keyring_reader;
create policy keyring_reader on keyring.keyrings for select to keyring_reader using (
  'user:' || (select p.owner from public.projects p where p.id = keyrings.project_id)
    = pg_catalog.current_setting('keyring.principal', true)
  or keyring.sees_project(project_id));

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128001200' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);

grant select (id, owner) on public.projects to keyring_reader;
create policy "Keyring readers see projects" on public.projects for select to keyring_reader using (true);
create policy "Keyring readers see their own" on public.projects as restrictive for select to keyring_reader
  using ('user:' || owner = pg_catalog.current_setting('keyring.principal', true));
grant select (id, project_id, key, value_encrypted, encryption_key_id, value_written_at) on public.secrets to keyring_reader;
create policy keyring_reader on public.secrets for select to keyring_reader using (true);
create policy keyring_reader_sight on public.secrets as restrictive for select to keyring_reader using (
  'user:' || (select p.owner from public.projects p where p.id = secrets.project_id)
    = pg_catalog.current_setting('keyring.principal', true)
  or keyring.sees_project(project_id));
