import { z } from '@hono/zod-openapi';
import { count, next, page, projectReference, reason, storedName, text, time, uuid } from './common.ts';

const ms = z.int().nonnegative();
const weekday = z.enum(['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']);
const clock = z.string().regex(/^([01]\d|2[0-4]):[0-5]\d$/);
const window = z.strictObject({ days: z.array(weekday).min(1).max(7), from: clock, to: clock });

export const quietHours = z
  .union([
    z.strictObject({ zone: text(1, 64), windows: z.array(window).min(1).max(50) }),
    z.strictObject({ zone: text(1, 64), cron: text(1, 100), openForMinutes: z.int().min(5).max(10_080) }),
  ])
  .openapi('QuietHours', {
    description: 'When rotations may begin: by days and times, or from each time of a cron expression.',
  });

export const policy = z
  .object({
    projectId: uuid.nullable().openapi({ description: 'Null: the default of every project without one of its own.' }),
    projectName: z.string().nullable(),
    revision: count.openapi({
      description: 'Give it with a change. 0: the project has none of its own; this is the default.',
    }),
    enabled: z.boolean(),
    reason: z.string().nullable(),
    rotateAfterMs: ms,
    maxEncryptions: z.number().int().positive(),
    jitterMs: ms.openapi({
      description: 'Rotations for age begin up to so much earlier, each project at its own place.',
    }),
    quietHours: quietHours.nullable(),
    retentionMs: ms,
    destroyAfterRetention: z.boolean(),
    changedAt: time,
    changedBy: z.string().nullable(),
    inWords: z.string(),
  })
  .openapi('Policy');

export const policyDates = z
  .object({
    policy,
    dates: z.array(time),
    of: z.enum(['project', 'first project', 'new version']),
    promisedAt: time.openapi({
      description: 'When the age of the policy is reached: quiet hours permitting, no date is later.',
    }),
  })
  .openapi('PolicyDates');

export const policiesQuery = z.strictObject(page(500, 100));
/** Without a project: the default. */
export const policyPosition = z.strictObject({ projectId: uuid, projectName: storedName }).nullable();
export const policyList = z.object({ policies: z.array(policy), next }).openapi('PolicyList');

const terms = {
  enabled: z.boolean().optional(),
  rotateAfterMs: ms.optional(),
  maxEncryptions: z.number().int().positive().optional(),
  jitterMs: ms.nullable().optional().openapi({ description: 'Null: a tenth of the age, 7 days at most.' }),
  quietHours: quietHours.nullable().optional(),
  retentionMs: ms.optional(),
  destroyAfterRetention: z.boolean().optional(),
  reason: reason.min(1).optional(),
};

export const policyChange = z.strictObject({ revision: count, ...terms }).openapi('PolicyChange', {
  description: 'What is left out stays as it is. Refused when the policy is no longer of this revision.',
});

export const policyPreview = z
  .strictObject({ project: projectReference.optional(), count: z.int().min(1).max(50).optional(), ...terms })
  .openapi('PolicyPreview');

export const revisionQuery = z.strictObject({ revision: z.coerce.number().int().nonnegative() });

export const overdueQuery = z.strictObject(page(1000, 100));
export const overduePosition = z.strictObject({ promisedAt: time, projectId: uuid });

export const overdueList = z
  .object({
    total: count.openapi({ description: 'On all pages together.' }),
    projects: z.array(
      z
        .object({
          projectId: uuid,
          projectName: z.string(),
          keyId: uuid,
          promisedAt: time.nullable().openapi({ description: 'Null: it is overdue by use.' }),
          cause: z.enum(['running', 'blocked', 'paused', 'failed', 'given_up', 'waiting', 'not_requested']),
          rotationId: uuid.nullable(),
          retryAt: time.nullable(),
          errorCode: z.string().nullable(),
        })
        .openapi('OverdueVersion'),
    ),
    next,
  })
  .openapi('OverdueList');
