import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError, type Exposure, type KeyVersion, type Permission } from '@meshhook/keyring';
import type { Context } from 'hono';
import { isPermittedIn, permit } from '../access/permit.ts';
import { answers, bearer, refusals, routes, type ApiEnv } from '../api.ts';
import { csv } from '../csv.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { idParam, noQuery, storedName } from '../schemas/common.ts';
import { exposure, exposureQuery, key, keyList, keysQuery } from '../schemas/keys.ts';
import { timeOrNull } from '../wire/common.ts';
import { wireExposed, wireKey } from '../wire/keys.ts';

const position = z.strictObject({ projectName: storedName, projectId: z.uuid(), version: z.int32() });

export function keyRoutes(options: ResolvedHandlerOptions) {
  const list = createRoute({
    method: 'get',
    path: '/api/keys',
    summary: 'Key versions, by the name of their project and by version.',
    security: bearer,
    middleware: permit(options, 'keys:read', { project: (c) => c.req.query('project') }),
    request: { query: keysQuery },
    responses: { 200: answers('the keys', keyList), ...refusals('unknown_project', 'ambiguous_project') },
  });

  const one = createRoute({
    method: 'get',
    path: '/api/keys/{id}',
    summary: 'One key version.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { params: idParam, query: noQuery },
    responses: { 200: answers('the key', key), ...refusals('unknown_key') },
  });

  const exposed = createRoute({
    method: 'get',
    path: '/api/keys/{id}/exposure',
    summary: 'The exposure report: every value that was ever under a version, by name. As JSON, or as CSV (RFC 4180).',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { params: idParam, query: exposureQuery },
    responses: {
      200: {
        description: 'the report',
        content: { 'application/json': { schema: exposure }, 'text/csv': { schema: z.string() } },
      },
      ...refusals('unknown_key'),
    },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor, search, status, due } = c.req.valid('query');
      const { sight, principal, project } = c.var;
      const found = await sight.keys.page({
        limit: limit + 1,
        among: principal.projects,
        ...(project === undefined ? {} : { projectId: project.id }),
        ...(cursor === undefined ? {} : { after: positionOf(position, cursor) }),
        ...(search === undefined ? {} : { search }),
        ...(status === undefined ? {} : { status }),
        ...(due === undefined ? {} : { due: due === 'true' }),
      });
      const { items, next } = pageOf(found, limit, ({ projectName, projectId, version }) => ({
        ...{ projectName, projectId, version },
      }));
      return c.json({ keys: items.map(wireKey), next }, 200);
    })
    .openapi(one, async (c) => c.json(wireKey(await requireKey(c, 'keys:read', c.req.valid('param').id)), 200))
    .openapi(exposed, async (c) => {
      const found = await requireKey(c, 'keys:read', c.req.valid('param').id);
      const exposed = await c.var.sight.keys.exposure(found.id);
      if (c.req.valid('query').format === 'json') {
        const { secrets, archivedUntil } = exposed;
        return c.json(
          { key: wireKey(found), secrets: secrets.map(wireExposed), archivedUntil: timeOrNull(archivedUntil) },
          200,
        );
      }
      return c.body(exposureTable(found, exposed), 200, {
        'content-type': 'text/csv; charset=utf-8; header=present',
        'content-disposition': `attachment; filename="exposure-${found.id}.csv"`,
      });
    });
}

/** @throws KeyringError `unknown_key`, also for one of a project of which the principal may know nothing; `forbidden`. */
export async function requireKey(c: Context<ApiEnv>, permission: Permission, id: string): Promise<KeyVersion> {
  const found = await c.var.sight.keys.get(id);
  if (found !== undefined && isPermittedIn(c, permission, [found.projectId])) return found;
  throw new KeyringError('unknown_key', 'There is no such key.', { remedy: 'GET /api/keys lists them.' });
}

/** Where something may be missing, the first row says so: who opens the file has nothing else. */
function exposureTable({ projectName, version }: KeyVersion, { secrets, archivedUntil }: Exposure): string {
  const header = ['project', 'version', 'column', 'row', 'name', 'written', 'replaced'];
  const missing = `INCOMPLETE: the trail is archived until ${archivedUntil?.toISOString() ?? ''}; values replaced or deleted before may be missing`;
  const warning = archivedUntil === undefined ? [] : [[projectName, String(version), '', '', missing, '', '']];
  const rows = secrets.map((one) => [
    ...[projectName, String(version), one.label, one.rowId, one.name ?? ''],
    ...[one.writtenAt, one.replacedAt].map((date) => date?.toISOString() ?? ''),
  ]);
  return csv([header, ...warning, ...rows]);
}
