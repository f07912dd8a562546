import { createRoute, z } from '@hono/zod-openapi';
import type { Permission } from '@meshhook/keyring';
import { permit } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, routes } from '../api.ts';
import { readBody } from '../body.ts';
import { wake } from '../wake.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import type { ProblemCode } from '../problems.ts';
import { approvalNeeded } from '../schemas/access.ts';
import { idParam, noQuery, withReason } from '../schemas/common.ts';
import { compromise as compromiseSchema, destroyRequest, key } from '../schemas/keys.ts';
import { wireKey } from '../wire/keys.ts';
import { wireRotation } from '../wire/rotations.ts';
import { requireKey } from './keys.ts';

/** What takes a version out of use, for a while or for good. */
export function keyActRoutes(options: ResolvedHandlerOptions) {
  const act = <Act extends string>(verb: Act, permission: Permission, summary: string, codes: readonly ProblemCode[]) =>
    createRoute({
      method: 'post',
      path: `/api/keys/{id}/${verb}`,
      summary,
      security: bearer,
      middleware: [permit(options, permission, { anyProject: true }), ...readBody(options)] as const,
      request: { params: idParam, query: noQuery, body: jsonBody(withReason) },
      responses: { 200: answers('done', key), ...bodyRefusals('unknown_key', ...codes) },
    });

  const inUse = ['key_is_primary', 'key_in_use', 'unregistered_column'] as const;
  const destroy = createRoute({
    method: 'post',
    path: '/api/keys/{id}/destroy',
    summary: 'Erase a version for good. Before its retention window is over, that takes two people.',
    security: bearer,
    middleware: [permit(options, 'keys:destroy', { anyProject: true }), ...readBody(options)] as const,
    request: { params: idParam, query: noQuery, body: jsonBody(destroyRequest) },
    responses: {
      200: answers('done', key),
      202: answers('not done, but asked for: another admin decides', approvalNeeded),
      ...bodyRefusals('unknown_key', ...inUse, 'retention_not_over'),
    },
  });
  const suspend = act('suspend', 'keys:destroy', 'Take a version out of use, until it is restored.', [
    ...inUse,
    'key_destroyed',
    'illegal_state',
  ]);
  const restore = act('restore', 'keys:destroy', 'Bring a suspended version back.', ['key_destroyed', 'illegal_state']);

  const compromise = createRoute({
    method: 'post',
    path: '/api/keys/{id}/compromise',
    summary: 'A version leaked: mark it, leave it at once, and move every row off it. Then change the exposed values.',
    security: bearer,
    middleware: [permit(options, 'keys:compromise', { anyProject: true }), ...readBody(options)] as const,
    request: { params: idParam, query: noQuery, body: jsonBody(withReason) },
    responses: {
      200: answers('marked: nothing was under it', compromiseSchema),
      202: { ...answers('marked, and left', compromiseSchema), headers: z.object({ Location: z.string() }) },
      ...bodyRefusals('unknown_key', 'key_destroyed'),
    },
  });

  return routes()
    .openapi(destroy, async (c) => {
      const { id } = await requireKey(c, 'keys:destroy', c.req.valid('param').id);
      const { reason, early } = c.req.valid('json');
      return c.json(
        wireKey(await c.var.keyring.keys.destroy(id, { reason, ...(early === undefined ? {} : { early }) })),
        200,
      );
    })
    .openapi(suspend, async (c) => {
      const { id } = await requireKey(c, 'keys:destroy', c.req.valid('param').id);
      return c.json(wireKey(await c.var.keyring.keys.disable(id, c.req.valid('json'))), 200);
    })
    .openapi(restore, async (c) => {
      const { id } = await requireKey(c, 'keys:destroy', c.req.valid('param').id);
      return c.json(wireKey(await c.var.keyring.keys.restore(id, c.req.valid('json'))), 200);
    })
    .openapi(compromise, async (c) => {
      const { id } = await requireKey(c, 'keys:compromise', c.req.valid('param').id);
      const { key: marked, rotation, overtaken } = await c.var.keyring.rotations.compromise(id, c.req.valid('json'));
      const told = { key: wireKey(marked), overtaken: [...overtaken] };
      if (rotation === undefined) return c.json({ ...told, rotation: null }, 200);
      wake(options, rotation.id);
      return c.json({ ...told, rotation: wireRotation(rotation) }, 202, { location: `/api/rotations/${rotation.id}` });
    });
}
