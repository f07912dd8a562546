import type { z } from '@hono/zod-openapi';
import type { Notification, NotificationEndpoint } from '@meshhook/keyring';
import type * as schemas from '../schemas/notifications.ts';
import { time, timeOrNull } from './common.ts';

export function wireEndpoint(endpoint: NotificationEndpoint): z.infer<typeof schemas.notificationEndpoint> {
  const { url, events, changedAt, changedBy } = endpoint;
  return { url, events: [...events], changedAt: time(changedAt), changedBy };
}

export function wireNotification(one: Notification): z.infer<typeof schemas.notification> {
  return {
    id: one.id,
    event: one.event,
    createdAt: time(one.createdAt),
    state: one.state,
    attempts: one.attempts,
    lastAttemptAt: timeOrNull(one.lastAttemptAt),
    lastStatus: one.lastStatus ?? null,
    lastError: one.lastError ?? null,
  };
}
