import type { Project, ProjectIds } from '../api.ts';
import type { Queryable } from '../db/port.ts';

interface ProjectRow {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly created_at: Date;
}

export async function insertProject(tx: Queryable, name: string, owner: string): Promise<Project> {
  const { rows } = await tx.query<ProjectRow>({
    text: 'insert into public.projects (name, owner) values ($1, $2) returning id, name, owner, created_at',
    values: [name, owner],
  });
  const [row] = rows.map(project);
  if (row === undefined) throw new Error('insert returned no row');
  return row;
}

export interface ProjectPage {
  readonly limit: number;
  readonly among: ProjectIds;
  readonly search: string | undefined;
  readonly after: Pick<Project, 'name' | 'id'> | undefined;
}

export async function selectProjects(
  database: Queryable,
  { limit, among, search, after }: ProjectPage,
): Promise<Project[]> {
  const { rows } = await database.query<ProjectRow>({
    text: `select id, name, owner, created_at from public.projects
           where ($2::uuid[] is null or id = any ($2)) and ($3::text is null or position(lower($3) in lower(name)) > 0)
             and ${after === undefined ? '($4::text is null and $5::uuid is null)' : '(name, id) > ($4, $5::uuid)'}
           order by name, id limit $1`,
    values: [limit, among === 'all' ? null : among, search ?? null, after?.name ?? null, after?.id ?? null],
  });
  return rows.map(project);
}

/** Those with this name, and the one with this id. Up to 20. */
export async function selectProjectsNamed(
  database: Queryable,
  name: string,
  id: string | undefined,
  among: ProjectIds,
): Promise<Project[]> {
  const { rows } = await database.query<ProjectRow>({
    text: `select id, name, owner, created_at from public.projects
           where (name = $1 or id = $2) and ($3::uuid[] is null or id = any ($3))
           order by id = $2 desc nulls last, created_at, id limit 20`,
    values: [name, id ?? null, among === 'all' ? null : among],
  });
  return rows.map(project);
}

function project({ created_at, ...row }: ProjectRow): Project {
  return { ...row, createdAt: created_at };
}
