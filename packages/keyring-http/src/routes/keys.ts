import { createRoute } from '@hono/zod-openapi';
import { bearer, problems, requireScope, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { keyList, keysQuery } from '../schemas.ts';
import { wireKey } from '../wire.ts';

export function keyRoutes(options: ResolvedHandlerOptions) {
  const { keyring } = options;

  const list = createRoute({
    method: 'get',
    path: '/api/keys',
    summary: 'Key versions, by project and version.',
    security: bearer,
    middleware: requireScope(options, 'read'),
    request: { query: keysQuery },
    responses: {
      200: { description: 'the keys', content: { 'application/json': { schema: keyList } } },
      ...problems('invalid_argument', 'unauthenticated', 'forbidden', 'unknown_project', 'ambiguous_project'),
    },
  });

  return routes().openapi(list, async (c) => {
    const { project, limit } = c.req.valid('query');
    const projectId = project === undefined ? undefined : (await keyring.projects.resolve(project)).id;
    // One project more than asked for tells whether there are more.
    const found = await keyring.keys.list({ limit: limit + 1, ...(projectId === undefined ? {} : { projectId }) });
    const projects = [...new Set(found.map((key) => key.projectId))];
    const shown = new Set(projects.slice(0, limit));
    const keys = found.filter((key) => shown.has(key.projectId)).map(wireKey);
    return c.json({ keys, truncated: projects.length > limit }, 200);
  });
}
