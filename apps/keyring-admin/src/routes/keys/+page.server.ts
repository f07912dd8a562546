import type { shapes } from '@meshhook/keyring-http';
import { filtered, show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

const PAGE = 60;

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:keys');
  const asked = (name: string): string => event.url.searchParams.get(name) ?? '';
  const filters = { search: asked('search'), status: asked('status'), due: asked('due') };
  const query = { ...filters, cursor: asked('cursor'), limit: PAGE };
  const list = await show(() =>
    filtered(() => visitorApi(event).get<shapes.KeyList>('/api/keys', query), { keys: [], next: null }),
  );
  return { ...list, filters, now: new Date().toISOString() };
};
