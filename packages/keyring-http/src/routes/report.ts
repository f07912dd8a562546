import { createRoute, z } from '@hono/zod-openapi';
import { reportCsv, reportJson } from '@meshhook/keyring';
import { permit } from '../access/permit.ts';
import { permittedStream } from '../access/permitted-stream.ts';
import { bearer, refusals, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';

const moment = z.union([z.iso.date(), z.iso.datetime({ offset: true })]);

const reportQuery = z.strictObject({
  since: moment.openapi({ description: 'A day, from its first moment in UTC, or a moment.', example: '2026-01-01' }),
  until: moment.optional().openapi({ description: 'Exclusive. Default: now.' }),
  format: z.enum(['json', 'csv']).default('json'),
  only: z.enum(['rotations', 'keys', 'overdue', 'off']).optional().openapi({ description: 'Default: all of them.' }),
});

const rows = z.array(z.record(z.string(), z.unknown()));
const reportShape = z
  .object({
    since: z.iso.datetime(),
    until: z.iso.datetime(),
    rotations: rows.optional(),
    keys: rows.optional(),
    overdue: rows.optional(),
    off: rows.optional(),
  })
  .openapi('Report');

export function reportRoutes(options: ResolvedHandlerOptions) {
  const get = createRoute({
    method: 'get',
    path: '/api/report',
    summary:
      'Every rotation and every key of a time, and what is overdue or switched off now; streamed. docs/monitoring.md has its columns.',
    security: bearer,
    middleware: permit(options, 'audit:read', { instance: true }),
    request: { query: reportQuery },
    responses: {
      200: {
        description: 'the report',
        content: { 'application/json': { schema: reportShape }, 'text/csv': { schema: z.string() } },
      },
      ...refusals(),
    },
  });

  return routes().openapi(get, (c) => {
    const { since, until, format, only } = c.req.valid('query');
    const report = c.var.keyring.monitoring.report({
      since: new Date(since),
      ...(until === undefined ? {} : { until: new Date(until) }),
    });
    const text = format === 'csv' ? reportCsv(report, only) : reportJson(report, only);
    const body = permittedStream(options, c, 'audit:read', text);
    return new Response(body, {
      headers:
        format === 'csv'
          ? {
              'content-type': 'text/csv; charset=utf-8',
              'content-disposition': 'attachment; filename="keyring-report.csv"',
            }
          : { 'content-type': 'application/json' },
    });
  });
}
