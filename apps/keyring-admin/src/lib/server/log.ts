import { eventLog, type Log } from '@meshhook/keyring-worker';
import type { Settings } from './env.ts';

/** The log of the server, on its standard streams. No line ever holds a value, a key or a token. */
export function serverLog({ logFormat: format, logLevel: level }: Pick<Settings, 'logFormat' | 'logLevel'>): Log {
  return eventLog({ format, level, stdout: process.stdout, stderr: process.stderr });
}
