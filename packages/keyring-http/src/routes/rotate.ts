import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError, type NamedRequest, type Rotation, type RotationRequest } from '@meshhook/keyring';
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { permit, requireProject, requireRotation } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, routes, type ApiEnv } from '../api.ts';
import { readBody } from '../body.ts';
import { canonical } from '../canonical.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { problem } from '../problems.ts';
import { noQuery } from '../schemas/common.ts';
import { idempotencyKey, rotateRequest, rotation, rotationPlan } from '../schemas/rotations.ts';
import { Seats } from '../seats.ts';
import { wake } from '../wake.ts';
import { wirePlan, wireRotation } from '../wire/rotations.ts';

type Asked = z.infer<typeof rotateRequest>;

/** Opening every row of a fleet takes longer than anybody waits for an answer. */
const DRY_RUN_MS = 60_000;
/** Each takes connections and a core for as long as it runs. */
const DRY_RUNS = { most: 4, mostEach: 1 };

export function rotateRoutes(options: ResolvedHandlerOptions) {
  const dryRuns = new Seats(DRY_RUNS);
  const rotate = createRoute({
    method: 'post',
    path: '/api/keys/rotate',
    summary: 'Ask for a rotation of some projects, or of all. It is accepted, not done: follow Location.',
    security: bearer,
    middleware: [permit(options, 'keys:rotate', { anyProject: true }), ...readBody(options)] as const,
    request: {
      query: noQuery,
      headers: z.object({ 'idempotency-key': idempotencyKey }),
      body: jsonBody(rotateRequest),
    },
    responses: {
      200: answers('of a dry run: what a rotation would do', rotationPlan),
      202: { ...answers('accepted', rotation), headers: z.object({ Location: z.string() }) },
      ...bodyRefusals(
        'unknown_project',
        'ambiguous_project',
        'rotation_in_progress',
        'nothing_to_rotate',
        'unregistered_column',
        'idempotency_conflict',
        'interrupted',
      ),
    },
  });

  return routes().openapi(rotate, async (c) => {
    const asked = c.req.valid('json');
    const { keyring } = c.var;
    if (asked.dryRun === true) {
      const leave = dryRuns.take(c.var.principal.person);
      if (leave === undefined) throw new HTTPException(429, { res: tooManyDryRuns() });
      try {
        const signal = AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(DRY_RUN_MS)]);
        return c.json(wirePlan(await keyring.rotations.preview(await requestOf(c, asked), { signal })), 200);
      } finally {
        leave();
      }
    }
    const made = await makeOnce(c, asked, c.req.valid('header')['idempotency-key']);
    wake(options, made.id);
    return c.json(wireRotation(made), 202, { location: `/api/rotations/${made.id}` });
  });
}

function tooManyDryRuns(): Response {
  return problem(
    'rate_limited',
    'A dry run of yours is under way, or several of others are.',
    { remedy: 'Wait until it is done.' },
    { 'retry-after': '5' },
  );
}

async function makeOnce(c: Context<ApiEnv>, asked: Asked, key: string | undefined): Promise<Rotation> {
  const { rotations } = c.var.keyring;
  const idempotency = key === undefined ? undefined : { key, request: canonical(asked) };
  // Before anything is looked up: what it named may be gone by now, or no longer due.
  const before = idempotency && (await rotations.madeBy(idempotency));
  if (before !== undefined) {
    await requireRotation(c, 'keys:rotate', before.id);
    return before;
  }
  if (asked.emergency === true) return makeEmergency(c, asked, idempotency);
  return rotations.request({ ...(await requestOf(c, asked)), ...(idempotency === undefined ? {} : { idempotency }) });
}

async function requestOf(c: Context<ApiEnv>, asked: Asked): Promise<RotationRequest> {
  const { reason, fullSpeed, maxRate } = asked;
  return {
    ...(await chosen(c, asked)),
    trigger: 'api',
    ...(reason === undefined ? {} : { reason }),
    ...(fullSpeed === true ? { pace: 'full' } : {}),
    ...(maxRate === undefined ? {} : { maxRate }),
  };
}

/** The primary version of the project is what leaked. */
async function makeEmergency(
  c: Context<ApiEnv>,
  { projects: [name = ''] = [], reason = '' }: Asked,
  idempotency: NamedRequest | undefined,
): Promise<Rotation> {
  const { keyring } = c.var;
  const project = await requireProject(c, 'keys:compromise', name);
  const [primary] = await keyring.keys.page({ projectId: project.id, status: 'active', limit: 1 });
  if (primary === undefined) {
    throw new KeyringError('nothing_to_rotate', `The project "${project.name}" has no key yet.`);
  }
  const { rotation: made } = await keyring.rotations.compromise(primary.id, {
    reason,
    ...(idempotency === undefined ? {} : { idempotency }),
  });
  if (made === undefined) {
    throw new KeyringError('conflict', 'The project got another primary version meanwhile.', {
      remedy: 'Look at its keys, and mark the one that leaked.',
    });
  }
  return made;
}

/** What is meant, of that where the principal may rotate. */
async function chosen(
  c: Context<ApiEnv>,
  { projects, match }: Asked,
): Promise<Pick<RotationRequest, 'projects' | 'among'>> {
  if (projects !== undefined) {
    const ids = new Set<string>();
    // One after the other: a request that names a thousand projects takes one connection, not all of them.
    for (const name of new Set(projects)) ids.add((await requireProject(c, 'keys:rotate', name)).id);
    return { projects: [...ids] };
  }
  const { projects: among } = c.var.principal;
  if (match === undefined) return { projects: 'all', among };
  return { projects: 'due' in match ? match : { madeBefore: new Date(match.madeBefore) }, among };
}
