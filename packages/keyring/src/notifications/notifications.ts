import { randomBytes } from 'node:crypto';
import type { Projects, Secrets } from '../api.ts';
import type { NotificationEndpoint, NotificationEvent, Notifications } from '../api-notifications.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireUuid } from '../validate.ts';
import {
  deleteEndpoint,
  deleteOldest,
  insertTest,
  markQueued,
  selectBody,
  selectEndpoint,
  selectNotifications,
  selectUnqueued,
  updateAttempt,
  upsertEndpoint,
  type StoredEndpoint,
} from './store.ts';

const allEvents: readonly NotificationEvent[] = [
  'rotation.completed',
  'rotation.failed',
  'rotation.blocked',
  'rotation.overdue',
  'key.compromised',
  'approval.wanted',
];
const KEPT = 1_000;
// Nobody delivers them, or far too slowly: a table of some tens of megabytes.
const KEPT_PENDING = 10_000;
const SECRET = 'NOTIFICATIONS_SIGNING_SECRET';

export interface NotificationContext {
  readonly database: Database;
  readonly audit: AuditTrail;
  readonly projects: Pick<Projects, 'create'>;
  readonly secrets: Pick<Secrets, 'put' | 'get'>;
}

export function notifications({ database, audit, projects, secrets }: NotificationContext): Notifications {
  return {
    show: async () => toEndpoint(await selectEndpoint(database)),

    async set({ url: given, events = allEvents, secret, newSecret = false }) {
      const url = requireUrl(given);
      requireEvents(events);
      if (secret !== undefined) requireSecret(secret);
      const before = await selectEndpoint(database);
      // A project of the keyring's own: its rotations re-encrypt the secret as they do any other.
      const projectId = before?.secretProjectId ?? (await projects.create({ name: 'MeshHook Keyring' })).id;
      const known = (await secrets.get(projectId, SECRET)) !== undefined;
      const made =
        secret === undefined && (newSecret || !known) ? `whsec_${randomBytes(32).toString('base64')}` : undefined;
      const next = secret ?? made;
      if (next !== undefined) await secrets.put(projectId, SECRET, next);
      await transaction(database, async (tx) => {
        await upsertEndpoint(tx, { url, events, secretProjectId: projectId, by: audit.actor.name });
        await audit.record(tx, {
          action: 'notifications.changed',
          subject: 'notifications:endpoint',
          // The path of a URL may be a credential.
          details: { host: new URL(url).host, events, secretChanged: next !== undefined },
        });
      });
      return { endpoint: requireEndpoint(toEndpoint(await selectEndpoint(database))), secret: made };
    },

    async unset() {
      await transaction(database, async (tx) => {
        if (!(await deleteEndpoint(tx))) throw noEndpoint();
        await audit.record(tx, { action: 'notifications.removed', subject: 'notifications:endpoint' });
      });
    },

    async test() {
      requireEndpoint(await selectEndpoint(database));
      return insertTest(database);
    },

    async log({ limit = 100, before } = {}) {
      if (before !== undefined) requireUuid('notification id', before);
      return selectNotifications(database, { limit: Math.min(Math.max(limit, 1), KEPT), before });
    },
    unqueued: () => selectUnqueued(database),
    queued: (ids) => markQueued(database, ids),

    async message(id) {
      const [endpoint, body] = [await selectEndpoint(database), await selectBody(database, id)];
      if (endpoint === undefined || body === undefined) return undefined;
      const { secretProjectId } = endpoint;
      const secret = secretProjectId === undefined ? undefined : await secrets.get(secretProjectId, SECRET);
      if (secret === undefined) {
        throw new KeyringError('unknown_secret', 'The secret that signs notifications is gone.', {
          remedy: 'Set the endpoint anew: `mh-keys notifications set URL`.',
        });
      }
      return { id, url: endpoint.url, secret: secret.value, body };
    },

    attempted: (id, attempt) => updateAttempt(database, id, attempt),
    prune: () => deleteOldest(database, { over: KEPT, pending: KEPT_PENDING }),
  };
}

function requireUrl(given: string): string {
  const url = given.length <= 2_000 ? URL.parse(given) : null;
  const remedy = 'Write it as https://example.com/hooks/keyring.';
  if (url === null || !/^https?:$/.test(url.protocol) || url.hash !== '') {
    throw new KeyringError('invalid_argument', 'This is not the URL of an endpoint.', { remedy });
  }
  if (url.username !== '' || url.password !== '') {
    throw new KeyringError('invalid_argument', "The endpoint's URL holds a user name or a password.", { remedy });
  }
  return url.href;
}

function requireEvents(events: readonly string[]): void {
  const unknown = events.find((event) => !allEvents.some((known) => known === event));
  if (events.length > 0 && unknown === undefined) return;
  throw new KeyringError('invalid_argument', 'Notifications are of known events, one at least.', {
    remedy: `They are ${allEvents.join(', ')}.`,
  });
}

function requireSecret(secret: string): void {
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret)?.[1] ?? '';
  const { length } = Buffer.from(encoded, 'base64');
  if (length >= 24 && length <= 64) return;
  throw new KeyringError('invalid_argument', 'The secret is not one of the Standard Webhooks scheme.', {
    remedy: 'It is `whsec_` and base64 of 24 to 64 random bytes; without one, one is made.',
  });
}

function toEndpoint(stored: StoredEndpoint | undefined): NotificationEndpoint | undefined {
  if (stored === undefined) return undefined;
  const { url, events, changedAt, changedBy } = stored;
  return { url, events, changedAt, changedBy };
}

function requireEndpoint<T>(endpoint: T | undefined): T {
  if (endpoint === undefined) throw noEndpoint();
  return endpoint;
}

function noEndpoint(): KeyringError {
  return new KeyringError('illegal_state', 'There is no endpoint for notifications.', {
    remedy: 'Set one: `mh-keys notifications set URL`.',
  });
}
