import type { Session } from '../api.ts';
import type { Queryable } from '../db/port.ts';

interface SessionRow {
  readonly id: string;
  readonly person: string;
  readonly created_at: Date;
  readonly expires_at: Date;
}

const LINK_MINUTES = 10;
const IDLE_MINUTES = 60;
const HOURS = 12;

export async function insertLink(tx: Queryable, digest: Buffer, person: string): Promise<Date> {
  const { rows } = await tx.query<{ expires_at: Date }>({
    text: `insert into keyring.sign_in_links (digest, person, expires_at)
           values ($1, $2, clock_timestamp() + make_interval(mins => $3)) returning expires_at`,
    values: [digest, person, LINK_MINUTES],
  });
  const [row] = rows;
  if (row === undefined) throw new Error('insert returned no row');
  return row.expires_at;
}

/** Who it is for, once; undefined when there is none, or its time is over. */
export async function takeLink(tx: Queryable, digest: Buffer): Promise<string | undefined> {
  const { rows } = await tx.query<{ person: string }>({
    text: `delete from keyring.sign_in_links where digest = $1 and expires_at > clock_timestamp() returning person`,
    values: [digest],
  });
  return rows[0]?.person;
}

export async function insertSession(tx: Queryable, digest: Buffer, person: string): Promise<Session> {
  const { rows } = await tx.query<SessionRow>({
    text: `insert into keyring.sessions (digest, person, expires_at)
           values ($1, $2, clock_timestamp() + make_interval(hours => $3)) returning id, person, created_at, expires_at`,
    values: [digest, person, HOURS],
  });
  const [made] = rows.map(toSession);
  if (made === undefined) throw new Error('insert returned no row');
  return made;
}

export interface FoundSession extends Session {
  /** Seen more than a minute ago. */
  readonly unseen: boolean;
}

export async function selectSession(database: Queryable, digest: Buffer): Promise<FoundSession | undefined> {
  const { rows } = await database.query<SessionRow & { unseen: boolean }>({
    text: `select s.id, s.person, s.created_at, s.expires_at, s.seen_at < clock_timestamp() - interval '1 minute' as unseen
           from keyring.sessions s
           where s.digest = $1 and s.expires_at > clock_timestamp()
             and s.seen_at > clock_timestamp() - make_interval(mins => $2)`,
    values: [digest, IDLE_MINUTES],
    name: 'access_session_by_digest',
  });
  return rows[0] && { ...toSession(rows[0]), unseen: rows[0].unseen };
}

export async function updateSeen(database: Queryable, id: string): Promise<void> {
  await database.query({
    text: `update keyring.sessions set seen_at = clock_timestamp()
           where id = $1 and seen_at < clock_timestamp() - interval '1 minute'`,
    values: [id],
  });
}

export async function deleteSession(tx: Queryable, digest: Buffer): Promise<Session | undefined> {
  const { rows } = await tx.query<SessionRow>({
    text: 'delete from keyring.sessions where digest = $1 returning id, person, created_at, expires_at',
    values: [digest],
  });
  return rows[0] && toSession(rows[0]);
}

/** What nobody can use any more. */
export async function deleteExpired(tx: Queryable): Promise<void> {
  await tx.query({ text: 'delete from keyring.sign_in_links where expires_at <= clock_timestamp()' });
  await tx.query({
    text: `delete from keyring.sessions
           where expires_at <= clock_timestamp() or seen_at <= clock_timestamp() - make_interval(mins => $1)`,
    values: [IDLE_MINUTES],
  });
}

function toSession({ id, person, created_at: createdAt, expires_at: expiresAt }: SessionRow): Session {
  return { id, person, createdAt, expiresAt };
}
