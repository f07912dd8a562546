import { requireSchema } from '../db/migrate.ts';
import { pgDatabase } from '../db/pg-database.ts';
import type { Database } from '../db/port.ts';

/** Works on the database of a URL, or on one that is open and stays so. @throws KeyringError `not_migrated`, `schema_too_new`. */
export async function withDatabase<T>(given: string | Database, work: (database: Database) => Promise<T>): Promise<T> {
  const database = typeof given === 'string' ? pgDatabase({ connectionString: given, maxConnections: 2 }) : given;
  try {
    await requireSchema(database);
    return await work(database);
  } finally {
    if (typeof given === 'string') await database.close();
  }
}
