import pg from 'pg';
import { databaseFailure } from './failures.ts';
import type { Connection, Database, Result, Statement } from './port.ts';

export interface PgDatabaseOptions {
  readonly connectionString: string;
  /** Connections held at most. Default 10. */
  readonly maxConnections?: number;
  /** Shown in `pg_stat_activity`. Default `meshhook-keyring`. */
  readonly applicationName?: string;
  /**
   * Name the statements of hot paths so that PostgreSQL plans them once per connection. Default true. Switch it off behind
   * a transaction-mode pooler that does not track prepared statements.
   */
  readonly preparedStatements?: boolean;
}

/** A pool of connections to PostgreSQL 15 to 18, opened when first used. Every failure is a `KeyringError`. */
export function pgDatabase(options: PgDatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: options.connectionString,
    max: options.maxConnections ?? 10,
    application_name: options.applicationName ?? 'meshhook-keyring',
    connectionTimeoutMillis: 10_000,
    allowExitOnIdle: true,
  });
  const prepared = options.preparedStatements ?? true;
  // A connection that breaks while idle or between two statements is an event, which would end the process unheard; the
  // next statement on it fails, which is where it is told.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));

  return {
    query: (statement) => send(pool, statement, prepared),
    async connect(): Promise<Connection> {
      const client = await pool.connect().catch((error: unknown) => {
        throw databaseFailure(error);
      });
      return {
        query: (statement) => send(client, statement, prepared),
        release: (broken = false) => {
          client.release(broken);
        },
      };
    },
    close: () => pool.end(),
  };
}

async function send<Row extends object>(
  to: pg.Pool | pg.PoolClient,
  { text, values, name }: Statement,
  prepared: boolean,
): Promise<Result<Row>> {
  try {
    const { rows, rowCount } = await to.query<Row & pg.QueryResultRow>({
      text,
      ...(values === undefined ? {} : { values: [...values] }),
      ...(prepared && name !== undefined ? { name } : {}),
    });
    return { rows, rowCount: rowCount ?? 0 };
  } catch (error) {
    throw databaseFailure(error);
  }
}
