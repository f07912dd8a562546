import type { shapes } from '@meshhook/keyring-http';
import { redirect } from '@sveltejs/kit';
import { act, required } from '#lib/server/act.ts';
import { filtered, show, visitorApi } from '#lib/server/api.ts';
import type { Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  const asked = (name: string): string => event.url.searchParams.get(name) ?? '';
  const query = { search: asked('search'), cursor: asked('cursor'), limit: 50 };
  const list = await show(() =>
    filtered(() => visitorApi(event).get<shapes.ProjectList>('/api/projects', query), { projects: [], next: null }),
  );
  return { ...list, search: asked('search'), now: new Date().toISOString() };
};

export const actions: Actions = {
  create: async (event) => {
    let made: string | undefined;
    const state = await act(event, 'create', async (sent, api) => {
      const name = required(sent, 'name', 'It needs a name.');
      made = (await api.send<shapes.Project>('POST', '/api/projects', { name })).body.id;
      return {};
    });
    if (made !== undefined) redirect(303, `/secrets/${made}`);
    return state;
  },
};
