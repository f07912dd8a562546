import { join } from 'node:path';
import type { Keyring } from '@meshhook/keyring';
import { checkpointKeeper, type KeepCheckpoint } from '@meshhook/keyring-worker/sealing';
import type { App } from './session.ts';

/** The file with the trail's last checkpoint; `-` is standard output. */
export function checkpointPath({ settings }: App): string {
  return settings.auditCheckpoint ?? join(settings.home, 'audit-checkpoint');
}

/** Where whoever seals here puts what it signed. */
export function keeper(app: App, { audit }: Keyring): KeepCheckpoint {
  const print = (line: string): void => app.terminal.raw(Buffer.from(`${line}\n`));
  return checkpointKeeper(checkpointPath(app), print, audit);
}
