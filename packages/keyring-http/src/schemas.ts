import { z } from '@hono/zod-openapi';

/**
 * The shapes that go over the wire: what requests are checked against, what handlers are typed by, and what OpenAPI is
 * generated from. Times are RFC 3339 in UTC; what is not there is `null`, never left out.
 */

const time = z.iso.datetime().openapi({ example: '2026-11-23T20:30:00.000Z' });
const uuid = z.uuid();
const count = z.int().nonnegative();

// PostgreSQL stores neither NUL nor half a surrogate pair; control characters have no business in a name or a reason.
const printable = (text: string): boolean => text.isWellFormed() && !/\p{Cc}/u.test(text.replaceAll(/[\n\t]/g, ''));
const noControls = { error: 'has control characters in it' };

const maxRate = z
  .int()
  .min(1)
  .max(1_000_000)
  .openapi({ description: 'Rows a second at most, for each process that works on the rotation.' });

export const paceRequest = z
  .strictObject({
    fullSpeed: z.boolean().optional(),
    maxRate: maxRate.nullable().optional().openapi({ description: 'Null lifts it.' }),
  })
  .refine((body) => body.fullSpeed !== undefined || body.maxRate !== undefined, {
    error: 'give fullSpeed, maxRate, or both',
  })
  .openapi('PaceRequest');

export const rotateRequest = z
  .strictObject({
    projects: z
      .array(z.string().min(1).max(400).refine(printable, noControls))
      .min(1)
      .max(1000)
      .optional()
      .openapi({ description: 'Ids or names of projects.' }),
    all: z.literal(true).optional().openapi({ description: 'Every project that has a key.' }),
    reason: z.string().max(1000).refine(printable, noControls).optional(),
    fullSpeed: z.boolean().optional().openapi({ description: 'Without it the rotation is polite.' }),
    maxRate: maxRate.optional(),
  })
  .refine((body) => (body.projects === undefined) !== (body.all === undefined), {
    error: 'give either projects or all',
  })
  .openapi('RotateRequest');

export const rotationsQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(500).default(50),
  before: z.uuid().optional().openapi({ description: 'Rotations older than this one.' }),
});

export const keysQuery = z.strictObject({
  project: z
    .string()
    .min(1)
    .max(400)
    .refine(printable, noControls)
    .optional()
    .openapi({ description: 'An id or a name.' }),
  limit: z.coerce.number().int().min(1).max(1000).default(100).openapi({ description: 'Projects, not versions.' }),
});

const projectState = z.enum([
  'requested',
  'staged',
  'sweeping',
  'verifying',
  'completed',
  'blocked',
  'rolling_back',
  'rolled_back',
  'canceled',
  'failed',
]);

const rotationShape = {
  id: uuid,
  scope: z.enum(['projects', 'all']),
  trigger: z.enum(['manual', 'api', 'usage', 'compromise']),
  state: z.enum([
    'requested',
    'running',
    'paused',
    'blocked',
    'rolling_back',
    'completed',
    'rolled_back',
    'canceled',
    'failed',
  ]),
  requestedBy: z.string(),
  reason: z.string().nullable(),
  requestedAt: time,
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
  durationMs: z.number().nonnegative().nullable(),
  runner: z.string().nullable().openapi({ description: 'The process that drives it now.' }),
  pace: z.enum(['polite', 'full']),
  maxRate: z.int().positive().nullable(),
  projects: z.object({ total: count }).catchall(count).openapi({ description: 'Projects, in all and by state.' }),
  rows: z.object({ total: count, moved: count, verified: count, quarantined: count }),
};

export const rotation = z.object(rotationShape).openapi('Rotation');

export const rotationProject = z
  .object({
    projectId: uuid,
    projectName: z.string(),
    state: projectState,
    direction: z.enum(['forward', 'back']),
    sourceKeyId: uuid.nullable(),
    sourceVersion: count.nullable(),
    targetKeyId: uuid.nullable(),
    targetVersion: count.nullable(),
    rowsTotal: count.nullable(),
    rowsMoved: count,
    rowsVerified: count,
    rowsQuarantined: count,
    errorCode: z.string().nullable(),
    errorDetail: z.string().nullable(),
    stagedAt: time.nullable(),
    promotedAt: time.nullable(),
    sweptAt: time.nullable(),
    verifiedAt: time.nullable(),
    finishedAt: time.nullable(),
  })
  .openapi('RotationProject');

export const quarantinedRow = z
  .object({
    projectId: uuid,
    label: z.string(),
    rowId: z.string(),
    keyId: uuid.nullable(),
    reason: z.enum(['does_not_open', 'malformed', 'unknown_key', 'key_unavailable']),
    noticedAt: time,
  })
  .openapi('QuarantinedRow');

export const rotationDetail = z
  .object({ ...rotationShape, projectDetails: z.array(rotationProject), quarantine: z.array(quarantinedRow) })
  .openapi('RotationDetail');

export const rotationList = z
  .object({
    rotations: z.array(rotation),
    next: uuid.nullable().openapi({ description: 'Give it as `before` for older ones.' }),
  })
  .openapi('RotationList');

export const key = z
  .object({
    id: uuid,
    projectId: uuid,
    projectName: z.string(),
    version: z.int().positive(),
    status: z.enum(['pre-activation', 'active', 'deactivated', 'suspended', 'compromised', 'destroyed']),
    active: z.boolean(),
    rows: count,
    fingerprint: z.string(),
    createdAt: time,
    activatedAt: time.nullable(),
    deactivatedAt: time.nullable(),
    retentionUntil: time.nullable(),
    destroyedAt: time.nullable(),
    nextDueAt: time.nullable(),
  })
  .openapi('Key');

export const keyList = z
  .object({
    keys: z.array(key),
    truncated: z.boolean().openapi({ description: 'There are more projects than `limit`.' }),
  })
  .openapi('KeyList');

export const health = z.object({ status: z.literal('ok'), version: z.string().optional() }).openapi('Health');
export const readiness = z.object({ status: z.literal('ready') }).openapi('Readiness');

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string(),
    remedy: z.string().optional(),
    details: z.record(z.string(), z.unknown()).optional(),
    fields: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
    id: z.string().optional(),
  })
  .openapi('Problem');
