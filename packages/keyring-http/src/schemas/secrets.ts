import { z } from '@hono/zod-openapi';
import { next, page, time, uuid } from './common.ts';

export const secretsQuery = z.strictObject(page(1000, 100));

export const secretEntry = z
  .object({
    id: uuid,
    name: z.string(),
    keyId: uuid.nullable().openapi({ description: 'Null: plaintext from before, not adopted yet.' }),
    version: z.int().positive().nullable(),
    stale: z.boolean().openapi({ description: 'Not under the primary version: readable, and waiting for a sweep.' }),
    createdAt: time,
    updatedAt: time,
    writtenAt: time.nullable(),
  })
  .openapi('Secret');

export const secretList = z.object({ secrets: z.array(secretEntry), next }).openapi('SecretList');

export const secretParam = z.object({ id: z.string(), name: z.string() });

const encoding = z.enum(['utf8', 'base64']);

export const putSecretRequest = z
  .strictObject({
    value: z.string().min(1).max(90_000).openapi({ description: '1 to 65,536 bytes.' }),
    encoding: encoding.optional().openapi({ description: 'What `value` is: text (the default), or bytes in base64.' }),
  })
  .openapi('PutSecretRequest');

export const putSecret = z
  .object({ id: uuid, name: z.string(), created: z.boolean(), keyId: uuid })
  .openapi('PutSecret');

export const revealedSecret = z
  .object({
    id: uuid,
    name: z.string(),
    value: z.string(),
    encoding: encoding.openapi({ description: '`base64` when the bytes are no UTF-8.' }),
    stale: z.boolean(),
    keyId: uuid,
    writtenAt: time.nullable(),
  })
  .openapi('RevealedSecret');
