import type { Database } from '@meshhook/keyring';
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
  boss.on('error', onError);
  return boss;
}
