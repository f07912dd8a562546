import type { Notification, NotificationAttempt, NotificationEndpoint } from '../api-notifications.ts';
import type { Queryable } from '../db/port.ts';

export interface StoredEndpoint extends NotificationEndpoint {
  readonly secretProjectId: string | undefined;
}

export async function selectEndpoint(database: Queryable): Promise<StoredEndpoint | undefined> {
  const { rows } = await database.query<{
    url: string;
    events: NotificationEndpoint['events'];
    secret_project_id: string | null;
    changed_at: Date;
    changed_by: string;
  }>({ text: 'select url, events, secret_project_id, changed_at, changed_by from keyring.notification_endpoint' });
  const [row] = rows;
  return (
    row && {
      ...{ url: row.url, events: row.events, changedAt: row.changed_at, changedBy: row.changed_by },
      secretProjectId: row.secret_project_id ?? undefined,
    }
  );
}

export async function upsertEndpoint(
  tx: Queryable,
  endpoint: { url: string; events: readonly string[]; secretProjectId: string; by: string },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.notification_endpoint (url, events, secret_project_id, changed_by) values ($1, $2, $3, $4)
           on conflict (only_row) do update set url = excluded.url, events = excluded.events,
             secret_project_id = excluded.secret_project_id, changed_by = excluded.changed_by, changed_at = now()`,
    values: [endpoint.url, endpoint.events, endpoint.secretProjectId, endpoint.by],
  });
}

export async function deleteEndpoint(tx: Queryable): Promise<boolean> {
  const { rowCount } = await tx.query({ text: 'delete from keyring.notification_endpoint' });
  return rowCount > 0;
}

const columns = 'id, event, created_at, state, attempts, last_attempt_at, last_status, last_error';

interface NotificationRow {
  readonly id: string;
  readonly event: Notification['event'];
  readonly created_at: Date;
  readonly state: Notification['state'];
  readonly attempts: number;
  readonly last_attempt_at: Date | null;
  readonly last_status: number | null;
  readonly last_error: string | null;
}

export async function insertTest(tx: Queryable): Promise<Notification> {
  const { rows } = await tx.query<NotificationRow>({
    text: `insert into keyring.notifications (event, body)
           values ('test', jsonb_build_object('type', 'test', 'timestamp', clock_timestamp(), 'data', '{}'::jsonb))
           returning ${columns}`,
  });
  const [row] = rows.map(toNotification);
  if (row === undefined) throw new TypeError('insert returned no row');
  return row;
}

export async function selectNotifications(
  database: Queryable,
  { limit, before }: { limit: number; before: string | undefined },
): Promise<Notification[]> {
  const { rows } = await database.query<NotificationRow>({
    text: `select ${columns} from keyring.notifications
           where $2::uuid is null or (created_at, id) < (
             select b.created_at, b.id from keyring.notifications b where b.id = $2)
           order by created_at desc, id desc limit $1`,
    values: [limit, before ?? null],
  });
  return rows.map(toNotification);
}

export async function selectUnqueued(database: Queryable): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>({
    text: 'select id from keyring.notifications where queued_at is null order by created_at limit 100',
  });
  return rows.map(({ id }) => id);
}

export async function markQueued(database: Queryable, ids: readonly string[]): Promise<void> {
  await database.query({
    text: 'update keyring.notifications set queued_at = now() where id = any ($1::uuid[]) and queued_at is null',
    values: [ids],
  });
}

export async function selectBody(database: Queryable, id: string): Promise<string | undefined> {
  const { rows } = await database.query<{ body: string }>({
    text: `select body::text as body from keyring.notifications where id = $1 and state = 'pending'`,
    values: [id],
  });
  return rows[0]?.body;
}

export async function updateAttempt(database: Queryable, id: string, attempt: NotificationAttempt): Promise<void> {
  const state = attempt.delivered ? 'delivered' : attempt.last ? 'failed' : 'pending';
  await database.query({
    text: `update keyring.notifications
           set attempts = attempts + 1, last_attempt_at = now(), state = $2, last_status = $3, last_error = $4
           where id = $1 and state = 'pending'`,
    values: [id, state, attempt.status ?? null, attempt.error?.slice(0, 500) ?? null],
  });
}

/** Those whose delivery is over go first: what is to be told is forgotten only when so much more of it is newer. */
export async function deleteOldest(database: Queryable, keep: { over: number; pending: number }): Promise<void> {
  await database.query({
    // By the first that is too many of either kind, of which there are two at most: joined by their ids, without statistics of what
    // was just written, each would be compared with each.
    text: `delete from keyring.notifications n using (
             (select m.state = 'pending' as is_pending, m.created_at, m.id from keyring.notifications m
              where m.state = 'pending' order by m.created_at desc, m.id offset $2::bigint limit 1)
             union all
             (select m.state = 'pending', m.created_at, m.id from keyring.notifications m
              where m.state <> 'pending' order by m.created_at desc, m.id offset $1::bigint limit 1)
           ) f
           where (n.state = 'pending') = f.is_pending
             and (n.created_at < f.created_at or n.created_at = f.created_at and n.id >= f.id)`,
    values: [keep.over, keep.pending],
  });
}

function toNotification(row: NotificationRow): Notification {
  return {
    ...{ id: row.id, event: row.event, createdAt: row.created_at, state: row.state, attempts: row.attempts },
    lastAttemptAt: row.last_attempt_at ?? undefined,
    lastStatus: row.last_status ?? undefined,
    lastError: row.last_error ?? undefined,
  };
}
