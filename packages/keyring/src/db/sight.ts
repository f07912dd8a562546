import { transaction, type Connection, type Database, type Result, type Statement } from './port.ts';

const known =
  /^(user:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|token:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|person:[a-z0-9._@-]{1,100})$/;

/**
 * The database as far as a principal sees it, to read: every statement, and every transaction, runs as `keyring_user`, or as `keyring_reader` what is
 * `ofOneProject`, and their policies leave what that principal's projects have. For the transaction alone, so that it works through a
 * transaction-mode pooler. Closing it does nothing.
 * @throws TypeError for who is none of `user:ID`, `token:ID` and `person:NAME`.
 */
export function sightOf(database: Database, principal: string): Database {
  if (!known.test(principal)) throw new TypeError('that is no principal whose projects the database knows');
  const become = becoming('keyring_user', principal);
  const becomeReader = becoming('keyring_reader', principal);
  return {
    query: <Row extends object>(statement: Statement): Promise<Result<Row>> => {
      const seen = inSight(statement);
      const first = statement.ofOneProject === true ? becomeReader : become;
      return (
        database.queryAfter?.<Row>(first, seen) ??
        transaction(database, async (tx) => {
          await tx.query(first);
          return tx.query<Row>(seen);
        })
      );
    },
    async connect(): Promise<Connection> {
      const connection = await database.connect();
      let isBecome = false;
      return {
        async query<Row extends object>(statement: Statement): Promise<Result<Row>> {
          const begins = /^begin\b/.test(statement.text);
          if (!begins && !isBecome) throw new TypeError('outside of a transaction nobody is somebody else');
          const answer = await connection.query<Row>(inSight(statement));
          if (begins) await connection.query(become);
          isBecome = !/^(commit|rollback)$/.test(statement.text);
          return answer;
        },
        release: (broken) => {
          connection.release(broken);
        },
      };
    },
    close: () => Promise.resolve(),
  };
}

function becoming(role: 'keyring_user' | 'keyring_reader', principal: string): Statement {
  return {
    text: `select pg_catalog.set_config('role', '${role}', true), pg_catalog.set_config('keyring.principal', $1, true),
             pg_catalog.set_config('transaction_read_only', 'on', true)`,
    values: [principal],
    name: `become_${role}`,
  };
}

// Made once each: a text that is put together at every read is looked up slowly, by whoever notes what was prepared.
const namesInSight = new Map<string, string>();

/** PostgreSQL plans a statement anew whenever another role comes with it. */
function inSight(statement: Statement): Statement {
  if (statement.name === undefined) return statement;
  let name = namesInSight.get(statement.name);
  if (name === undefined) namesInSight.set(statement.name, (name = `${statement.name}_in_sight`));
  return { ...statement, name };
}
