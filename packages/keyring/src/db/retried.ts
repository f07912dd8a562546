import { isTransient } from './failures.ts';
import { transaction, type Database, type Queryable } from './port.ts';

const ATTEMPTS = 5;

/** Work that leaves nothing behind when it fails, done anew when PostgreSQL gave it up for another's sake (40001, 40P01). */
export async function resent<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isTransient(error) || attempt === ATTEMPTS) throw error;
    }
  }
}

/** A transaction that is begun anew when PostgreSQL gave it up. */
export function retried<T>(database: Database, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return resent(() => transaction(database, work));
}
