import type { shapes } from '@meshhook/keyring-http';
import { show, visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:upper-keys');
  const api = visitorApi(event);
  return show(async () => {
    const { rootKeys, backups, lastVerifiedBackupAt } = await api.get<shapes.RootKeyList>('/api/root-keys');
    const { wrappingKeys } = await api.get<shapes.WrappingKeyList>('/api/wrapping-keys');
    const { rotations } = await api.get<{ rotations: shapes.WrappingRotation[] }>('/api/wrapping-keys/rotations', {
      limit: 10,
    });
    return { rootKeys, backups, lastVerifiedBackupAt, wrappingKeys, rotations, now: new Date().toISOString() };
  });
};
