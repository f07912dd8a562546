import type { shapes } from '@meshhook/keyring-http';
import { page } from '$app/state';

/** What the visitor may do, as the API said: what it would refuse is not offered. It goes on refusing, whatever is offered. */

export type Permission = keyof shapes.WhoAmI['permissions'];

/** In that project; without one, in any. */
export function may(permission: Permission, projectId?: string): boolean {
  const held = page.data.you?.permissions[permission] ?? [];
  return held === 'all' || (projectId === undefined ? held.length > 0 : held.includes(projectId));
}

/** In the whole instance: what belongs to no project. */
export function mayEverywhere(permission: Permission): boolean {
  return page.data.you?.permissions[permission] === 'all';
}
