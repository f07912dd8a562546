import { transaction, type Database, type Queryable } from '../db/port.ts';

/** How long a step of a rotation waits for a row that somebody holds, before it lets the other projects go first. */
export const LOCK_WAIT_MS = 2_000;

/**
 * A transaction that waits for no lock longer than `LOCK_WAIT_MS` (SQLSTATE 55P03 then): one tenant's open transaction, as a
 * delete of its project, must not hold a worker of all.
 */
export function boundedTransaction<T>(database: Database, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return transaction(database, work, { lockWaitMs: LOCK_WAIT_MS });
}
