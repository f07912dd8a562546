-- Two roles, neither of which can log in:
--   keyring_owner    owns everything in the schema, and runs its `security definer` functions;
--   keyring_service  is granted to the login of the service: it uses the tables and owns none.
-- Neither bypasses row-level security (a Supabase `postgres` could not grant that): policies name them instead.
--
-- What runs as keyring_owner for others (`security definer`) has `set search_path = ''` and qualifies every name, the names of
-- types too: an empty path still looks for unqualified tables and types among the caller's temporary ones first, and a
-- temporary domain called `uuid` would run its check, the caller's code, as keyring_owner.

do $$
declare
  role_name text;
begin
  foreach role_name in array array['keyring_owner', 'keyring_service'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      begin
        execute pg_catalog.format('create role %I nologin', role_name);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
    if not pg_catalog.pg_has_role(current_user, role_name, 'usage') then
      execute pg_catalog.format('grant %I to %I', role_name, current_user);
    end if;
  end loop;
end
$$;

create schema keyring authorization keyring_owner;
comment on schema keyring is 'MeshHook Keyring: versioned keys, their rotation and its trail. Not for PostgREST.';

grant references on public.projects to keyring_owner;
-- `for key share` asks for the right to update some column; the policy below lets no update through.
grant select, update (updated_at) on public.projects to keyring_owner;
grant select, insert on public.projects to keyring_service;

-- Where MeshHook's tables are not under row-level security yet, a policy is inert; where they are, it lets the keyring in.
create policy "Keyring definers see every project" on public.projects for select to keyring_owner using (true);
create policy "Keyring definers hold projects, unchanged" on public.projects for update to keyring_owner
  using (true) with check (false);
create policy "Keyring service sees every project" on public.projects for select to keyring_service using (true);
create policy "Keyring service creates projects" on public.projects for insert to keyring_service with check (true);

grant usage on schema auth to keyring_owner, keyring_service;
grant execute on function auth.uid() to keyring_owner, keyring_service;

-- Every file that works as keyring_owner goes back to the role it came as. `reset role` would not do: Supabase's tools log
-- in as a role of their own, take `postgres` by `set role`, and would be left with the login.
select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;
grant usage on schema keyring to keyring_service;
alter default privileges for role keyring_owner revoke execute on functions from public;

-- Replaced by every later migration, so that a program can tell "not migrated" and "newer than I am" from a query that
-- works however the migrations were applied.
create function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000300' $$;
grant execute on function keyring.schema_version() to keyring_service;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
