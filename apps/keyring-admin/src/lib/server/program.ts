import { openKeyring, type Keyring } from '@meshhook/keyring';
import { openHost, type Host } from '@meshhook/keyring-embedded';
import { keyringHandler, tokenDigest } from '@meshhook/keyring-http';
import { startWorker } from '@meshhook/keyring-worker';
import { apiTokenFile } from './api-token.ts';
import { readSettings, type Settings } from './env.ts';
import { consoleLog, type Log } from './log.ts';

/** All that runs behind the pages and the API, opened once per process. */
export interface Program {
  readonly settings: Settings;
  readonly keyring: Keyring;
  /** Answers `/api/…`, `/healthz` and `/readyz`. */
  readonly api: (request: Request) => Promise<Response>;
  /** What a person is told at the start. */
  readonly host: Pick<Host, 'made' | 'notices' | 'embedded' | 'home' | 'rootKeyUri'>;
  readonly tokenFile: { readonly file: string; readonly made: boolean };
  /** Interrupts what runs, resumably, and lets go of everything. May be called again. */
  close(): Promise<void>;
}

/**
 * Opens host, keyring, token, API and worker, in this order; what was opened before a failure is closed. The worker gets ready
 * by itself: nobody waits for its queue.
 * @throws KeyringError saying what is missing and the remedy.
 */
export async function openProgram(settings: Settings, log: Log): Promise<Program> {
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (let closer = closers.pop(); closer !== undefined; closer = closers.pop()) await closer();
  };
  try {
    const host = await openHost({
      home: settings.home,
      databaseUrl: settings.databaseUrl,
      rootKeyUri: settings.rootKeyUri,
    });
    closers.push(() => host.close());
    const keyring = await openKeyring({
      database: host.databaseUrl,
      rootKey: host.rootKeyUri,
      preparedStatements: settings.preparedStatements,
      actor: 'server',
    });
    closers.push(() => keyring.close());
    const { token, file, made } = await apiTokenFile(host.home);
    const worker = startWorker({ keyring, databaseUrl: host.databaseUrl, log });
    closers.push(() => worker.stop());
    const api = keyringHandler({
      keyring,
      tokens: [{ name: 'start', digest: tokenDigest(token), scopes: ['read', 'rotate'] }],
      onRotationRequested: () => {
        worker.wake();
      },
    });
    return { settings, keyring, api, host, tokenFile: { file, made }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** `serve.js` is not part of the bundle that this file ends up in, and reaches the program by this name. */
export const programKey = Symbol.for('@meshhook/keyring-admin: program');

const shared = globalThis as { [programKey]?: Program | undefined };

/** Once per process, by the `init` hook. */
export async function startProgram(): Promise<void> {
  shared[programKey] ??= await openProgram(readSettings(), consoleLog);
}

/** What the routes use. */
export function program(): Program {
  const opened = shared[programKey];
  if (opened === undefined) throw new Error('the program was not started');
  return opened;
}
