import { sqlState, sqlStates } from '../../db/failures.ts';
import { transaction, type Database, type Queryable } from '../../db/port.ts';
import { KeyringError } from '../../errors.ts';
import { Overtaken } from '../endings.ts';
import { isNotItsOwn } from '../trouble.ts';

/** How long a step for many projects waits for a row of one of them, before it is tried without that one. */
export const SET_LOCK_WAIT_MS = 50;

/** A step for many projects: waits little, and finds each by its index. */
export function setTransaction<T>(database: Database, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return transaction(database, work, { lockWaitMs: SET_LOCK_WAIT_MS, byIndex: true });
}

/**
 * Does `work` for all of `items` at once; where one of them is in its way, for each half, and so on. Gives what `work` gave.
 * What cannot be done even alone is left out: whoever does one at a time finds out why.
 */
export async function together<Item, Done>(
  items: readonly Item[],
  work: (part: readonly Item[]) => Promise<readonly Done[]>,
): Promise<Done[]> {
  if (items.length === 0) return [];
  try {
    return [...(await work(items))];
  } catch (error) {
    if (!isOfOne(error)) throw error;
    if (items.length === 1) return [];
    const middle = Math.ceil(items.length / 2);
    return [...(await together(items.slice(0, middle), work)), ...(await together(items.slice(middle), work))];
  }
}

/** Could it be the trouble of one project, which must not become that of all? */
export function isOfOne(error: unknown): boolean {
  if (error instanceof Overtaken) return true;
  if (!(error instanceof KeyringError)) return false;
  // Each project costs a place in PostgreSQL's table of locks: fewer at a time may fit.
  if (sqlState(error) === sqlStates.outOfMemory) return true;
  return !isNotItsOwn(error) && sqlState(error) !== sqlStates.syntaxError;
}
