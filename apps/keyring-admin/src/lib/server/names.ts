import type { shapes } from '@meshhook/keyring-http';
import type { Api } from './api.ts';

const NAMED = 50;

/** The names of projects by their ids, of the first fifty that the visitor may see. */
export async function projectNames(api: Api, ids: Iterable<string | null>): Promise<Readonly<Record<string, string>>> {
  const wanted = [...new Set(ids)].filter((id) => id !== null).slice(0, NAMED);
  const found = await Promise.all(
    wanted.map((id) => api.getIfPermitted<shapes.Project>(`/api/projects/${encodeURIComponent(id)}`)),
  );
  return Object.fromEntries(found.flatMap((project) => (project === undefined ? [] : [[project.id, project.name]])));
}
