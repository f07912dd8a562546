import type { BackupRecord } from '../api.ts';
import type { Database } from '../db/port.ts';
import { withDatabase } from './session.ts';
import { selectBackups } from './store.ts';

/** What the database remembers of backups, the newest first, up to a thousand. @throws KeyringError `not_migrated`, `database_*`. */
export function listBackups(options: { readonly database: string | Database }): Promise<BackupRecord[]> {
  return withDatabase(options.database, selectBackups);
}
