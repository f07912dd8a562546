-- Which primary version is the oldest, and which become due next, among any number of projects without reading all of them.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.keyrings add column primary_made_at timestamptz;
comment on column keyring.keyrings.primary_made_at is 'When the primary version was made: created_at of it, set by guard_keyring';

create or replace function keyring.guard_keyring() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    candidate pg_catalog.record;
  begin
    if tg_op = 'UPDATE' and new.project_id is distinct from old.project_id then
      raise exception 'a keyring stays with its project' using errcode = 'MK004';
    end if;
    -- Waits for a destroy of this version that is under way, and makes a later one wait for us. Not `for share`: of two first
    -- keyrings, each would hold what the other's note_promotion then updates.
    select k.state, k.rolled_back_at, k.retention_until, k.created_at into candidate
      from keyring.encryption_keys k
      where k.project_id = new.project_id and k.id = new.primary_key_id
      for no key update;
    if candidate.state is distinct from 'enabled' then
      raise exception 'only an enabled version can be primary (this one is %)', coalesce(candidate.state, 'unknown')
        using errcode = 'MK005';
    end if;
    if candidate.rolled_back_at is not null then
      raise exception 'a version that was rolled back is never promoted again' using errcode = 'MK005';
    end if;
    if candidate.retention_until is not null then
      raise exception 'a version whose retention has begun is never promoted again' using errcode = 'MK005';
    end if;
    new.primary_made_at := candidate.created_at;
    return new;
  end
  $$;

-- Nothing about a keyring changes by this, so nothing is guarded, and no row in flight is waited for.
alter table keyring.keyrings disable trigger guard_keyring;
update keyring.keyrings r set primary_made_at = k.created_at
  from keyring.encryption_keys k where k.id = r.primary_key_id and k.project_id = r.project_id;
alter table keyring.keyrings enable trigger guard_keyring;
create index keyrings_by_age on keyring.keyrings (primary_made_at, project_id);

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003210' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
