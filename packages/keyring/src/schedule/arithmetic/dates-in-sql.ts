/**
 * The dates of `keyring.scheduled_projects`, computed for few projects, or by the index on ages: the view joins all there are. Tests have both
 * agree. For a row `c` with `project_id`, `made_at`, `age` and `early`: no due date is earlier than `early` and an hour before the age is
 * reached.
 */
export const policies = `policy as materialized (
  select o.project_id, o.enabled, o.max_encryptions, extract(epoch from o.rotate_after)::double precision as age,
    least(
      coalesce(extract(epoch from o.jitter), least(extract(epoch from o.rotate_after) / 10, 604800)),
      extract(epoch from o.rotate_after) - 86400)::double precision as early
  from keyring.rotation_policies o
)`;
export const promisedAt = 'to_timestamp(extract(epoch from c.made_at)::double precision + c.age)';
export const dueAt = `to_timestamp(floor((extract(epoch from c.made_at)::double precision + c.age
  - c.early * ((uuid_hash_extended(c.project_id, 0) & 4294967295)::double precision / 4294967296)) / 3600) * 3600)`;
/** Of a keyring `r`. */
export const hasNoPolicy = `not exists (select from keyring.rotation_policies o where o.project_id = r.project_id)`;
