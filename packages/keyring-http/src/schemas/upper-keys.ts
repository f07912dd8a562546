import { z } from '@hono/zod-openapi';
import { count, next, page, reason, time, uuid } from './common.ts';

/** Where a root key is, as far as that may be told: never a credential, a path or an account. */
const rootKeyReference = z
  .object({
    scheme: z.string().openapi({ description: 'As `file` or `awskms`. Where it is, only the operator sees.' }),
    fingerprint: z.string(),
  })
  .openapi('RootKeyReference');

export const instance = z
  .object({
    id: uuid,
    host: z.string(),
    pid: z.int(),
    actor: z.string(),
    version: z.string(),
    startedAt: time,
    seenAt: time,
    alive: z.boolean(),
    usableRoots: z.array(z.string()).openapi({ description: 'Fingerprints of root keys that it can use.' }),
    wrappingKeys: z.array(uuid).openapi({ description: 'Those that it holds unwrapped.' }),
    troubles: z.array(z.string()).openapi({ description: 'Codes of the errors of root keys that it cannot use.' }),
  })
  .openapi('Instance');
export const instanceList = z.object({ instances: z.array(instance) }).openapi('InstanceList');

export const worker = z
  .object({
    id: uuid,
    host: z.string(),
    pid: z.int(),
    version: z.string(),
    concurrency: z.int(),
    startedAt: time,
    seenAt: time,
    alive: z.boolean(),
    units: z.array(z.object({ rotationId: uuid, projects: count, since: time })),
    driving: z.array(uuid).openapi({ description: 'Rotations that it hands out.' }),
  })
  .openapi('Worker');
export const workerList = z.object({ workers: z.array(worker) }).openapi('WorkerList');

export const rootKey = z
  .object({
    ...rootKeyReference.shape,
    state: z.enum(['enabled', 'disabled', 'compromised', 'destroyed']).nullable(),
    wrappingKeys: count,
    createdAt: time.nullable(),
    usableHere: z.boolean(),
    usableBy: z.array(uuid).openapi({ description: 'Live instances that can use it.' }),
  })
  .openapi('RootKey');
export const rootKeyBackup = z
  .object({
    id: uuid,
    createdAt: time,
    writtenAt: time.nullable().openapi({ description: 'Null: it is not known to have reached its file.' }),
    verifiedAt: time.nullable().openapi({ description: 'When it was last opened again, and proved.' }),
    complete: z.boolean().openapi({ description: 'It holds every wrapping key there is now.' }),
  })
  .openapi('RootKeyBackup');
export const rootKeyList = z
  .object({
    rootKeys: z.array(rootKey),
    backups: z.array(rootKeyBackup).openapi({ description: 'The newest ten of the wrapping keys, newest first.' }),
    lastVerifiedBackupAt: time.nullable().openapi({ description: 'Null: none was ever verified.' }),
  })
  .openapi('RootKeyList');

const upperRotation = {
  id: uuid,
  leaked: z.boolean(),
  requestedBy: z.string(),
  reason: z.string().nullable(),
  requestedAt: time,
  preparedAt: time.nullable(),
  finishedAt: time.nullable(),
  forced: z.array(uuid).openapi({ description: 'Instances that it was forced past.' }),
  errorCode: z.string().nullable(),
};

export const rootRotation = z
  .object({
    ...upperRotation,
    state: z.enum(['requested', 'prepared', 'completed', 'canceled', 'failed']),
    from: rootKeyReference,
    to: rootKeyReference,
  })
  .openapi('RootRotation');
export const rootRotationList = z.object({ rotations: z.array(rootRotation), next }).openapi('RootRotationList');

export const wrappingKey = z
  .object({
    id: uuid,
    version: z.int().positive(),
    state: z.enum(['enabled', 'disabled', 'compromised', 'destroyed']),
    active: z.boolean(),
    keys: count.openapi({ description: 'Data and signing keys under it.' }),
    fingerprint: z.string(),
    rootKeys: z.array(z.string()).openapi({ description: 'Fingerprints of the root keys that it is wrapped by.' }),
    createdAt: time,
    promotedAt: time.nullable(),
    exposedAt: time.nullable(),
    destroyedAt: time.nullable(),
  })
  .openapi('WrappingKey');
export const wrappingKeyList = z.object({ wrappingKeys: z.array(wrappingKey) }).openapi('WrappingKeyList');

export const rotateWrappingKeyRequest = z
  .strictObject({
    reason: reason.optional(),
    leaked: z.boolean().optional().openapi({ description: 'The present one is known to others.' }),
  })
  .openapi('RotateWrappingKeyRequest');

export const wrappingRotation = z
  .object({
    ...upperRotation,
    state: z.enum([
      'requested',
      'prepared',
      'rewrapping',
      'verifying',
      'completed',
      'blocked',
      'rolling_back',
      'rolled_back',
      'canceled',
      'failed',
    ]),
    fromKeyId: uuid,
    fromVersion: z.int().positive(),
    toKeyId: uuid.nullable(),
    toVersion: z.int().positive().nullable(),
    promotedAt: time.nullable(),
    keys: z.object({ total: count.nullable(), moved: count, verified: count }),
    blockedBy: z.array(
      z.object({
        kind: z.enum(['data', 'signing']),
        id: uuid,
        projectId: uuid.nullable(),
        version: z.int().positive(),
        reason: z.enum(['does_not_open', 'key_unavailable', 'held']),
      }),
    ),
  })
  .openapi('WrappingRotation');
export const wrappingRotationList = z
  .object({ rotations: z.array(wrappingRotation), next })
  .openapi('WrappingRotationList');

export const upperRotationsQuery = z.strictObject(page(200, 50));
