/**
 * The database as the library sees it. `pg-database.ts` is the only implementation that ships; tests wrap it to fail at
 * the n-th statement.
 */

/** How the text that PostgreSQL sends for a column is read. */
export type ColumnType = 'text' | 'bytea' | 'timestamptz';

/** Name and type of every column a statement returns, in its order. */
export type Columns = readonly (readonly [name: string, type: ColumnType])[];

/** One statement: text with `$1` parameters, never built from values. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** Prepared under this name where prepared statements are switched on. One name, one text, for ever. */
  readonly name?: string;
  /**
   * What it returns, for a hot path whose parameters are all texts: then nobody describes the columns at every execution.
   * They have to be exactly those of the statement.
   */
  readonly columns?: Columns;
  /** Looks up rows of one project, in what `keyring_reader` may read: under an identity of somebody's it is read as that role. */
  readonly ofOneProject?: true;
}

export interface Result<Row> {
  readonly rows: Row[];
  /** Rows returned or changed. */
  readonly rowCount: number;
}

export interface Queryable {
  query<Row extends object = Record<string, unknown>>(statement: Statement): Promise<Result<Row>>;
}

/** One connection, held by its taker until released. */
export interface Connection extends Queryable {
  /** Gives the connection back; `broken` closes it instead, so that no half-done transaction is handed on. */
  release(broken?: boolean): void;
}

export interface Database extends Queryable {
  /**
   * `first`, which has no parameters but texts, and then the other one, in one transaction and one round trip; gives the answer of the
   * other one. Who leaves it out has them sent one by one.
   */
  queryAfter?<Row extends object = Record<string, unknown>>(
    first: Statement,
    statement: Statement,
  ): Promise<Result<Row>>;
  connect(): Promise<Connection>;
  close(): Promise<void>;
}

export interface TransactionOptions {
  /** Waits for no lock on a row or a table longer than this, in whole milliseconds (SQLSTATE 55P03 then). */
  readonly lockWaitMs?: number;
  /**
   * Plans its statements by indexes, row by row, whatever the statistics say: for statements that look up a few projects in a table in
   * which another one may have most of the rows. The planner takes every project for an average one, and would rather read all of
   * a table, or all of an index, than look up some hundred of its rows.
   */
  readonly byIndex?: boolean;
  /** All its statements see the same moment, and none of them changes anything. */
  readonly snapshot?: boolean;
}

const byLookUps = ['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']
  .map((one) => `; set local ${one} = off`)
  .join('');

/** A transaction, read committed but for a `snapshot`: commits when `work` resolves, rolls back and rethrows when it rejects. */
export async function transaction<T>(
  database: Database,
  work: (tx: Queryable) => Promise<T>,
  { lockWaitMs, byIndex = false, snapshot = false }: TransactionOptions = {},
): Promise<T> {
  const connection = await database.connect();
  let broken = true;
  try {
    const limit = lockWaitMs === undefined ? '' : `; set local lock_timeout = ${String(Math.ceil(lockWaitMs))}`;
    const plans = byIndex ? byLookUps : '';
    const level = snapshot ? 'repeatable read, read only' : 'read committed';
    await connection.query({ text: `begin isolation level ${level}${limit}${plans}` });
    let result: T;
    try {
      result = await work(connection);
    } catch (error) {
      await connection.query({ text: 'rollback' });
      broken = false;
      throw error;
    }
    await connection.query({ text: 'commit' });
    broken = false;
    return result;
  } finally {
    connection.release(broken);
  }
}
