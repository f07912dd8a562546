import pg from 'pg';
import type { ColumnType, Columns } from './port.ts';
import type { DriverQuery } from './query-after.ts';
import { timestampReader } from './timestamp.ts';

type Text = string | null;
type Done<Row> = (error: Error | null, rows?: Row[]) => void;

const readers: Readonly<Record<ColumnType, ((text: string) => unknown) | undefined>> = {
  text: undefined,
  bytea: driverReader(pg.types.builtins.BYTEA),
  timestamptz: timestampReader(driverReader(pg.types.builtins.TIMESTAMPTZ)),
};

/** What the driver keeps of a connection, and its own queries use; not in its types. */
export interface DriverConnection extends pg.Connection {
  readonly parsedStatements: Readonly<Record<string, string>>;
}

/**
 * A statement with texts as parameters and columns that are known: PostgreSQL is not asked to describe them at every
 * execution, and nobody has to read the description.
 */
export class PlainQuery<Row extends object> implements DriverQuery {
  readonly text: string;
  readonly name: string | undefined;
  readonly #values: readonly string[];
  readonly #columns: Columns;
  readonly #rows: Row[] = [];
  #unreadable: Error | undefined;
  /** The driver wraps it where a `query_timeout` is set. */
  callback: Done<Row>;

  constructor(
    text: string,
    values: readonly string[],
    columns: Columns,
    name: string | undefined,
    callback: Done<Row>,
  ) {
    this.text = text;
    this.name = name;
    this.#values = values;
    this.#columns = columns;
    this.callback = callback;
  }

  submit(connection: pg.Connection): void {
    const { parsedStatements } = connection as DriverConnection;
    // Together they are one packet.
    connection.stream.cork();
    try {
      if (this.name === undefined || parsedStatements[this.name] === undefined) {
        connection.parse({ text: this.text, name: this.name ?? '', types: [] }, true);
      }
      connection.bind({ statement: this.name ?? '', values: this.#values as string[] }, true);
      connection.execute({}, true);
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  }

  handleDataRow({ fields }: { fields: readonly Text[] }): void {
    const row: Record<string, unknown> = {};
    if (fields.length !== this.#columns.length) {
      this.#unreadable = new Error(
        `a row of ${String(fields.length)} columns instead of ${String(this.#columns.length)}`,
      );
      return;
    }
    try {
      for (let at = 0; at < this.#columns.length; at++) {
        const [name, type] = this.#columns[at] as Columns[number];
        const text = fields[at] as Text;
        const read = readers[type];
        row[name] = text === null || read === undefined ? text : read(text);
      }
      this.#rows.push(row as Row);
    } catch (error) {
      this.#unreadable = error as Error;
    }
  }

  handleReadyForQuery(): void {
    if (this.#unreadable === undefined) this.callback(null, this.#rows);
    else this.callback(this.#unreadable);
  }

  handleError(error: Error): void {
    this.callback(error);
  }

  handleCommandComplete(): void {
    // The rows are counted as they come.
  }

  handleRowDescription(): void {
    // Not asked for.
  }

  handleEmptyQuery(): void {
    // No statement of ours is empty.
  }

  handlePortalSuspended(): void {
    // All rows are asked for at once.
  }
}

type TypeId = Parameters<typeof pg.types.getTypeParser>[0];

function driverReader(type: TypeId): (text: string) => unknown {
  return pg.types.getTypeParser(type) as (text: string) => unknown;
}
