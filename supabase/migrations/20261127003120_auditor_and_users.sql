-- Two more ways to look, each with less in sight than the service has: an auditor's role in PostgreSQL itself, which reads keys
-- and the trail and neither ciphertext nor a wrapped key; and a user's own identity, which the service takes for a transaction so that
-- the policies of `public.projects` decide what that user may see.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'keyring_auditor') then
    begin
      create role keyring_auditor nologin;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  -- The service may become a user. It inherits nothing of what users may do.
  if (select rolinherit from pg_catalog.pg_roles where rolname = 'keyring_service') then
    alter role keyring_service noinherit;
  end if;
  if not pg_catalog.pg_has_role('keyring_service', 'authenticated', 'member') then
    begin
      grant authenticated to keyring_service;
    exception when insufficient_privilege then
      raise warning 'users of Supabase Auth will not be let in: grant authenticated to keyring_service';
    end;
  end if;
end
$$;
grant select (id, name, owner, created_at) on public.projects to keyring_auditor;
create policy "Keyring auditors see every project" on public.projects for select to keyring_auditor using (true);

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

grant usage on schema keyring to keyring_auditor;
grant select on keyring.audit_log, keyring.keyrings, keyring.rotations, keyring.rotation_projects, keyring.rotation_policies,
  keyring.receipts, keyring.grants, keyring.approvals to keyring_auditor;
grant select (id, project_id, version, state, algorithm, wrapping_key_id, fingerprint, created_at, activated_at, deactivated_at,
  disabled_at, compromised_at, rolled_back_at, retention_until, destroyed_at) on keyring.encryption_keys to keyring_auditor;
grant select (id, version, algorithm, public_key, wrapping_key_id, created_at) on keyring.signing_keys to keyring_auditor;
grant select (id, name, role, permissions, project_ids, person, created_by, created_at, expires_at, last_used_at, revoked_at,
  revoked_by) on keyring.api_tokens to keyring_auditor;

do $$
declare
  readable text;
begin
  foreach readable in array array['audit_log', 'keyrings', 'encryption_keys', 'rotations', 'rotation_projects', 'rotation_policies',
    'receipts', 'signing_keys', 'grants', 'approvals', 'api_tokens']
  loop
    execute pg_catalog.format('create policy keyring_auditor on keyring.%I for select to keyring_auditor using (true)', readable);
  end loop;
end
$$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003120' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
