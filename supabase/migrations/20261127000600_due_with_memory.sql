-- What is due is asked for by every worker, every minute: it must not undo what people decided, nor repeat what failed.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

-- Few: those of a project that nobody turned back have no entry.
create index rotation_projects_given_up on keyring.rotation_projects (project_id, finished_at)
  where state in ('rolled_back', 'canceled', 'failed');

create or replace view keyring.due_projects with (security_invoker = true) as
  select d.project_id, d.key_id, d.by_age, d.due_at, d.by_usage
  from (
    select k.project_id, k.id as key_id, r.promoted_at, p.due_at <= now() as by_age, p.due_at,
      coalesce(u.reserved, 0) >= p.max_encryptions
        -- 0.9 × 2^32, the default: nobody waits there.
        and (r.promoted_at <= now() - interval '1 hour' or u.reserved >= 3865470566) as by_usage
    from keyring.keyrings r
    join keyring.encryption_keys k on k.id = r.primary_key_id
    left join keyring.key_usage u on u.key_id = k.id
    cross join lateral (
      select k.created_at + o.rotate_after as due_at, o.max_encryptions
      from keyring.rotation_policies o
      where o.project_id = k.project_id or o.project_id is null
      order by o.project_id nulls last limit 1
    ) p
  ) d
  where (d.by_age or d.by_usage) and not exists (
    select from keyring.rotation_projects g
    where g.project_id = d.project_id and g.state in ('rolled_back', 'canceled', 'failed')
      and g.finished_at >= d.promoted_at and g.finished_at > now() - interval '24 hours'
  );
comment on view keyring.due_projects is
  'Projects whose primary version is too old or has encrypted too often for its policy. Not for 24 hours after a rotation of '
  'the project was turned back, canceled or failed, unless another version was promoted since. By use not in the first hour '
  'of a primary version, whose limit may be less than its own sweep needs, unless it reached 0.9 × 2^32';

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127000600' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
