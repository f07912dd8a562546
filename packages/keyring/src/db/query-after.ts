import type pg from 'pg';
import type { DriverConnection } from './plain-query.ts';
import type { Statement } from './port.ts';

/** What the driver calls on the query that it waits for; not in its types. */
export interface DriverQuery {
  readonly text: string;
  readonly name?: string | undefined;
  submit(connection: pg.Connection): void;
  handleRowDescription(message: unknown): void;
  handleDataRow(message: unknown): void;
  handleCommandComplete(message: unknown, connection: pg.Connection): void;
  handleEmptyQuery(connection: pg.Connection): void;
  handlePortalSuspended(connection: pg.Connection): void;
  handleError(error: Error, connection: pg.Connection): void;
  handleReadyForQuery(connection: pg.Connection): void;
}

/**
 * A query behind a first statement, in one packet. PostgreSQL has one transaction for all that comes before a `Sync`, which the query
 * alone sends: what the first one sets for its transaction holds for the query, and ends with it. Its own answer is passed over.
 * @see PostgreSQL's manual, "Extended Query" under "Message Flow".
 */
export class QueryAfter implements DriverQuery {
  readonly #first: Statement;
  readonly #prepared: boolean;
  readonly #query: DriverQuery;
  #firstIsDone = false;

  constructor(first: Statement, prepared: boolean, query: DriverQuery) {
    this.#first = first;
    this.#prepared = prepared;
    this.#query = query;
  }

  /** Of what is being parsed: under that name the driver notes that it was. */
  get text(): string {
    return this.#firstIsDone ? this.#query.text : this.#first.text;
  }

  get name(): string | undefined {
    if (this.#firstIsDone) return this.#query.name;
    return this.#prepared ? this.#first.name : undefined;
  }

  submit(connection: pg.Connection): void {
    const { parsedStatements } = connection as DriverConnection;
    const { text, name, values = [] } = { ...this.#first, name: this.name };
    connection.stream.cork();
    try {
      if (name === undefined || parsedStatements[name] === undefined) {
        connection.parse({ text, name: name ?? '', types: [] }, true);
      }
      connection.bind({ statement: name ?? '', values: values as string[] }, true);
      connection.execute({}, true);
      this.#query.submit(connection);
    } finally {
      connection.stream.uncork();
    }
  }

  handleRowDescription(message: unknown): void {
    this.#query.handleRowDescription(message);
  }

  handleDataRow(message: unknown): void {
    if (this.#firstIsDone) this.#query.handleDataRow(message);
  }

  handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#firstIsDone) this.#query.handleCommandComplete(message, connection);
    this.#firstIsDone = true;
  }

  handleEmptyQuery(connection: pg.Connection): void {
    this.#query.handleEmptyQuery(connection);
  }

  handlePortalSuspended(connection: pg.Connection): void {
    this.#query.handlePortalSuspended(connection);
  }

  handleError(error: Error, connection: pg.Connection): void {
    this.#query.handleError(error, connection);
  }

  handleReadyForQuery(connection: pg.Connection): void {
    this.#query.handleReadyForQuery(connection);
  }
}
