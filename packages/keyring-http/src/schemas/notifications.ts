import { z } from '@hono/zod-openapi';
import { count, next, page, text, time, uuid } from './common.ts';

const event = z.enum([
  'rotation.completed',
  'rotation.failed',
  'rotation.blocked',
  'rotation.overdue',
  'key.compromised',
  'approval.wanted',
]);

export const notificationEndpoint = z
  .object({ url: z.string(), events: z.array(event), changedAt: time, changedBy: z.string() })
  .openapi('NotificationEndpoint');

export const notificationSettings = z
  .object({ endpoint: notificationEndpoint.nullable() })
  .openapi('NotificationSettings', { description: 'Null: nobody is told anything.' });

export const notificationRequest = z
  .strictObject({
    url: text(1, 2000),
    events: z.array(event).min(1).max(20).optional(),
    newSecret: z.boolean().optional(),
  })
  .openapi('NotificationRequest');

export const notificationSet = z
  .object({
    endpoint: notificationEndpoint,
    secret: z
      .string()
      .nullable()
      .openapi({ description: 'Only when it was made for this request: it is not shown again.' }),
  })
  .openapi('NotificationSet');

export const notification = z
  .object({
    id: uuid,
    event: z.union([event, z.literal('test')]),
    createdAt: time,
    state: z.enum(['pending', 'delivered', 'failed']),
    attempts: count,
    lastAttemptAt: time.nullable(),
    lastStatus: z.int().nullable(),
    lastError: z.string().nullable(),
  })
  .openapi('Notification');

export const notificationLog = z.object({ notifications: z.array(notification), next }).openapi('NotificationLog');
export const logQuery = z.strictObject(page(500, 100));
