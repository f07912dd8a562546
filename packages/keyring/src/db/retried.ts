import { isTransient } from './failures.ts';
import { transaction, type Database, type Queryable } from './port.ts';

const ATTEMPTS = 5;

/** A transaction that is begun anew when PostgreSQL gave it up for another's sake (40001, 40P01). */
export async function retried<T>(database: Database, work: (tx: Queryable) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transaction(database, work);
    } catch (error) {
      if (!isTransient(error) || attempt === ATTEMPTS) throw error;
    }
  }
}
