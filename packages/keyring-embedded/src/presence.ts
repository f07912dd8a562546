import pg from 'pg';
import { findPostmaster } from './postmaster.ts';
import { superuserUrl } from './server.ts';
import type { Facts } from './facts.ts';

// Any two numbers will do, as long as every version of this program takes the same.
const KEY = '1835561842, 1';

/**
 * One process using the cluster: a session that holds a shared advisory lock, which PostgreSQL drops when the process
 * dies, however it dies. Whoever gets the same lock exclusively is alone.
 */
export interface Presence {
  readonly port: number;
  /** Settles when the session is gone, by us or by the server. */
  readonly ended: Promise<void>;
  /** Gives up the shared lock. @returns whether nobody else was there; then nobody can come either, until `end`. */
  leave(): Promise<boolean>;
  isAlive(): Promise<boolean>;
  end(): Promise<void>;
}

/** `absent`: PostgreSQL does not run. `wait`: it is starting or stopping, with `cause` if it said so itself. */
export type Absence = { readonly state: 'absent' } | { readonly state: 'wait'; readonly cause?: unknown };

/** @throws what PostgreSQL says when it does not accept our password. */
export async function enter(facts: Facts): Promise<Presence | Absence> {
  const postmaster = await findPostmaster(facts.dataDirectory);
  if (postmaster === undefined) return { state: 'absent' };
  const client = new pg.Client({
    connectionString: superuserUrl(postmaster.port, facts.password),
    application_name: `meshhook-keyring presence of ${String(process.pid)}`,
    keepAlive: true,
  });
  const ended = new Promise<void>((resolve) => client.once('end', resolve));
  // Lost sessions are reported by `ended`.
  client.on('error', () => undefined);
  try {
    await client.connect();
    if (await ask(client, `pg_try_advisory_lock_shared(${KEY})`)) return presence(client, postmaster.port, ended);
    await client.end();
    return { state: 'wait' };
  } catch (cause) {
    await client.end().catch(() => undefined);
    if (String((cause as { code?: unknown }).code).startsWith('28')) throw cause;
    return { state: 'wait', cause };
  }
}

function presence(client: pg.Client, port: number, ended: Promise<void>): Presence {
  return {
    port,
    ended,
    async leave() {
      await ask(client, `pg_advisory_unlock_shared(${KEY})`);
      return ask(client, `pg_try_advisory_lock(${KEY})`);
    },
    isAlive: () => ask(client, 'true').catch(() => false),
    end: () => client.end().catch(() => undefined),
  };
}

async function ask(client: pg.Client, expression: string): Promise<boolean> {
  const { rows } = await client.query<{ answer: boolean }>(`select ${expression} as answer`);
  return rows[0]?.answer === true;
}
