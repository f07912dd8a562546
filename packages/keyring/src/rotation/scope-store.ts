/** Which projects a rotation takes: found, and put into it. How they stand in it is in `project-store.ts`. */
import type { ProjectIds } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import { isOpen } from './project-store.ts';

/** These projects, or every one with a key, by id: their names, and whether they have a key. */
export async function selectKeyringProjects(
  database: Queryable,
  projectIds: readonly string[] | 'all',
): Promise<Map<string, { name: string; hasKeyring: boolean }>> {
  const { rows } = await database.query<{ id: string; name: string; has_keyring: boolean }>({
    text: `select q.id, q.name, r.project_id is not null as has_keyring
           from public.projects q left join keyring.keyrings r on r.project_id = q.id
           where case when $1::uuid[] is null then r.project_id is not null else q.id = any ($1) end
           order by q.id`,
    values: [projectIds === 'all' ? null : projectIds],
  });
  return new Map(rows.map((row) => [row.id, { name: row.name, hasKeyring: row.has_keyring }]));
}

/** Projects whose primary version is due as their policy says, or was made before a moment; of those `among`. */
export async function selectMatchingProjects(
  database: Queryable,
  madeBefore: Date | undefined,
  among: ProjectIds,
): Promise<string[]> {
  const ids = among === 'all' ? null : among;
  const { rows } = await database.query<{ project_id: string }>(
    madeBefore === undefined
      ? {
          text: `select project_id from keyring.due_projects
                 where $1::uuid[] is null or project_id = any ($1) order by project_id`,
          values: [ids],
        }
      : {
          text: `select r.project_id from keyring.keyrings r
                 join keyring.encryption_keys k on k.id = r.primary_key_id
                 where k.created_at < $1 and ($2::uuid[] is null or r.project_id = any ($2)) order by r.project_id`,
          values: [madeBefore, ids],
        },
  );
  return rows.map((row) => row.project_id);
}

/**
 * Adds projects to a rotation. A named project that another open rotation holds is refused by the index (SQLSTATE 23505);
 * of projects that were not named one by one, those are left out: one project's open rotation never holds up the others.
 * Gives the number added.
 */
export async function insertRotationProjects(
  tx: Queryable,
  rotationId: string,
  projectIds: readonly string[] | 'all',
  named: boolean,
): Promise<number> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.rotation_projects (rotation_id, project_id, project_name)
           select $1, r.project_id, q.name
           from keyring.keyrings r join public.projects q on q.id = r.project_id
           where $2::uuid[] is null or r.project_id = any ($2)
           ${named ? '' : skipOpenElsewhere}`,
    values: [rotationId, projectIds === 'all' ? null : projectIds],
  });
  return rowCount;
}

/**
 * Adds those of the projects whose primary version still is the one that was found due, and that no open rotation holds. Gives
 * the number added.
 */
export async function insertDueProjects(
  tx: Queryable,
  rotationId: string,
  due: readonly { readonly projectId: string; readonly keyId: string }[],
): Promise<number> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.rotation_projects (rotation_id, project_id, project_name)
           select $1, r.project_id, q.name
           from unnest($2::uuid[], $3::uuid[]) as d (project_id, key_id)
           join keyring.keyrings r on r.project_id = d.project_id and r.primary_key_id = d.key_id
           join public.projects q on q.id = r.project_id
           ${skipOpenElsewhere}`,
    values: [rotationId, due.map(({ projectId }) => projectId), due.map(({ keyId }) => keyId)],
  });
  return rowCount;
}

const skipOpenElsewhere = `on conflict (project_id)
  where state ${isOpen} do nothing`;

/** Which of these projects an open rotation holds already. */
export async function selectOpenElsewhere(
  database: Queryable,
  projectIds: readonly string[] | 'all',
): Promise<{ projectName: string; rotationId: string }[]> {
  const { rows } = await database.query<{ project_name: string; rotation_id: string }>({
    text: `select p.project_name, p.rotation_id from keyring.rotation_projects p
           where p.state ${isOpen}
             and ($1::uuid[] is null or p.project_id = any ($1))
           order by p.project_name limit 20`,
    values: [projectIds === 'all' ? null : projectIds],
  });
  return rows.map((row) => ({ projectName: row.project_name, rotationId: row.rotation_id }));
}
