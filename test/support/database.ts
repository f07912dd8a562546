import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { inject } from 'vitest';

export interface TestDatabaseOptions {
  /** `false` or `'empty'`: nothing is migrated yet. Default: a copy of the migrated template. */
  readonly template?: boolean | 'empty';
}

/** A database of one test, which has to leave nothing behind in it: no connection, no lock. */
export interface TestDatabase {
  readonly name: string;
  /** As superuser. */
  readonly adminUrl: string;
  /** As `keyring_migrator`, who owns the database: what runs the migrations. */
  readonly ownerUrl: string;
  /** As `keyring_app`: what the service logs in as. */
  readonly serviceUrl: string;
  /**
   * Drops the database. @throws Error naming every connection and lock that is left in it, after dropping it; those that were closed have
   * `graceMs` to go.
   */
  drop(graceMs?: number): Promise<void>;
}

// Closed connections take a moment to leave pg_stat_activity: on a busy machine, seconds.
const GRACE_MS = 30_000;

/** Made anew for each test file, or each test: a copy of the template takes some 20 ms. */
export async function createTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const { adminUrl, owner, service, template } = inject('cluster');
  const asAdmin = standingConnection(adminUrl);
  const name = `test_${randomBytes(8).toString('hex')}`;
  const source = options.template === false || options.template === 'empty' ? 'template1' : template;
  // Its files are copied as they are: half the work of writing every page of them to the log, which `wal_log` does.
  await asAdmin(`create database ${name} template ${source} strategy file_copy owner ${owner.user}`);
  const url = (login: { user?: string; password?: string }) => {
    const made = new URL(adminUrl);
    made.username = login.user ?? made.username;
    made.password = login.password ?? made.password;
    made.pathname = `/${name}`;
    return made.href;
  };
  return {
    name,
    adminUrl: url({}),
    ownerUrl: url(owner),
    serviceUrl: url(service),
    async drop(graceMs = GRACE_MS) {
      const left = await leftovers(asAdmin, name, graceMs);
      await asAdmin(`drop database ${name} with (force)`);
      if (left.length > 0) throw new Error(`The test left behind in ${name}:\n${left.join('\n')}`);
    },
  };
}

/** One statement in a connection of its own. */
export async function query<Row extends pg.QueryResultRow = Record<string, unknown>>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, application_name: `query: ${text.slice(0, 40)}` });
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

/**
 * A connection for a test that needs a transaction of its own; `await using` ends it, or the caller does. `name` tells
 * it from the others in the report of a leak.
 */
export async function session(url: string, name = 'session'): Promise<pg.Client & AsyncDisposable> {
  const client = new pg.Client({ connectionString: url, application_name: name });
  // A server that is stopped under the test is the test's business: its next query fails.
  client.on('error', () => undefined);
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

type Ask = <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>;

let standing: { readonly url: string; readonly client: Promise<pg.Client> } | undefined;

/** Sends statements on one connection, which this process keeps until it ends: a new one for each costs more than most of them. */
function standingConnection(url: string): Ask {
  return async (text, values = []) => {
    if (standing?.url !== url) standing = { url, client: connected(url) };
    const { client } = standing;
    return (await (await client).query(text, values)).rows;
  };
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'tests: databases' });
  const forget = (): void => {
    standing = undefined;
  };
  client.on('error', forget).on('end', forget);
  try {
    await client.connect();
  } catch (error) {
    forget();
    throw error;
  }
  // The process does not live on for its sake. The driver's types do not know of it.
  (client as pg.Client & { unref(): void }).unref();
  return client;
}

async function leftovers(ask: Ask, database: string, graceMs: number): Promise<string[]> {
  const deadline = Date.now() + graceMs;
  for (;;) {
    const rows = await ask<{ line: string }>(leftoversQuery, [database]);
    if (rows.length === 0 || Date.now() > deadline) return rows.map((row) => row.line);
    await delay(20);
  }
}

const leftoversQuery = `
  select format('connection %s of %s (%s), %s, locks: %s, last statement: %s', a.pid, a.usename, a.application_name,
           a.state, coalesce(string_agg(concat_ws(' ', l.locktype, l.mode, l.relation), ', '), 'none'), a.query) as line
  from pg_stat_activity a left join pg_locks l on l.pid = a.pid and l.locktype <> 'virtualxid'
  where a.datname = $1 and a.backend_type = 'client backend'
  group by a.pid, a.usename, a.application_name, a.state, a.query
  union all
  select format('prepared transaction %s', gid) from pg_prepared_xacts where database = $1`;
