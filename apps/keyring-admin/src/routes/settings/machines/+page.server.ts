import type { shapes } from '@meshhook/keyring-http';
import { show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:machines');
  const api = visitorApi(event);
  return show(async () => {
    const { instances } = await api.get<shapes.InstanceList>('/api/instances');
    const { workers } = await api.get<shapes.WorkerList>('/api/workers');
    return { instances, workers, now: new Date().toISOString() };
  });
};
