import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError, type Keyring } from '@meshhook/keyring';
import { bearer, limitBody, problems, requireScope, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { paceRequest, rotateRequest, rotation, rotationDetail, rotationList, rotationsQuery } from '../schemas.ts';
import { wireRotation, wireRotationDetail } from '../wire.ts';

export function rotationRoutes(options: ResolvedHandlerOptions) {
  const { keyring, onRotationRequested, onError } = options;

  const rotate = createRoute({
    method: 'post',
    path: '/api/keys/rotate',
    summary: 'Ask for a rotation of some projects, or of all. It is accepted, not done: follow Location.',
    security: bearer,
    middleware: [requireScope(options, 'rotate'), limitBody] as const,
    request: { body: { required: true, content: { 'application/json': { schema: rotateRequest } } } },
    responses: {
      202: {
        description: 'accepted',
        headers: z.object({ Location: z.string() }),
        content: { 'application/json': { schema: rotation } },
      },
      ...problems('invalid_argument', 'malformed_json', 'unauthenticated', 'forbidden', 'unknown_project'),
      ...problems('ambiguous_project', 'rotation_in_progress', 'nothing_to_rotate', 'unregistered_column'),
      ...problems('body_too_large', 'unsupported_media_type'),
    },
  });

  const list = createRoute({
    method: 'get',
    path: '/api/rotations',
    summary: 'Rotations, newest first.',
    security: bearer,
    middleware: requireScope(options, 'read'),
    request: { query: rotationsQuery },
    responses: {
      200: { description: 'the rotations', content: { 'application/json': { schema: rotationList } } },
      ...problems('invalid_argument', 'unauthenticated', 'forbidden'),
    },
  });

  const one = createRoute({
    method: 'get',
    path: '/api/rotations/{id}',
    summary: 'One rotation, project by project.',
    security: bearer,
    middleware: requireScope(options, 'read'),
    request: { params: z.object({ id: z.string() }) },
    responses: {
      200: { description: 'the rotation', content: { 'application/json': { schema: rotationDetail } } },
      ...problems('unauthenticated', 'forbidden', 'unknown_rotation'),
    },
  });

  const pace = createRoute({
    method: 'post',
    path: '/api/rotations/{id}/pace',
    summary: 'Change how fast a rotation goes, also while it runs.',
    security: bearer,
    middleware: [requireScope(options, 'rotate'), limitBody] as const,
    request: {
      params: z.object({ id: z.string() }),
      body: { required: true, content: { 'application/json': { schema: paceRequest } } },
    },
    responses: {
      200: { description: 'changed', content: { 'application/json': { schema: rotation } } },
      ...problems('invalid_argument', 'malformed_json', 'unauthenticated', 'forbidden', 'unknown_rotation'),
      ...problems('rotation_not_open', 'illegal_state', 'body_too_large', 'unsupported_media_type'),
    },
  });

  return routes()
    .openapi(rotate, async (c) => {
      const { projects, reason, fullSpeed, maxRate } = c.req.valid('json');
      const chosen = projects === undefined ? 'all' : await resolveAll(keyring, projects);
      const made = await keyring.rotations.request({
        projects: chosen,
        trigger: 'api',
        ...(reason === undefined ? {} : { reason }),
        ...(fullSpeed === true ? { pace: 'full' } : {}),
        ...(maxRate === undefined ? {} : { maxRate }),
      });
      try {
        onRotationRequested(made.id);
      } catch (error) {
        // It is recorded: a worker finds it without being told.
        onError(error, made.id);
      }
      return c.json(wireRotation(made), 202, { location: `/api/rotations/${made.id}` });
    })
    .openapi(pace, async (c) => {
      const { fullSpeed, maxRate } = c.req.valid('json');
      const changed = await keyring.rotations.setPace(c.req.valid('param').id, {
        ...(fullSpeed === undefined ? {} : { pace: fullSpeed ? 'full' : 'polite' }),
        ...(maxRate === undefined ? {} : { maxRate }),
      });
      return c.json(wireRotation(changed), 200);
    })
    .openapi(list, async (c) => {
      const { limit, before } = c.req.valid('query');
      const found = await keyring.rotations.list({ limit, ...(before === undefined ? {} : { before }) });
      const next = found.length === limit ? (found.at(-1)?.id ?? null) : null;
      return c.json({ rotations: found.map(wireRotation), next }, 200);
    })
    .openapi(one, async (c) => {
      const { id } = c.req.valid('param');
      const found = await keyring.rotations.get(id);
      if (found === undefined) throw new KeyringError('unknown_rotation', 'There is no such rotation.');
      return c.json(wireRotationDetail(found), 200);
    });
}

/** One after the other: a request that names a thousand projects takes one connection, not all of them. */
async function resolveAll(keyring: Keyring, names: readonly string[]): Promise<string[]> {
  const ids = new Set<string>();
  for (const name of new Set(names)) ids.add((await keyring.projects.resolve(name)).id);
  return [...ids];
}
