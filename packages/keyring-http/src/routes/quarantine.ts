import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError } from '@meshhook/keyring';
import { isPermittedIn, permit, requireProject, requireRotation } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { readBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { approvalNeeded } from '../schemas/access.ts';
import { noQuery } from '../schemas/common.ts';
import {
  discarded,
  discardRequest,
  quarantineList,
  quarantineQuery,
  retried,
  retryRequest,
} from '../schemas/quarantine.ts';
import { wake } from '../wake.ts';
import { wireQuarantineEntry } from '../wire/rotations.ts';

/** Rows that do not open, and the ways out for them. */
export function quarantineRoutes(options: ResolvedHandlerOptions) {
  const list = createRoute({
    method: 'get',
    path: '/api/quarantine',
    summary: 'Rows that do not open, the oldest first.',
    security: bearer,
    middleware: permit(options, 'keys:read', { project: (c) => c.req.query('project') }),
    request: { query: quarantineQuery },
    responses: {
      200: answers('the rows', quarantineList),
      ...refusals('unknown_project', 'ambiguous_project', 'unknown_rotation'),
    },
  });

  const retry = createRoute({
    method: 'post',
    path: '/api/quarantine/retry',
    summary: 'Try rows again: those that open leave, and blocked rotations that this frees go on.',
    security: bearer,
    middleware: [permit(options, 'keys:rotate', { anyProject: true }), ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(retryRequest) },
    responses: {
      200: answers('tried', retried),
      ...bodyRefusals('unknown_project', 'ambiguous_project', 'unknown_rotation', 'unregistered_column', 'interrupted'),
    },
  });

  const discard = createRoute({
    method: 'post',
    path: '/api/quarantine/discard',
    summary: 'Delete a row that does not open, for good.',
    security: bearer,
    middleware: [permit(options, 'keys:destroy', { anyProject: true }), ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(discardRequest) },
    responses: {
      200: answers('it is gone', discarded),
      202: answers('not done, but asked for: another admin decides', approvalNeeded),
      ...bodyRefusals('not_quarantined', 'row_opens', 'conflict', 'key_disabled', 'wrong_root_key'),
    },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor, rotation } = c.req.valid('query');
      const { sight, principal, project } = c.var;
      if (rotation !== undefined) await requireRotation(c, 'keys:read', rotation);
      const found = await sight.quarantine.list({
        limit: limit + 1,
        among: principal.projects,
        ...(cursor === undefined ? {} : { after: positionOf(z.string().regex(/^\d{1,18}$/), cursor) }),
        ...(project === undefined ? {} : { projectId: project.id }),
        ...(rotation === undefined ? {} : { rotationId: rotation }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ quarantine: items.map(wireQuarantineEntry), next }, 200);
    })
    .openapi(retry, async (c) => {
      const { project, rotation } = c.req.valid('json');
      const { keyring, principal } = c.var;
      if (rotation !== undefined) await requireRotation(c, 'keys:rotate', rotation);
      const scope = project === undefined ? undefined : await requireProject(c, 'keys:rotate', project);
      if (principal.projects !== 'all' && rotation === undefined && scope === undefined) {
        throw new KeyringError('invalid_argument', 'Say which: a project or a rotation.');
      }
      const result = await keyring.quarantine.retry({
        signal: c.req.raw.signal,
        ...(scope === undefined ? {} : { projectId: scope.id }),
        ...(rotation === undefined ? {} : { rotationId: rotation }),
      });
      for (const id of result.resumed) wake(options, id);
      const { tried, opened, gone, unreadableRows, unreadable, resumed } = result;
      const told = { tried, opened, gone, unreadableRows, resumed: [...resumed] };
      return c.json({ ...told, unreadable: unreadable.map(wireQuarantineEntry) }, 200);
    })
    .openapi(discard, async (c) => {
      const { projectId, label, rowId, reason } = c.req.valid('json');
      if (!isPermittedIn(c, 'keys:destroy', [projectId])) {
        throw new KeyringError('not_quarantined', 'There is no such row in quarantine.');
      }
      const row = await c.var.keyring.quarantine.discard({ projectId, label, rowId }, { reason });
      return c.json(
        {
          ...{ projectId: row.projectId, label: row.label, rowId: row.rowId, name: row.name ?? null },
          ...{ keyId: row.keyId, reason: row.reason, rotationId: row.rotationId },
        },
        200,
      );
    });
}
