import { dueAt, hasNoPolicy, policies } from '../schedule/arithmetic/dates-in-sql.ts';

// Which keyrings are to be looked at: of the default policy, by the index on ages, those that may be what is asked for.
const byDefault = {
  true: `from policy g join keyring.keyrings r on r.primary_made_at <= now() - make_interval(secs => g.age - g.early - 3600)
    where g.project_id is null and g.enabled and ${hasNoPolicy}`,
  false: `from policy g join keyring.keyrings r on r.primary_made_at > now() - make_interval(secs => g.age)
    where g.project_id is null and g.enabled and ${hasNoPolicy}
    union all
    select r.project_id, r.primary_key_id, r.primary_made_at, g.enabled, g.age, g.early
    from policy g join keyring.keyrings r on r.primary_made_at is not null
    where g.project_id is null and not g.enabled and ${hasNoPolicy}`,
} as const;

/** A query for the ids of projects, some twice, and of their primary versions, that are due by age or by use; or of all others. */
export const dueProjects = (due: boolean): string => `
  with ${policies}, used_up as materialized (
    select r.project_id, r.primary_key_id
    from keyring.key_usage u
    join keyring.keyrings r on r.project_id = u.project_id and r.primary_key_id = u.key_id
    cross join lateral (
      select o.enabled, o.max_encryptions from policy o
      where o.project_id = r.project_id or o.project_id is null order by o.project_id nulls last limit 1) o
    where u.reserved >= (select min(max_encryptions) from policy) and u.reserved >= o.max_encryptions and o.enabled
  ), candidate as (
    select r.project_id, r.primary_key_id, r.primary_made_at as made_at, g.enabled, g.age, g.early ${byDefault[`${due}`]}
    union all
    select r.project_id, r.primary_key_id, r.primary_made_at, o.enabled, o.age, o.early
    from policy o join keyring.keyrings r on r.project_id = o.project_id where r.primary_made_at is not null
    union all
    -- Nobody noted when it was made, as after a restore without triggers.
    select r.project_id, r.primary_key_id, k.created_at, o.enabled, o.age, o.early
    from keyring.keyrings r
    join keyring.encryption_keys k on k.id = r.primary_key_id
    cross join lateral (
      select o.enabled, o.age, o.early from policy o
      where o.project_id = r.project_id or o.project_id is null order by o.project_id nulls last limit 1) o
    where r.primary_made_at is null
  )
  ${
    due
      ? `select c.project_id, c.primary_key_id from candidate c where c.enabled and ${dueAt} <= now()
         union all select u.project_id, u.primary_key_id from used_up u`
      : `select c.project_id, c.primary_key_id from candidate c where not (c.enabled and ${dueAt} <= now())
           and not exists (select from used_up u where u.project_id = c.project_id)`
  }`;
