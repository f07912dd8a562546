import type { Queryable } from '../db/port.ts';

export interface RetiredVersion {
  readonly keyId: string;
  /** As PostgreSQL writes it: a position, to the microsecond. */
  readonly retentionUntil: string;
}

// What PostgreSQL would refuse, and what the policy keeps. Not what names them: that is counted for few at a time.
const retired = `
  keyring.encryption_keys k
  left join keyring.rotation_policies own on own.project_id = k.project_id
  join keyring.rotation_policies general on general.project_id is null
  where k.retention_until <= $1 and k.state <> 'destroyed'
    and case when own.project_id is null then general.destroy_after_retention else own.destroy_after_retention end
    and not exists (select from keyring.keyrings r where r.project_id = k.project_id and r.primary_key_id = k.id)
    and not exists (
      select from keyring.rotation_projects g
      where g.project_id = k.project_id and g.state not in ('completed', 'rolled_back', 'canceled', 'failed'))`;

/** Versions past their retention, where the policy says that they go; the longest past it first, from after `after` on. */
export async function selectRetired(
  database: Queryable,
  now: Date,
  after: RetiredVersion | undefined,
  limit: number,
): Promise<RetiredVersion[]> {
  const { rows } = await database.query<{ id: string; until: string }>({
    text: `select k.id, k.retention_until::text as until from ${retired}
             and ($2::timestamptz is null or (k.retention_until, k.id) > ($2, $3::uuid))
           order by k.retention_until, k.id limit $4`,
    values: [now, after?.retentionUntil ?? null, after?.keyId ?? null, limit],
  });
  return rows.map((row) => ({ keyId: row.id, retentionUntil: row.until }));
}

export interface CountedVersion {
  readonly keyId: string;
  readonly projectId: string;
  readonly version: number;
  /** That name it. */
  readonly rows: number;
  /** Of its project: as many are read to count them. */
  readonly rowsOfProject: number;
}

/** Those of these that are to go at this moment, too, and how many rows name each. */
export async function selectReferences(tx: Queryable, now: Date, keyIds: readonly string[]): Promise<CountedVersion[]> {
  const { rows } = await tx.query<{
    id: string;
    project_id: string;
    version: number;
    rows_naming: number;
    of_project: number;
  }>({
    text: `with chosen as materialized (
             select k.id, k.project_id, k.version from ${retired} and k.id = any ($2)
           ), counted as materialized (
             select n.project_id, n.encryption_key_id, n.row_count::float8 as row_count
             from keyring.reference_counts_of((select array_agg(distinct c.project_id) from chosen c)) n
           )
           select c.id, c.project_id, c.version,
             coalesce(sum(n.row_count) filter (where n.encryption_key_id = c.id), 0) as rows_naming,
             coalesce(sum(n.row_count), 0) as of_project
           from chosen c left join counted n using (project_id)
           group by c.id, c.project_id, c.version order by c.id`,
    values: [now, keyIds],
  });
  return rows.map((row) => ({
    keyId: row.id,
    projectId: row.project_id,
    version: row.version,
    rows: row.rows_naming,
    rowsOfProject: row.of_project,
  }));
}
