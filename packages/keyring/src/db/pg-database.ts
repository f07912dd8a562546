import pg from 'pg';
import { databaseFailure } from './failures.ts';
import { PlainQuery } from './plain-query.ts';
import { QueryAfter, type DriverQuery } from './query-after.ts';
import type { Connection, Database, Result, Statement } from './port.ts';
import { WarmPool } from './warm-pool.ts';

const MOST_CONNECTIONS = 10_000;

export interface PgDatabaseOptions {
  readonly connectionString: string;
  /** Connections held at most, from 1, which is enough for everything, to 10,000. Default 10. */
  readonly maxConnections?: number;
  /** Shown in `pg_stat_activity`. Default `meshhook-keyring`. */
  readonly applicationName?: string;
  /**
   * Name the statements of hot paths so that PostgreSQL plans them once per connection. Default true. Switch it off behind
   * a transaction-mode pooler that does not track prepared statements.
   */
  readonly preparedStatements?: boolean;
}

/**
 * A pool of connections to PostgreSQL 15 to 18, opened when first used. Every failure is a `KeyringError`.
 * @throws TypeError for a number of connections that is none: of none, every statement would wait for one.
 */
export function pgDatabase(options: PgDatabaseOptions): Database {
  const max = options.maxConnections ?? 10;
  if (!Number.isInteger(max) || max < 1 || max > MOST_CONNECTIONS) {
    throw new TypeError(`option maxConnections takes a whole number from 1 to ${String(MOST_CONNECTIONS)}`);
  }
  const pool = new WarmPool({
    connectionString: options.connectionString,
    max,
    application_name: options.applicationName ?? 'meshhook-keyring',
    connectionTimeoutMillis: 10_000,
    allowExitOnIdle: true,
  });
  const prepared = options.preparedStatements ?? true;

  const queryOn = <Row extends object>(
    client: pg.PoolClient,
    statement: Statement,
    first?: Statement,
  ): Promise<Result<Row>> =>
    send<Row>(client, statement, prepared, first).then(
      (result) => {
        pool.giveBack(client);
        return result;
      },
      (error: unknown) => {
        // As `pg.Pool` does: a plan that a migration made useless, and whatever else is wrong with it, goes with it.
        client.release(true);
        throw databaseFailure(error);
      },
    );
  const query = <Row extends object>(statement: Statement, first?: Statement): Promise<Result<Row>> => {
    const warm = pool.takeWarm();
    if (warm !== undefined) return queryOn<Row>(warm, statement, first);
    return connected(pool).then((client) => queryOn<Row>(client, statement, first));
  };
  return {
    query: (statement) => query(statement),
    queryAfter: (first, statement) => query(statement, first),
    async connect(): Promise<Connection> {
      const client = await connected(pool);
      return {
        query: <Row extends object>(statement: Statement): Promise<Result<Row>> =>
          send<Row>(client, statement, prepared).catch((error: unknown) => {
            throw databaseFailure(error);
          }),
        release: (broken = false) => {
          if (broken) client.release(true);
          else pool.giveBack(client);
        },
      };
    },
    close: () => pool.end(),
  };
}

function connected(pool: WarmPool): Promise<pg.PoolClient> {
  return pool.connect().catch((error: unknown) => {
    throw databaseFailure(error);
  });
}

/** Rejects with the driver's own error. */
function send<Row extends object>(
  client: pg.PoolClient,
  { text, values, name, columns }: Statement,
  prepared: boolean,
  first?: Statement,
): Promise<Result<Row>> {
  const named = prepared ? name : undefined;
  if (columns !== undefined && isAllText(values)) {
    return new Promise((resolve, reject) => {
      const query = new PlainQuery<Row>(text, values, columns, named, (error, rows = []) => {
        if (error === null) resolve({ rows, rowCount: rows.length });
        else reject(error);
      });
      client.query(first === undefined ? query : new QueryAfter(first, prepared, query));
    });
  }
  const config = {
    text,
    ...(values === undefined ? {} : { values: [...values] }),
    ...(named === undefined ? {} : { name: named }),
  };
  return (
    first === undefined
      ? client.query<Row & pg.QueryResultRow>(config)
      : sendAfter<Row>(client, config, prepared, first)
  ).then(({ rows, rowCount }) => ({ rows, rowCount: rowCount ?? 0 }));
}

function sendAfter<Row extends object>(
  client: pg.PoolClient,
  config: pg.QueryConfig,
  prepared: boolean,
  first: Statement,
): Promise<pg.QueryResult<Row>> {
  return new Promise((resolve, reject) => {
    // By itself the driver sends what has no parameters in a way that begins another transaction.
    const query = new pg.Query({ ...config, queryMode: 'extended' } as pg.QueryConfig, (error, result) => {
      if (error) reject(error);
      else resolve(result as pg.QueryResult<Row>);
    });
    client.query(new QueryAfter(first, prepared, query as unknown as DriverQuery));
  });
}

function isAllText(values: readonly unknown[] = []): values is readonly string[] {
  return values.every((value) => typeof value === 'string');
}
