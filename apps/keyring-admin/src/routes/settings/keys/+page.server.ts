import type { shapes } from '@meshhook/keyring-http';
import { show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:upper-keys');
  const api = visitorApi(event);
  return show(async () => {
    const { rootKeys, backups, lastVerifiedBackupAt } = await api.get<shapes.RootKeyList>('/api/root-keys');
    const { wrappingKeys } = await api.get<shapes.WrappingKeyList>('/api/wrapping-keys');
    const { rotations, next } = await api.get<shapes.WrappingRotationList>('/api/wrapping-keys/rotations', {
      cursor: event.url.searchParams.get('cursor'),
      limit: 10,
    });
    return { rootKeys, backups, lastVerifiedBackupAt, wrappingKeys, rotations, next, now: new Date().toISOString() };
  });
};
