import { createRoute } from '@hono/zod-openapi';
import { permit } from '../access/permit.ts';
import { answers, bearer, refusals, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { noQuery } from '../schemas/common.ts';
import { overview } from '../schemas/overview.ts';
import { wireVerified } from '../wire/audit.ts';
import { wireOverview } from '../wire/overview.ts';

export function overviewRoutes(options: ResolvedHandlerOptions) {
  const look = createRoute({
    method: 'get',
    path: '/api/overview',
    summary: 'Are we safe, and what comes next? Of the projects that the caller may look at.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { query: noQuery },
    responses: { 200: answers('how things stand', overview), ...refusals() },
  });

  return routes().openapi(look, async (c) => {
    const { keyring, sight, principal } = c.var;
    const workersAlive = (await options.workers()).filter(({ alive }) => alive).length;
    const awaitingApproval = principal.can('access:manage') ? await keyring.access.approvals.countOpen() : null;
    const found = await sight.overview({ among: principal.projects });
    const verified = principal.can('audit:read') ? wireVerified(await keyring.audit.verified()) : null;
    return c.json(wireOverview(found, { awaitingApproval, workersAlive, verified }), 200);
  });
}
