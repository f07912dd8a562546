import { z } from '@hono/zod-openapi';
import { rotationProjectStates, rotationStates } from '@meshhook/keyring';
import { count, next, page, projectReference, reason, time, uuid } from './common.ts';
import { quarantinedRow } from './quarantine.ts';

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
  .openapi('PaceRequest', { anyOf: [{ required: ['fullSpeed'] }, { required: ['maxRate'] }] });

export const rotateRequest = z
  .strictObject({
    projects: z.array(projectReference).min(1).max(1000).optional(),
    all: z.literal(true).optional().openapi({ description: 'Every project that has a key.' }),
    match: z
      .union([z.strictObject({ due: z.literal(true) }), z.strictObject({ madeBefore: time })])
      .optional()
      .openapi({ description: 'What its policy wants rotated; or whose primary version was made before a moment.' }),
    reason: reason.optional(),
    emergency: z.boolean().optional().openapi({
      description:
        'The primary version of the one project leaked: it is marked compromised and left at once. Wants a reason.',
    }),
    fullSpeed: z.boolean().optional().openapi({ description: 'Without it the rotation is polite.' }),
    maxRate: maxRate.optional(),
    dryRun: z.boolean().optional().openapi({ description: 'Opens every row that would move, and changes nothing.' }),
  })
  .refine((body) => [body.projects, body.all, body.match].filter((given) => given !== undefined).length === 1, {
    error: 'give one of projects, all and match',
  })
  .refine((body) => body.emergency !== true || (body.projects?.length === 1 && body.dryRun !== true), {
    error: 'an emergency is of one project, and no dry run',
    path: ['emergency'],
  })
  .refine((body) => body.emergency !== true || (body.reason ?? '').trim() !== '', {
    error: 'an emergency wants a reason',
    path: ['reason'],
  })
  .openapi('RotateRequest', {
    oneOf: [{ required: ['projects'] }, { required: ['all'] }, { required: ['match'] }],
  });

export const idempotencyKey = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[\x20-\x7e]+$/)
  .optional()
  .openapi({ description: 'Yours, random. The same request sent again with it asks for nothing twice, for 24 hours.' });

export const rotationsQuery = z.strictObject({
  ...page(200, 50),
  state: z.enum(rotationStates).optional(),
  project: projectReference.optional(),
});

const projectState = z.enum(rotationProjectStates);

export const rotationFacts = {
  id: uuid,
  scope: z.enum(['projects', 'all']),
  trigger: z.enum(['manual', 'api', 'usage', 'schedule', 'compromise']),
  state: z.enum(rotationStates),
  requestedBy: z.string(),
  reason: z.string().nullable(),
  requestedAt: time,
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
  durationMs: z.number().nonnegative().nullable(),
};

const rotationShape = {
  ...rotationFacts,
  plannedFor: time.nullable().openapi({
    description: 'Of one that a policy asked for: when the first of its projects might have begun.',
  }),
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

export const rotationDetail = z
  .object({
    ...rotationShape,
    projectDetails: z.array(rotationProject).openapi({ description: 'Up to 1,000, the unfinished first.' }),
    quarantine: z.array(quarantinedRow),
  })
  .openapi('RotationDetail');

export const rotationProjectsQuery = z.strictObject({ ...page(500, 100), state: projectState.optional() });
export const rotationProjectList = z
  .object({ projects: z.array(rotationProject), next })
  .openapi('RotationProjectList');

export const rotationList = z.object({ rotations: z.array(rotation), next }).openapi('RotationList');

/** What a dry run found. */
export const rotationPlan = z
  .object({
    projects: count,
    rows: count.openapi({ description: 'Rows that would move, those that do not open too.' }),
    unreadableRows: count,
    unreadable: z.array(quarantinedRow).openapi({ description: 'Of the rows that do not open, up to 1,000.' }),
    estimate: z
      .object({ seconds: z.number().nonnegative(), rowsPerSecond: z.number().nonnegative(), sampled: count })
      .nullable()
      .openapi({ description: 'At full speed, by what was measured here and now. Null: there was nothing to time.' }),
  })
  .openapi('RotationPlan');

export const receipt = z
  .object({
    projectId: uuid,
    payload: z.string().openapi({ description: 'The signed text: JSON, exactly these characters in UTF-8.' }),
    signature: z.string().openapi({ description: 'Ed25519 (RFC 8032), base64.' }),
    publicKey: z.string().openapi({ description: '32 bytes, base64. Compare it with one that you kept from before.' }),
    keyId: uuid,
  })
  .openapi('Receipt');

export const receiptsQuery = z.strictObject(page(500, 100));
export const receiptList = z.object({ receipts: z.array(receipt), next }).openapi('ReceiptList');

/** The data of an event: everything, whatever changed. */
export const rotationEvent = z
  .object({
    rotation,
    remaining: count.openapi({ description: 'Rows that are to be moved yet.' }),
    rate: z.number().nonnegative().nullable().openapi({ description: 'Rows moved a second, of late.' }),
    secondsLeft: z.number().nonnegative().nullable().openapi({ description: 'At that rate, until all are moved.' }),
    reads: z.object({ medianMs: z.number().nonnegative(), slowestMs: z.number().nonnegative() }).nullable().openapi({
      description: 'How long a few ordinary reads of secrets took just now, from this server. Null: it cannot be told.',
    }),
  })
  .openapi('RotationEvent');
