import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { KeyringError, listBackups, type BackupRecord } from '@meshhook/keyring';
import { withDatabase, type App } from './session.ts';
import { instant } from './terminal/text.ts';

/**
 * The newest backup that reached its file; null when there is none, undefined when there is no database to ask: nothing is made
 * for this, and an outage is noted, not an error.
 */
export async function lastBackup(app: App): Promise<BackupRecord | null | undefined> {
  const { databaseUrl, home } = app.settings;
  if (databaseUrl === undefined && !existsSync(join(home, 'credentials.json'))) return undefined;
  try {
    const backups = await withDatabase(app, (database) => listBackups({ database }), { withoutRootKey: true });
    return backups.find(({ writtenAt }) => writtenAt !== undefined) ?? null;
  } catch (error) {
    if (!(error instanceof KeyringError) || error.code === 'interrupted') throw error;
    app.terminal.note(`When the last backup was made is not known: ${error.message}`);
    return undefined;
  }
}

export function describeBackup(backup: BackupRecord | null | undefined): string[] {
  if (backup === undefined) return [];
  if (backup === null)
    return [
      'There is no backup of it: `mh-keys root-key backup --recipient age1… --output FILE` makes one (or `--passphrase`).',
    ];
  const verified = backup.verifiedAt === undefined ? 'never verified' : `verified ${instant(backup.verifiedAt)}`;
  const short = backup.complete ? '' : '; it lacks a newer wrapping key';
  return [`Last backup: ${instant(backup.createdAt)}, ${verified}${short}.`];
}
