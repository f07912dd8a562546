-- Whoever is no admin of the instance reads under an identity of their own: for a transaction the service becomes keyring_user, says who
-- asks (`keyring.principal`), and the policies below leave what that principal's projects have. Which projects these are is worked out here,
-- from owners, grants and tokens as they are now; no list of a program's is believed (docs/decisions/0025-read-as-oneself.md).

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'keyring_user') then
    begin
      create role keyring_user nologin;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  -- Not inherited: the service is keyring_service, or for a transaction keyring_user, and never both (auditor_and_users).
  if not pg_catalog.pg_has_role('keyring_service', 'keyring_user', 'member') then
    begin
      grant keyring_user to keyring_service;
    exception when insufficient_privilege then
      raise warning 'whoever is no instance admin will see nothing: grant keyring_user to keyring_service';
    end;
  end if;
end
$$;

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

grant usage on schema keyring to keyring_user;

-- Projects that a principal holds by a grant, a token or as their owner, some twice. One of the whole instance holds none by that: it is not
-- what keyring_user is for. No principal, an ended one or one that nobody knows: none.
--
-- Every table of a statement asks, so what was found is noted for the transaction, beside whom it is of. Whoever could forge the note
-- could as well name another principal.
create function keyring.projects_of_principal() returns uuid[]
  language plpgsql stable security definer set search_path = ''
  as $$
  declare
    the_principal pg_catalog.text := pg_catalog.current_setting('keyring.principal', true);
    noted pg_catalog.text := pg_catalog.current_setting('keyring.sight', true);
    the_person pg_catalog.text := the_principal;
    of_token pg_catalog.uuid[];
    found_projects pg_catalog.uuid[];
  begin
    if pg_catalog.starts_with(noted, the_principal || ' ') then
      return pg_catalog.substr(noted, pg_catalog.length(the_principal) + 2)::pg_catalog.uuid[];
    end if;
    if pg_catalog.starts_with(the_principal, 'token:') then
      select t.project_ids, t.person into of_token, the_person from keyring.api_tokens t
        where t.id = pg_catalog.substr(the_principal, 7)::pg_catalog.uuid
          and t.revoked_at is null and t.expires_at > pg_catalog.clock_timestamp();
    end if;
    found_projects := array(
      select p.id from public.projects p
      where p.owner = case
          when the_person ~ '^user:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
          then pg_catalog.substr(the_person, 6)::pg_catalog.uuid
        end
      union all
      select g.project_id from keyring.grants g where g.person = the_person and g.project_id is not null);
    -- A token that is somebody's does no more than they may by now; one that is nobody's, what was said when it was made.
    if of_token is not null then
      if the_person !~ '^(user|person):' or exists (
        select from keyring.grants g where g.person = the_person and g.project_id is null)
      then
        found_projects := of_token;
      else
        found_projects := array(
          select pg_catalog.unnest(of_token) intersect select pg_catalog.unnest(found_projects));
      end if;
    end if;
    noted := pg_catalog.set_config('keyring.sight', the_principal || ' ' || found_projects::pg_catalog.text, true);
    return found_projects;
  end
  $$;
comment on function keyring.projects_of_principal() is
  'The projects of the principal that this transaction reads for: what keyring_user sees rows of';
grant execute on function keyring.projects_of_principal() to keyring_user;

-- A rotation is seen by whom all of its projects belong to: what it says of itself it says of all of them.
create function keyring.rotations_of_principal() returns setof uuid
  language plpgsql stable security definer set search_path = '' rows 100
  as $$
  declare
    own pg_catalog.uuid[] := keyring.projects_of_principal();
  begin
    return query
      select r.rotation_id from (select distinct g.rotation_id from keyring.rotation_projects g where g.project_id = any (own)) r
      where not exists (select from keyring.rotation_projects o where o.rotation_id = r.rotation_id and o.project_id <> all (own));
  end
  $$;
comment on function keyring.rotations_of_principal() is 'Rotations that have no project but the principal''s';
grant execute on function keyring.rotations_of_principal() to keyring_user;

-- What is told of the rows of a registered table, which keyring_user does not read: for it, of its principal's projects.
create function keyring.reference_counts_in_sight(of_projects uuid[])
  returns table (project_id uuid, encryption_key_id uuid, label text, row_count bigint)
  language sql stable security definer set search_path = ''
  as $$
    select * from keyring.reference_counts_of(
      array(select pg_catalog.unnest(of_projects) intersect select pg_catalog.unnest(keyring.projects_of_principal())))
  $$;
grant execute on function keyring.reference_counts_in_sight(uuid[]) to keyring_user;
create function keyring.exposed_secrets_in_sight(of_key uuid)
  returns table (label text, row_id text, name text, written_at timestamptz, replaced_at timestamptz)
  language sql stable security definer set search_path = ''
  as $$
    select e.* from keyring.encryption_keys k, keyring.exposed_secrets(k.id) e
    where k.id = of_key and k.project_id = any (keyring.projects_of_principal())
  $$;
