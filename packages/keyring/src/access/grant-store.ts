import type { Grant, GrantableRole, GrantPosition, NewGrant, ProjectIds } from '../api.ts';
import type { Queryable } from '../db/port.ts';

interface GrantRow {
  readonly id: string;
  readonly person: string;
  readonly role: GrantableRole;
  readonly project_id: string | null;
  readonly reason: string | null;
  readonly granted_by: string;
  readonly granted_at: Date;
}

const columns = 'g.id, g.person, g.role, g.project_id, g.reason, g.granted_by, g.granted_at';

/** Undefined when there is such a grant already. */
export async function insertGrant(tx: Queryable, grant: NewGrant, grantedBy: string): Promise<Grant | undefined> {
  const { rows } = await tx.query<GrantRow>({
    text: `insert into keyring.grants as g (person, role, project_id, reason, granted_by) values ($1, $2, $3, $4, $5)
           on conflict do nothing returning ${columns}`,
    values: [grant.person, grant.role, grant.projectId ?? null, grant.reason ?? null, grantedBy],
  });
  return rows[0] && toGrant(rows[0]);
}

export async function selectSameGrant(database: Queryable, grant: NewGrant): Promise<Grant | undefined> {
  const { rows } = await database.query<GrantRow>({
    text: `select ${columns} from keyring.grants g
           where g.person = $1 and g.role = $2 and g.project_id is not distinct from $3`,
    values: [grant.person, grant.role, grant.projectId ?? null],
  });
  return rows[0] && toGrant(rows[0]);
}

export async function selectGrant(database: Queryable, id: string): Promise<Grant | undefined> {
  const { rows } = await database.query<GrantRow>({
    text: `select ${columns} from keyring.grants g where g.id = $1`,
    values: [id],
  });
  return rows[0] && toGrant(rows[0]);
}

export async function selectGrants(
  database: Queryable,
  { limit, among, after }: { limit: number; among: ProjectIds; after: GrantPosition | undefined },
): Promise<Grant[]> {
  const { rows } = await database.query<GrantRow>({
    text: `select ${columns} from keyring.grants g
           where ($2::uuid[] is null or g.project_id = any ($2))
             and ($3::text is null
               or (g.person, g.role) > ($3, $4::text)
               or (g.person, g.role) = ($3, $4) and $5::uuid is not null and (g.project_id is null or g.project_id > $5))
           order by g.person, g.role, g.project_id nulls last limit $1`,
    values: [
      limit,
      among === 'all' ? null : among,
      ...[after?.person ?? null, after?.role ?? null, after?.projectId ?? null],
    ],
  });
  return rows.map(toGrant);
}

export async function selectGrantsOf(database: Queryable, person: string): Promise<Grant[]> {
  const { rows } = await database.query<GrantRow>({
    text: `select ${columns} from keyring.grants g where g.person = $1 order by g.role, g.project_id limit 10000`,
    values: [person],
    name: 'access_grants_of',
  });
  return rows.map(toGrant);
}

/** False when it is gone. */
export async function deleteGrant(tx: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await tx.query({ text: 'delete from keyring.grants where id = $1', values: [id] });
  return rowCount === 1;
}

function toGrant(row: GrantRow): Grant {
  return {
    id: row.id,
    person: row.person,
    role: row.role,
    projectId: row.project_id ?? undefined,
    reason: row.reason ?? undefined,
    grantedBy: row.granted_by,
    grantedAt: row.granted_at,
  };
}
