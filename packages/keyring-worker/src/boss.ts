import { errorCodes, KeyringError, type Database } from '@meshhook/keyring';
import { PgBoss } from 'pg-boss';

/** Where pg-boss's tables are. */
export const SCHEMA = 'keyring_jobs';

/** pg-boss over a database of ours. Nothing that makes, changes or rebuilds anything: the service may not, and the migrations do. */
export function bossOver(database: Database, onError: (error: unknown) => void): PgBoss {
  const boss = new PgBoss({
    db: { executeSql: (text, values) => database.query({ text, ...(values === undefined ? {} : { values }) }) },
    schema: SCHEMA,
    migrate: false,
    createSchema: false,
    supervise: false,
    schedule: false,
    registerInstance: false,
  });
  boss.on('error', (error: unknown) => onError(original(error)));
  return boss;
}

/** Of some errors pg-boss hands on a copy of their fields, which is no error any more. What ours says of itself is in those. */
function original(error: unknown): unknown {
  if (error instanceof Error || !(error instanceof Object)) return error;
  const { code, message, stack, remedy } = error as Partial<KeyringError>;
  const known = errorCodes.find((one) => one === code);
  const made =
    known === undefined
      ? new Error(message)
      : new KeyringError(known, message ?? '', remedy === undefined ? {} : { remedy });
  return Object.assign(made, stack === undefined ? {} : { stack });
}
