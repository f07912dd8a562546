-- How often a version has encrypted (SP 800-38D bounds that), counted in blocks that are reserved before they are used: a
-- crash over-counts, never under-counts, and writing a secret updates no counter.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.key_usage (
  key_id uuid primary key,
  project_id uuid not null references public.projects (id) on delete cascade,
  reserved bigint not null check (reserved >= 0)
) with (fillfactor = 50);
comment on table keyring.key_usage is
  'No foreign key to encryption_keys: those are of columns with ciphertext, and the registry is checked against them';
comment on column keyring.key_usage.reserved is 'Encryptions that processes may have made; at most one block a process too many';

alter table keyring.key_usage enable row level security;
alter table keyring.key_usage force row level security;
create policy keyring_roles on keyring.key_usage to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update on keyring.key_usage to keyring_service;

create function keyring.guard_key_usage() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    if (new.key_id, new.project_id) <> (old.key_id, old.project_id) or new.reserved < old.reserved then
      raise exception 'a usage count only grows' using errcode = 'MK005';
    end if;
    return new;
  end
  $$;
create trigger guard_key_usage before update on keyring.key_usage
  for each row execute function keyring.guard_key_usage();

-- 0.9 × 2^32: the remaining tenth is room for what is under way when a version is found due.
alter table keyring.rotation_policies
  add column max_encryptions bigint not null default 3865470566 check (max_encryptions between 1 and 4294967296);

-- Primary versions whose policy wants them rotated, and why.
create view keyring.due_projects with (security_invoker = true) as
  select k.project_id, k.id as key_id, p.due_at <= now() as by_age, p.due_at,
    coalesce(u.reserved, 0) >= p.max_encryptions as by_usage
  from keyring.keyrings r
  join keyring.encryption_keys k on k.id = r.primary_key_id
  left join keyring.key_usage u on u.key_id = k.id
  cross join lateral (
    select k.created_at + o.rotate_after as due_at, o.max_encryptions
    from keyring.rotation_policies o
    where o.project_id = k.project_id or o.project_id is null
    order by o.project_id nulls last limit 1
  ) p
  where p.due_at <= now() or coalesce(u.reserved, 0) >= p.max_encryptions;
comment on view keyring.due_projects is 'Projects whose primary version is too old or has encrypted too often for its policy';
grant select on keyring.due_projects to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123001300' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
