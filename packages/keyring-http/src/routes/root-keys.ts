import { createRoute } from '@hono/zod-openapi';
import { permit } from '../access/permit.ts';
import { answers, bearer, refusals, routes } from '../api.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { noQuery, uuid } from '../schemas/common.ts';
import { rootKeyList, rootRotationList, upperRotationsQuery } from '../schemas/upper-keys.ts';
import { time } from '../wire/common.ts';
import { wireBackup, wireRootKey, wireRootRotation } from '../wire/upper-keys.ts';

const BACKUPS_SHOWN = 10;

/** Root keys are looked at here, and moved from a shell: whoever moves one has its credentials. */
export function rootKeyRoutes(options: ResolvedHandlerOptions) {
  const list = createRoute({
    method: 'get',
    path: '/api/root-keys',
    summary: 'Root keys, those in use first, and what is known of backups.',
    security: bearer,
    middleware: permit(options, 'instance:read', { instance: true }),
    request: { query: noQuery },
    responses: { 200: answers('the root keys', rootKeyList), ...refusals() },
  });

  const rotations = createRoute({
    method: 'get',
    path: '/api/root-keys/rotations',
    summary: 'Moves from one root key to another, newest first.',
    security: bearer,
    middleware: permit(options, 'instance:read', { instance: true }),
    request: { query: upperRotationsQuery },
    responses: { 200: answers('the moves', rootRotationList), ...refusals() },
  });

  return routes()
    .openapi(list, async (c) => {
      const { rootKeys } = c.var.keyring;
      const backups = await rootKeys.backups();
      const verified = backups.map(({ verifiedAt }) => verifiedAt?.getTime() ?? 0);
      const last = Math.max(0, ...verified);
      return c.json(
        {
          rootKeys: (await rootKeys.list()).map(wireRootKey),
          backups: backups.slice(0, BACKUPS_SHOWN).map(wireBackup),
          lastVerifiedBackupAt: last === 0 ? null : time(new Date(last)),
        },
        200,
      );
    })
    .openapi(rotations, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const found = await c.var.keyring.rootKeys.rotations({
        limit: limit + 1,
        ...(cursor === undefined ? {} : { before: positionOf(uuid, cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ rotations: items.map(wireRootRotation), next }, 200);
    });
}
