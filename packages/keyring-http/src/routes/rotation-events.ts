import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError } from '@meshhook/keyring';
import { recognizeAgain } from '../access/authenticate.ts';
import { permit, requireRotation, sightOf } from '../access/permit.ts';
import { bearer, refusals, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { problem } from '../problems.ts';
import { knowsTheEnd, RotationEvents } from '../rotation-events.ts';
import { idParam, noQuery } from '../schemas/common.ts';

export function rotationEventRoutes(options: ResolvedHandlerOptions) {
  const { keyring } = options;
  const rotationEvents = new RotationEvents(options.events, () => keyring.rotations.probeRead());

  const events = createRoute({
    method: 'get',
    path: '/api/rotations/{id}/events',
    summary: 'How a rotation stands, whenever that changes, as server-sent events: until it is finished.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: {
      params: idParam,
      query: noQuery,
      headers: z.object({
        'last-event-id': z
          .string()
          .regex(/^[\x21-\x7e]{1,100}$/)
          .optional()
          .openapi({ description: 'Of the last event that the caller has.' }),
      }),
    },
    responses: {
      200: {
        description: 'events `state`, `progress` and `finished`, each with a RotationEvent as its data',
        content: { 'text/event-stream': { schema: z.string() } },
      },
      204: { description: 'it is finished, and the caller knows' },
      ...refusals('unknown_rotation', 'too_many_streams'),
    },
  });

  return routes().openapi(events, async (c) => {
    const { id } = c.req.valid('param');
    const known = c.req.valid('header')['last-event-id'];
    await requireRotation(c, 'keys:read', id);
    const { principal, sight } = c.var;
    const rotation = await sight.rotations.standing(id);
    if (rotation === undefined) throw new KeyringError('unknown_rotation', 'There is no such rotation.');
    // Answered so, an EventSource stays away.
    if (knowsTheEnd(rotation, known)) return c.body(null, 204);
    if (c.req.method === 'HEAD') return c.body(null, 200, eventHeaders);
    const stream = rotationEvents.listen(rotation, {
      known,
      person: principal.person,
      sight: { name: principal.sight, standing: sightOf(principal, keyring).rotations.standing },
      may: async () => {
        const who = await recognizeAgain(options, c);
        return who !== undefined && sightOf(who, keyring).rotations.isAmong(id, who.projectsWith('keys:read'));
      },
    });
    if (stream === undefined) {
      return problem('too_many_streams', 'Too many listen already, or too many for one person.', {
        remedy: 'Ask for the rotation now and then.',
      });
    }
    return c.body(stream, 200, eventHeaders);
  });
}

const eventHeaders = {
  'content-type': 'text/event-stream; charset=utf-8',
  // Of proxies: hold nothing back.
  'x-accel-buffering': 'no',
};