grant execute on function keyring.exposed_secrets_in_sight(uuid) to keyring_user;

-- One name for whoever asks.
create function keyring.seen_reference_counts(of_projects uuid[])
  returns table (project_id uuid, encryption_key_id uuid, label text, row_count bigint)
  language plpgsql stable set search_path = ''
  as $$
  begin
    if current_user = 'keyring_user' then
      return query select * from keyring.reference_counts_in_sight(of_projects);
    else
      return query select * from keyring.reference_counts_of(of_projects);
    end if;
  end
  $$;
comment on function keyring.seen_reference_counts(uuid[]) is 'reference_counts_of, for keyring_user of those projects that it sees';
grant execute on function keyring.seen_reference_counts(uuid[]) to keyring_service, keyring_user;
create function keyring.seen_exposed_secrets(of_key uuid)
  returns table (label text, row_id text, name text, written_at timestamptz, replaced_at timestamptz)
  language plpgsql stable set search_path = ''
  as $$
  begin
    if current_user = 'keyring_user' then
      return query select * from keyring.exposed_secrets_in_sight(of_key);
    else
      return query select * from keyring.exposed_secrets(of_key);
    end if;
  end
  $$;
comment on function keyring.seen_exposed_secrets(uuid) is 'exposed_secrets, for keyring_user of a version that it sees';
grant execute on function keyring.seen_exposed_secrets(uuid) to keyring_service, keyring_user;
grant execute on function keyring.not_asked_before(uuid, timestamptz) to keyring_user;

-- No wrapped key, no digest, and of signing keys what everybody may know.
grant select on keyring.keyrings, keyring.key_usage, keyring.scheduled_projects, keyring.rotations, keyring.rotation_projects,
  keyring.rotation_policies, keyring.receipts, keyring.quarantine, keyring.audit_log, keyring.grants to keyring_user;
grant select (id, project_id, version, state, algorithm, wrapping_key_id, fingerprint, created_at, activated_at, deactivated_at,
  disabled_at, compromised_at, rolled_back_at, retention_until, destroyed_at) on keyring.encryption_keys to keyring_user;
grant select (id, name, role, permissions, project_ids, person, created_by, created_at, expires_at, last_used_at, revoked_at,
  revoked_by) on keyring.api_tokens to keyring_user;
grant select (id, public_key) on keyring.signing_keys to keyring_user;
-- Since when the trail is archived is no tenant's: an exposure report says it.
grant select (through, archived_at) on keyring.audit_archives to keyring_user;
grant select (size, signed_at) on keyring.audit_checkpoints to keyring_user;

-- `in (select …)`: worked out once, and looked up by hash, however many rows and projects there are.
do $$
declare
  of_projects pg_catalog.text;
begin
  foreach of_projects in array array['keyrings', 'encryption_keys', 'key_usage', 'rotation_projects', 'receipts', 'quarantine',
    'audit_log', 'grants']
  loop
    execute pg_catalog.format('create policy keyring_user on keyring.%I for select to keyring_user
      using (project_id in (select unnest(keyring.projects_of_principal())))', of_projects);
  end loop;
end
$$;
create policy keyring_user on keyring.rotations for select to keyring_user
  using (id in (select keyring.rotations_of_principal()));
create policy keyring_user on keyring.api_tokens for select to keyring_user
  using (project_ids <@ (select keyring.projects_of_principal()));
-- The default policy is everybody's.
create policy keyring_user on keyring.rotation_policies for select to keyring_user
  using (project_id is null or project_id in (select unnest(keyring.projects_of_principal())));
create policy keyring_user on keyring.signing_keys for select to keyring_user using (true);
create policy keyring_user on keyring.audit_archives for select to keyring_user using (true);
create policy keyring_user on keyring.audit_checkpoints for select to keyring_user using (true);

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000600' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);

-- The application's own tables may have policies for everybody. A permissive one adds to what is seen, a restrictive one takes away from
-- all of them: so whatever those say, keyring_user sees its principal's rows and no others.
grant select (id, name, owner, created_at) on public.projects to keyring_user;
create policy "Keyring users see projects" on public.projects for select to keyring_user using (true);
create policy "Keyring users see their own" on public.projects as restrictive for select to keyring_user
  using (id in (select unnest(keyring.projects_of_principal())));
grant select (id, project_id, key, value_encrypted, encryption_key_id, created_at, updated_at, value_written_at)
  on public.secrets to keyring_user;
create policy keyring_user on public.secrets for select to keyring_user using (true);
create policy keyring_user_sight on public.secrets as restrictive for select to keyring_user
  using (project_id in (select unnest(keyring.projects_of_principal())));
