import type { shapes } from '@meshhook/keyring-http';
import { show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:overview');
  return { overview: await show(() => visitorApi(event).get<shapes.Overview>('/api/overview')) };
};
