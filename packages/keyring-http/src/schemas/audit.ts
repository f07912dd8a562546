import { z } from '@hono/zod-openapi';
import { count, next, orNull, page, projectReference, text, time, uuid } from './common.ts';

const moment = z.iso.datetime({ offset: true });
const kinds = ['user', 'token', 'session', 'cli', 'service', 'worker', 'system'] as const;
const outcomes = ['succeeded', 'failed', 'refused'] as const;

export const auditFilter = {
  project: projectReference.optional(),
  actor: text(1, 200).optional(),
  kind: z.enum(kinds).optional(),
  action: z
    .string()
    .regex(/^[a-z_]{1,50}\.([a-z_]{1,50}|\*)$/)
    .optional()
    .openapi({ description: '`key.destroyed`, or `key.*` for all of a kind.' }),
  outcome: z.enum(outcomes).optional(),
  since: moment.optional(),
  until: moment.optional().openapi({ description: 'Exclusive.' }),
};

export const auditQuery = z.strictObject({ ...page(1000, 100), ...auditFilter });
export const auditExportQuery = z.strictObject(auditFilter);

export const auditEntry = z
  .object({
    id: z.string(),
    at: time,
    actor: z.string(),
    kind: z.enum(kinds).nullable(),
    address: z.string().nullable(),
    action: z.string(),
    outcome: z.enum(outcomes),
    projectId: uuid.nullable(),
    subject: z.string(),
    reason: z.string().nullable(),
    details: z.record(z.string(), z.unknown()),
  })
  .openapi('AuditEntry');

export const auditList = z.object({ entries: z.array(auditEntry), next }).openapi('AuditList');

export const auditCheckpoint = z
  .object({
    size: count.openapi({ description: 'Entries that have their place.' }),
    hash: z.string().openapi({ description: "Of the chain's head, base64." }),
    floor: z.string(),
    signedAt: time,
    note: z.string().openapi({ description: 'The signed note: keep it elsewhere.' }),
  })
  .openapi('AuditCheckpoint');

const given = z.enum(['matches', 'archived']).nullable();

const auditProblem = z
  .object({
    kind: z.enum(['altered', 'removed', 'inserted', 'reordered', 'truncated', 'rewritten', 'forked', 'checkpoint']),
    place: count.nullable(),
    after: count.nullable(),
    entryId: z.string().nullable(),
    message: z.string(),
  })
  .openapi('AuditProblem');

const auditLook = z
  .object({
    at: time,
    by: z.string(),
    after: count.openapi({ description: 'The place before the first that was looked at: what is before was not.' }),
    through: count.openapi({ description: 'The last place that was.' }),
    given: given.openapi({
      description: 'What became of the checkpoint that is kept outside. Null: none was at hand.',
    }),
    problem: orNull(auditProblem).openapi({
      description: 'It stands until a verification of the whole trail finds nothing.',
    }),
  })
  .openapi('AuditLook');

export const auditVerified = z
  .object({
    whole: orNull(auditLook).openapi({
      description: 'The last verification of the whole trail. Null: there was none.',
    }),
    recent: orNull(auditLook).openapi({ description: 'The last of what was new since.' }),
    underWay: z
      .object({ begunAt: time, through: count })
      .nullable()
      .openapi({ description: 'Of the whole trail, by a worker: up to which place it is.' }),
  })
  .openapi('AuditVerified');

export const lastCheckpoint = z
  .object({
    checkpoint: auditCheckpoint.nullable(),
    unsealed: z.object({ entries: count, oldestAt: time.nullable() }).openapi({ description: 'Without a place yet.' }),
    verified: auditVerified,
  })
  .openapi('LastAuditCheckpoint');

export const verifyRequest = z
  .strictObject({
    checkpoint: z.string().min(1).max(2000).optional().openapi({ description: 'One that was kept elsewhere.' }),
  })
  .openapi('AuditVerifyRequest');

export const verification = z
  .object({
    intact: z.boolean(),
    problem: orNull(auditProblem),
    entries: count,
    archived: count,
    checkpoints: count,
    checkpoint: auditCheckpoint.nullable(),
    given,
    unsealed: z.object({ entries: count, oldestAt: time.nullable() }),
  })
  .openapi('AuditVerification');
