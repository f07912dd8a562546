import { KeyringError, type Connection, type Database, type Result, type Statement } from '@meshhook/keyring';

/** A statement on its way to PostgreSQL. */
export interface Passing {
  readonly statement: Statement;
  /** Sends it, and gives its answer. */
  send(): Promise<Result<object>>;
  /** Destroys the connection that it travels on, as a network that breaks would; every later statement on it fails. */
  cut(): void;
  /**
   * What PostgreSQL does for a connection that is lost: what was not committed is undone. Every later statement on it fails, though
   * the session lives on for others; a new one plans everything anew, which is most of what a short test costs.
   */
  lose(): void;
}

export type Intercept = (passing: Passing) => Promise<Result<object>>;

/**
 * A database port that shows every statement, `begin` and `commit` too, to `intercept` before it is sent. Statements
 * outside of transactions travel on connections of their own, so that they can be cut off like the others.
 */
export function interceptDatabase(database: Database, intercept: Intercept): Database {
  const connect = async (): Promise<Connection> => {
    const inner = await database.connect();
    let cut = false;
    let released = false;
    const release = (broken: boolean): void => {
      if (!released) inner.release(broken);
      released = true;
    };
    return {
      async query<Row extends object>(statement: Statement): Promise<Result<Row>> {
        if (cut) throw connectionLost();
        const answer = await intercept({
          statement,
          send: () => inner.query(statement),
          cut() {
            cut = true;
            release(true);
          },
          lose() {
            cut = true;
            if (released) return;
            released = true;
            inner.query({ text: 'rollback' }).then(
              () => inner.release(false),
              () => inner.release(true),
            );
          },
        });
        return answer as Result<Row>;
      },
      release: (broken = false) => {
        release(broken);
      },
    };
  };
  return {
    connect,
    async query(statement) {
      const connection = await connect();
      let broken = true;
      try {
        const answer = await connection.query(statement);
        broken = false;
        return answer as Result<never>;
      } catch (error) {
        broken = error instanceof KeyringError && error.code === 'database_unreachable';
        throw error;
      } finally {
        connection.release(broken);
      }
    },
    close: () => database.close(),
  };
}

/** What the shipped port says of a connection that broke. */
export function connectionLost(): KeyringError {
  return new KeyringError('database_unreachable', 'The database cannot be used: Connection terminated unexpectedly');
}
