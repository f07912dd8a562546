import { rotationProjectStates } from '@meshhook/keyring';
import type { shapes } from '@meshhook/keyring-http';
import { show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  const api = visitorApi(event);
  const asked = (name: string): string => event.url.searchParams.get(name) ?? '';
  const path = `/api/rotations/${encodeURIComponent(event.params.id)}/projects`;
  const query = { state: asked('state'), cursor: asked('cursor'), limit: 100 };
  const list = await show(() => api.get<shapes.RotationProjectList>(path, query));
  return {
    ...list,
    rotationId: event.params.id,
    state: query.state,
    states: rotationProjectStates,
    now: new Date().toISOString(),
  };
};
