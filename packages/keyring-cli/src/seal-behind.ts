import { existsSync } from 'node:fs';
import { KeyringError, pgDatabase, type Keyring } from '@meshhook/keyring';
import { anyAlive, Sealing } from '@meshhook/keyring-worker/sealing';
import { checkpointPath, keeper } from './audit-checkpoint.ts';
import type { App } from './session.ts';

// A command is not held up by what is not its own.
const PATIENCE_MS = 2_000;

/**
 * Seals what is there when a command ends, where no worker and no server does: who has only the command line has a sealed trail, too. As
 * far as it goes: the next command goes on with it, and `mh-keys doctor` says when nobody does. Never fails.
 */
export async function sealBehind(app: App, keyring: Keyring, databaseUrl: string): Promise<void> {
  const over = AbortSignal.any([app.signal, AbortSignal.timeout(PATIENCE_MS)]);
  const left = new Promise<void>((resolve) => {
    if (over.aborted) resolve();
    else over.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([left, seal(app, keyring, databaseUrl, over).catch((error: unknown) => tell(app, error))]);
}

async function seal(app: App, keyring: Keyring, databaseUrl: string, over: AbortSignal): Promise<void> {
  const { unsealed } = await keyring.audit.health();
  if (unsealed.entries === 0 || (await isSealed(databaseUrl))) return;
  await new Sealing(keyring.audit, keeps(app) ? keeper(app, keyring) : undefined).round(over);
}

async function isSealed(databaseUrl: string): Promise<boolean> {
  const database = pgDatabase({ connectionString: databaseUrl, maxConnections: 1, applicationName: 'mh-keys' });
  try {
    return await anyAlive(database);
  } finally {
    await database.close();
  }
}

/** Not on standard output, which is the command's; nor in a folder that would be made for it alone. */
function keeps(app: App): boolean {
  if (app.settings.auditCheckpoint === undefined) return existsSync(app.settings.home);
  return checkpointPath(app) !== '-';
}

/** What somebody should know of, and not of a login that may not, or a database that has gone. */
function tell({ terminal }: App, error: unknown): void {
  if (error instanceof KeyringError && error.code === 'audit_broken') terminal.note(`The trail: ${error.message}`);
}
