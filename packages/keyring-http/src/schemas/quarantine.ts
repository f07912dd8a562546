import { z } from '@hono/zod-openapi';
import { count, next, page, projectReference, text, time, uuid, withReason } from './common.ts';

const quarantineReasons = ['does_not_open', 'malformed', 'unknown_key', 'key_unavailable'] as const;

export const quarantinedRow = z
  .object({
    projectId: uuid,
    label: z.string(),
    rowId: z.string(),
    keyId: uuid.nullable(),
    reason: z.enum(quarantineReasons),
    noticedAt: time,
  })
  .openapi('QuarantinedRow');

export const quarantineEntry = z
  .object({
    id: z.string(),
    ...quarantinedRow.shape,
    projectName: z.string(),
    rotationId: uuid.openapi({ description: 'The rotation that met it last.' }),
    name: z.string().nullable().openapi({ description: "The secret's name. Null for rows of other tables." }),
  })
  .openapi('QuarantineEntry');

export const quarantineList = z.object({ quarantine: z.array(quarantineEntry), next }).openapi('QuarantineList');

const scope = { project: projectReference.optional(), rotation: uuid.optional() };

export const quarantineQuery = z.strictObject({ ...page(1000, 100), ...scope });

/** All of it, or that of a project or a rotation. */
export const retryRequest = z.strictObject(scope).openapi('QuarantineRetryRequest');

export const retried = z
  .object({
    tried: count,
    opened: count.openapi({ description: 'Rows that open now: they have left quarantine.' }),
    gone: count,
    unreadableRows: count,
    unreadable: z.array(quarantineEntry),
    resumed: z.array(uuid).openapi({ description: 'Blocked rotations that go on.' }),
  })
  .openapi('QuarantineRetried');

export const discardRequest = z
  .strictObject({
    projectId: uuid,
    label: text(1, 200).openapi({ description: 'Of the column, as `secrets.value`.' }),
    rowId: text(1, 200),
    ...withReason.shape,
  })
  .openapi('QuarantineDiscardRequest');

export const discarded = z
  .object({
    projectId: uuid,
    label: z.string(),
    rowId: z.string(),
    name: z.string().nullable(),
    keyId: uuid,
    reason: z.enum(quarantineReasons),
    rotationId: uuid,
  })
  .openapi('QuarantineDiscarded');
