import { createRoute } from '@hono/zod-openapi';
import { permit, requireRotation } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, routes } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { idParam, noQuery } from '../schemas/common.ts';
import { paceRequest, rotation } from '../schemas/rotations.ts';
import { wake } from '../wake.ts';
import { wireRotation } from '../wire/rotations.ts';

/** What is done to a rotation that is open. */
export function rotationActRoutes(options: ResolvedHandlerOptions) {
  const act = <Act extends string>(verb: Act, summary: string) =>
    createRoute({
      method: 'post',
      path: `/api/rotations/{id}/${verb}`,
      summary,
      security: bearer,
      middleware: [permit(options, 'keys:rotate', { anyProject: true }), ...readNoBody(options)] as const,
      request: { params: idParam, query: noQuery },
      responses: {
        200: answers('done', rotation),
        ...bodyRefusals('unknown_rotation', 'rotation_not_open', 'illegal_state'),
      },
    });

  const pause = act('pause', 'Stop after the batch that is under way, until it is resumed.');
  const resume = act('resume', 'Go on with a rotation that is paused or blocked: blocked projects are tried again.');
  const cancel = act('cancel', 'Take those projects out that have not moved yet.');
  const rollback = act('rollback', 'Turn every project back that is not finalized.');

  const pace = createRoute({
    method: 'post',
    path: '/api/rotations/{id}/pace',
    summary: 'Change how fast a rotation goes, also while it runs.',
    security: bearer,
    middleware: [permit(options, 'keys:rotate', { anyProject: true }), ...readBody(options)] as const,
    request: { params: idParam, query: noQuery, body: jsonBody(paceRequest) },
    responses: {
      200: answers('changed', rotation),
      ...bodyRefusals('unknown_rotation', 'rotation_not_open', 'illegal_state'),
    },
  });

  return routes()
    .openapi(pause, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:rotate', id);
      return c.json(wireRotation(await c.var.keyring.rotations.pause(id)), 200);
    })
    .openapi(resume, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:rotate', id);
      const resumed = await c.var.keyring.rotations.resume(id);
      wake(options, resumed.id);
      return c.json(wireRotation(resumed), 200);
    })
    .openapi(cancel, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:rotate', id);
      return c.json(wireRotation(await c.var.keyring.rotations.cancel(id)), 200);
    })
    .openapi(rollback, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:rotate', id);
      const turned = await c.var.keyring.rotations.rollback(id);
      wake(options, turned.id);
      return c.json(wireRotation(turned), 200);
    })
    .openapi(pace, async (c) => {
      const { fullSpeed, maxRate } = c.req.valid('json');
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:rotate', id);
      const changed = await c.var.keyring.rotations.setPace(id, {
        ...(fullSpeed === undefined ? {} : { pace: fullSpeed ? 'full' : 'polite' }),
        ...(maxRate === undefined ? {} : { maxRate }),
      });
      return c.json(wireRotation(changed), 200);
    });
}
