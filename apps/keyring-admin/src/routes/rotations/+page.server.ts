import { rotationStates } from '@meshhook/keyring';
import type { shapes } from '@meshhook/keyring-http';
import { filtered, show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:rotations');
  const asked = (name: string): string => event.url.searchParams.get(name) ?? '';
  const filters = { state: asked('state'), project: asked('project') };
  const query = { ...filters, cursor: asked('cursor'), limit: 30 };
  const list = await show(() =>
    filtered(() => visitorApi(event).get<shapes.RotationList>('/api/rotations', query), { rotations: [], next: null }),
  );
  return { ...list, filters, states: rotationStates, now: new Date().toISOString() };
};
