import type { shapes } from '@meshhook/keyring-http';
import { show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

const SHOWN = 500;

export const load: PageServerLoad = async (event) => {
  const { key, secrets, archivedUntil } = await show(() =>
    visitorApi(event).get<shapes.Exposure>(`/api/keys/${encodeURIComponent(event.params.key)}/exposure`),
  );
  return {
    ...{ key, archivedUntil, total: secrets.length, secrets: secrets.slice(0, SHOWN) },
    now: new Date().toISOString(),
  };
};
