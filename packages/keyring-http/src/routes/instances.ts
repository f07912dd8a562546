import { createRoute } from '@hono/zod-openapi';
import { permit } from '../access/permit.ts';
import { answers, bearer, refusals, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { noQuery } from '../schemas/common.ts';
import { instanceList, workerList } from '../schemas/upper-keys.ts';
import { wireInstance, wireWorker } from '../wire/upper-keys.ts';

/** The processes: who has the keyring open, and who does the work of rotations. */
export function instanceRoutes(options: ResolvedHandlerOptions) {
  const instances = createRoute({
    method: 'get',
    path: '/api/instances',
    summary: 'Processes that have the keyring open: the live first, then those that fell silent within the hour.',
    security: bearer,
    middleware: permit(options, 'instance:read', { instance: true }),
    request: { query: noQuery },
    responses: { 200: answers('up to 1,000', instanceList), ...refusals() },
  });

  const workers = createRoute({
    method: 'get',
    path: '/api/workers',
    summary: 'Processes that do the work of rotations.',
    security: bearer,
    middleware: permit(options, 'instance:read', { instance: true }),
    request: { query: noQuery },
    responses: { 200: answers('up to 1,000', workerList), ...refusals() },
  });

  return routes()
    .openapi(instances, async (c) =>
      c.json({ instances: (await c.var.keyring.instances.list()).map(wireInstance) }, 200),
    )
    .openapi(workers, async (c) => c.json({ workers: (await options.workers()).map(wireWorker).slice(0, 1000) }, 200));
}
