import { createRoute, z } from '@hono/zod-openapi';
import { permit } from '../access/permit.ts';
import { bearer, refusals, routes } from '../api.ts';
import { exposition, expositionType } from '../metrics.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { noQuery } from '../schemas/common.ts';

export function metricsRoutes(options: ResolvedHandlerOptions) {
  const metrics = createRoute({
    method: 'get',
    path: '/metrics',
    summary: "How things stand, in Prometheus' text format. docs/monitoring.md says what each metric means.",
    security: bearer,
    middleware: permit(options, 'instance:read', { instance: true }),
    request: { query: noQuery },
    responses: {
      200: { description: 'the metrics', content: { 'text/plain': { schema: z.string() } } },
      ...refusals(),
    },
  });

  return routes().openapi(metrics, async (c) => {
    const text = await exposition(await c.var.keyring.monitoring.facts());
    return c.text(text, 200, { 'content-type': expositionType });
  });
}
