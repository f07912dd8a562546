import { createRoute, z } from '@hono/zod-openapi';
import type { AuditEntry, AuditFilter, Project } from '@meshhook/keyring';
import { permit } from '../access/permit.ts';
import { permittedStream } from '../access/permitted-stream.ts';
import type { Principal } from '../access/principal.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { readBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import {
  auditExportQuery,
  auditList,
  auditQuery,
  lastCheckpoint,
  verification,
  verifyRequest,
} from '../schemas/audit.ts';
import { noQuery } from '../schemas/common.ts';
import { wireAuditEntry, wireCheckpoint, wireUnsealed, wireVerification, wireVerified } from '../wire/audit.ts';

/** The trail: who may read it in some projects sees what happened in those, and nothing of the instance. */
export function auditRoutes(options: ResolvedHandlerOptions) {
  const list = createRoute({
    method: 'get',
    path: '/api/audit',
    summary: 'Entries of the trail, newest first.',
    security: bearer,
    middleware: permit(options, 'audit:read', { project: (c) => c.req.query('project') }),
    request: { query: auditQuery },
    responses: { 200: answers('the entries', auditList), ...refusals('unknown_project', 'ambiguous_project') },
  });

  const exported = createRoute({
    method: 'get',
    path: '/api/audit/export',
    summary: 'Entries of the trail as JSON Lines, the oldest first, streamed.',
    security: bearer,
    middleware: permit(options, 'audit:read', { project: (c) => c.req.query('project') }),
    request: { query: auditExportQuery },
    responses: {
      200: { description: 'an entry a line', content: { 'application/x-ndjson': { schema: z.string() } } },
      ...refusals('unknown_project', 'ambiguous_project'),
    },
  });

  const checkpoint = createRoute({
    method: 'get',
    path: '/api/audit/checkpoint',
    summary: 'The last checkpoint, a signed note to be kept elsewhere; and what was verified last.',
    security: bearer,
    middleware: permit(options, 'audit:read', { instance: true }),
    request: { query: noQuery },
    responses: { 200: answers('the checkpoint', lastCheckpoint), ...refusals() },
  });

  const verify = createRoute({
    method: 'post',
    path: '/api/audit/verify',
    summary: 'Hash every entry again, and name the first that is not as it was written.',
    security: bearer,
    middleware: [permit(options, 'audit:read', { instance: true }), ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(verifyRequest) },
    responses: { 200: answers('intact or not', verification), ...bodyRefusals('interrupted') },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor, ...query } = c.req.valid('query');
      const { sight, principal, project } = c.var;
      const found = await sight.audit.list({
        limit: limit + 1,
        ...filterOf(query, principal, project),
        ...(cursor === undefined ? {} : { before: positionOf(z.string().regex(/^\d{1,18}$/), cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ entries: items.map(wireAuditEntry), next }, 200);
    })
    .openapi(exported, (c) => {
      const { sight, principal, project } = c.var;
      const entries = sight.audit.export(filterOf(c.req.valid('query'), principal, project));
      const body = permittedStream(options, c, 'audit:read', linesOf(entries));
      // The types of zod-openapi know JSON and text, and no other media type.
      return c.body(body, 200, { 'content-type': 'application/x-ndjson' }) as never;
    })
    .openapi(checkpoint, async (c) => {
      const found = await c.var.keyring.audit.checkpoint();
      const { unsealed, verified } = await c.var.keyring.audit.health();
      return c.json(
        {
          checkpoint: found === undefined ? null : wireCheckpoint(found),
          unsealed: wireUnsealed(unsealed),
          verified: wireVerified(verified),
        },
        200,
      );
    })
    .openapi(verify, async (c) => {
      const { checkpoint: given } = c.req.valid('json');
      const found = await c.var.keyring.audit.verify({
        signal: c.req.raw.signal,
        ...(given === undefined ? {} : { checkpoint: given }),
      });
      return c.json(wireVerification(found), 200);
    });
}

function filterOf(
  { since, until, actor, kind, action, outcome }: z.infer<typeof auditExportQuery>,
  { projects }: Principal & { readonly projects: 'all' | readonly string[] },
  project: Project | undefined,
): AuditFilter {
  return {
    ...(projects === 'all' ? {} : { projectIds: projects }),
    ...(project === undefined ? {} : { projectId: project.id }),
    ...(actor === undefined ? {} : { actor }),
    ...(kind === undefined ? {} : { kind }),
    ...(action === undefined ? {} : { action }),
    ...(outcome === undefined ? {} : { outcome }),
    ...(since === undefined ? {} : { since: new Date(since) }),
    ...(until === undefined ? {} : { until: new Date(until) }),
  };
}

async function* linesOf(entries: AsyncIterable<AuditEntry>): AsyncIterable<string> {
  for await (const entry of entries) yield `${JSON.stringify(wireAuditEntry(entry))}\n`;
}
