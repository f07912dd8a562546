import { z } from '@hono/zod-openapi';
import { count, next, orNull, page, projectReference, text, time, uuid, withReason } from './common.ts';
import { rotation } from './rotations.ts';

const keyStatuses = ['pre-activation', 'active', 'deactivated', 'suspended', 'compromised', 'destroyed'] as const;

export const destroyRequest = withReason
  .extend({
    early: z.boolean().optional().openapi({ description: 'Also before its retention window is over.' }),
  })
  .openapi('DestroyRequest');

export const keysQuery = z.strictObject({
  ...page(500, 100),
  project: projectReference.optional(),
  search: text(1, 200).optional().openapi({ description: 'In names of projects, whatever its case.' }),
  status: z.enum(keyStatuses).optional(),
  due: z
    .enum(['true', 'false'])
    .optional()
    .openapi({ description: 'Of primary versions: does the policy want it rotated?' }),
});

export const key = z
  .object({
    id: uuid,
    projectId: uuid,
    projectName: z.string(),
    version: z.int().positive(),
    status: z.enum(keyStatuses).openapi({ description: 'NIST SP 800-57.' }),
    active: z.boolean().openapi({ description: 'Is it the primary: the one that encrypts?' }),
    rows: count.openapi({ description: 'Rows that name it.' }),
    fingerprint: z.string(),
    encryptions: count,
    lastUsedAt: time.nullable().openapi({ description: 'To encrypt or open a value for somebody, to the hour.' }),
    createdAt: time,
    activatedAt: time.nullable(),
    deactivatedAt: time.nullable(),
    retentionUntil: time.nullable().openapi({ description: 'It can be destroyed after that.' }),
    destroyedAt: time.nullable(),
    nextDueAt: time.nullable().openapi({ description: 'Of the primary: when its policy wants it rotated.' }),
  })
  .openapi('Key');

export const keyList = z.object({ keys: z.array(key), next }).openapi('KeyList');

export const compromise = z
  .object({
    key,
    rotation: orNull(rotation).openapi({ description: 'The emergency rotation. Null: nothing is under the version.' }),
    overtaken: z.array(uuid).openapi({ description: 'Rotations that were overtaken.' }),
  })
  .openapi('Compromise');

export const exposureQuery = z.strictObject({ format: z.enum(['json', 'csv']).default('json') });

export const exposure = z
  .object({
    key,
    secrets: z
      .array(
        z.object({
          label: z.string(),
          rowId: z.string(),
          name: z.string().nullable(),
          writtenAt: time.nullable().openapi({ description: 'Null: not known, hence counted in.' }),
          replacedAt: time.nullable().openapi({ description: 'Null: it is the present value, or not known.' }),
        }),
      )
      .openapi({ description: 'Values that were ever under the version: change them at their source.' }),
    archivedUntil: time.nullable().openapi({
      description:
        'Values that were replaced or deleted before this moment may be missing: that part of the trail is archived. Null: none is.',
    }),
  })
  .openapi('Exposure');
