-- MeshHook's secrets, behind the fence. The same for our baseline and for tables that MeshHook's own migrations made: rows
-- that are already there stay, and stay readable, until `mh-keys secrets adopt` encrypts them.

alter table public.secrets
  add column encryption_key_id uuid,
  add column value_written_at timestamptz;
comment on column public.secrets.encryption_key_id is 'The key version value_encrypted is under; null: not encrypted yet';
comment on column public.secrets.value_written_at is 'When the value was last set; re-encrypting it does not change this';

-- Room on every page for the new row versions of a sweep, so that they stay off the indexes (HOT).
alter table public.secrets set (fillfactor = 80);

-- As MeshHook's, but a sweep (key and ciphertext change, value and name do not) is no update of the secret.
drop trigger if exists update_secrets_updated_at on public.secrets;
create trigger update_secrets_updated_at before update on public.secrets
  for each row when (
    new.encryption_key_id is not distinct from old.encryption_key_id
    or new.value_written_at is distinct from old.value_written_at
    or new.key is distinct from old.key)
  execute function public.update_updated_at_column();

select keyring.register_encrypted_column('secrets.value', 'public.secrets', 'value_encrypted', 'encryption_key_id');
update keyring.encrypted_columns set accepts_plaintext = true
  where label = 'secrets.value' and exists (select from public.secrets);

-- Values go through the service. Users still see, under their policies, which secrets they have, and rename or delete them.
alter table public.secrets force row level security;
revoke all on public.secrets from anon, authenticated, service_role;
grant select (id, project_id, key, encryption_key_id, value_written_at, created_at, updated_at), update (key), delete
  on public.secrets to authenticated, service_role;

-- MeshHook's helper for its policies runs as its owner: give it the fixed search_path every such function needs.
do $$
begin
  if pg_catalog.to_regprocedure('public.user_project_ids()') is not null then
    create or replace function public.user_project_ids() returns setof uuid
      language sql stable security definer set search_path = ''
      as $body$ select id from public.projects where owner = auth.uid() $body$;
    revoke execute on function public.user_project_ids() from public;
    grant execute on function public.user_project_ids()
      to anon, authenticated, service_role, keyring_owner, keyring_service;
  end if;
end
$$;

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;
create view keyring.key_inventory with (security_invoker = true) as
  select
    k.id as key_id,
    k.project_id,
    p.name as project_name,
    k.version,
    case
      when k.state = 'destroyed' then 'destroyed'
      when k.state = 'compromised' then 'compromised'
      when k.state = 'disabled' then 'suspended'
      when r.primary_key_id = k.id then 'active'
      when k.activated_at is null then 'pre-activation'
      else 'deactivated'
    end as status,
    coalesce(r.primary_key_id = k.id, false) as active,
    k.created_at,
    k.activated_at,
    k.deactivated_at,
    k.retention_until,
    k.destroyed_at,
    coalesce(n.rows_naming, 0)::bigint as rows_naming
  from keyring.encryption_keys k
  join public.projects p on p.id = k.project_id
  left join keyring.keyrings r on r.project_id = k.project_id
  left join (
    select c.encryption_key_id, sum(c.row_count) as rows_naming from keyring.reference_counts() c group by 1
  ) n on n.encryption_key_id = k.id;
comment on view keyring.key_inventory is 'Every key version with its status as people read it (NIST SP 800-57)';
grant select on keyring.key_inventory to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123001000' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
