import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError, type Permission } from '@meshhook/keyring';
import { permit } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { idParam, noQuery, uuid, withReason } from '../schemas/common.ts';
import {
  rotateWrappingKeyRequest,
  upperRotationsQuery,
  wrappingKey,
  wrappingKeyList,
  wrappingRotation,
  wrappingRotationList,
} from '../schemas/upper-keys.ts';
import { wakeWrapping } from '../wake.ts';
import { wireWrappingKey, wireWrappingRotation } from '../wire/upper-keys.ts';

export function wrappingKeyRoutes(options: ResolvedHandlerOptions) {
  const inInstance = (permission: Permission) => permit(options, permission, { instance: true });

  const list = createRoute({
    method: 'get',
    path: '/api/wrapping-keys',
    summary: 'Wrapping keys, the newest first.',
    security: bearer,
    middleware: inInstance('instance:read'),
    request: { query: noQuery },
    responses: { 200: answers('the wrapping keys', wrappingKeyList), ...refusals() },
  });

  const rotate = createRoute({
    method: 'post',
    path: '/api/wrapping-keys/rotate',
    summary: 'Ask for a rotation of the wrapping key. It is accepted, not done: follow Location.',
    security: bearer,
    middleware: [inInstance('keys:rotate'), ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(rotateWrappingKeyRequest) },
    responses: {
      202: { ...answers('accepted', wrappingRotation), headers: z.object({ Location: z.string() }) },
      ...bodyRefusals('rotation_in_progress'),
    },
  });

  const destroy = createRoute({
    method: 'post',
    path: '/api/wrapping-keys/{id}/destroy',
    summary: 'Erase a wrapping key for good.',
    security: bearer,
    middleware: [inInstance('keys:destroy'), ...readBody(options)] as const,
    request: { params: idParam, query: noQuery, body: jsonBody(withReason) },
    responses: {
      200: answers('done', wrappingKey),
      ...bodyRefusals('unknown_key', 'key_is_primary', 'key_in_use'),
    },
  });

  const rotations = createRoute({
    method: 'get',
    path: '/api/wrapping-keys/rotations',
    summary: 'Rotations of the wrapping key, newest first.',
    security: bearer,
    middleware: inInstance('instance:read'),
    request: { query: upperRotationsQuery },
    responses: { 200: answers('the rotations', wrappingRotationList), ...refusals() },
  });

  const one = createRoute({
    method: 'get',
    path: '/api/wrapping-keys/rotations/{id}',
    summary: 'One rotation of the wrapping key.',
    security: bearer,
    middleware: inInstance('instance:read'),
    request: { params: idParam, query: noQuery },
    responses: { 200: answers('the rotation', wrappingRotation), ...refusals('unknown_rotation') },
  });

  const act = <Act extends string>(verb: Act, summary: string) =>
    createRoute({
      method: 'post',
      path: `/api/wrapping-keys/rotations/{id}/${verb}`,
      summary,
      security: bearer,
      middleware: [inInstance('keys:rotate'), ...readNoBody(options)] as const,
      request: { params: idParam, query: noQuery },
      responses: {
        200: answers('done', wrappingRotation),
        ...bodyRefusals('unknown_rotation', 'rotation_not_open', 'illegal_state'),
      },
    });
  const resume = act('resume', 'Go on with a rotation that is blocked, or that nobody drives.');
  const cancel = act('cancel', 'Take it back, before the pointer has moved.');
  const rollback = act('rollback', 'Move the pointer back, until the rotation is completed.');

  return routes()
    .openapi(list, async (c) =>
      c.json({ wrappingKeys: (await c.var.keyring.wrappingKeys.list()).map(wireWrappingKey) }, 200),
    )
    .openapi(rotate, async (c) => {
      const { reason, leaked } = c.req.valid('json');
      const made = await c.var.keyring.wrappingKeys.request({
        ...(reason === undefined ? {} : { reason }),
        ...(leaked === undefined ? {} : { leaked }),
      });
      wakeWrapping(options, made.id);
      return c.json(wireWrappingRotation(made), 202, { location: `/api/wrapping-keys/rotations/${made.id}` });
    })
    .openapi(destroy, async (c) => {
      const { id } = c.req.valid('param');
      return c.json(wireWrappingKey(await c.var.keyring.wrappingKeys.destroy(id, c.req.valid('json'))), 200);
    })
    .openapi(rotations, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const found = await c.var.keyring.wrappingKeys.rotations({
        limit: limit + 1,
        ...(cursor === undefined ? {} : { before: positionOf(uuid, cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ rotations: items.map(wireWrappingRotation), next }, 200);
    })
    .openapi(one, async (c) => {
      const found = await c.var.keyring.wrappingKeys.get(c.req.valid('param').id);
      if (found === undefined) throw new KeyringError('unknown_rotation', 'There is no such rotation.');
      return c.json(wireWrappingRotation(found), 200);
    })
    .openapi(resume, async (c) => {
      const resumed = await c.var.keyring.wrappingKeys.resume(c.req.valid('param').id);
      wakeWrapping(options, resumed.id);
      return c.json(wireWrappingRotation(resumed), 200);
    })
    .openapi(cancel, async (c) =>
      c.json(wireWrappingRotation(await c.var.keyring.wrappingKeys.cancel(c.req.valid('param').id)), 200),
    )
    .openapi(rollback, async (c) => {
      const turned = await c.var.keyring.wrappingKeys.rollback(c.req.valid('param').id);
      wakeWrapping(options, turned.id);
      return c.json(wireWrappingRotation(turned), 200);
    });
}
