import { join } from 'node:path';
import { openKeyring, pgDatabase, type Keyring } from '@meshhook/keyring';
import { openHost, type Host } from '@meshhook/keyring-embedded';
import { keyringHandler, tokenDigest } from '@meshhook/keyring-http';
import {
  allowedBy,
  checkpointKeeper,
  inWords,
  listWorkers,
  readCheckpointFile,
  startWorker,
  type Log,
} from '@meshhook/keyring-worker';
import { apiTokenFile } from './api-token.ts';
import { readSettings, type Settings } from './env.ts';
import { serverLog } from './log.ts';

/** All that runs behind the pages and the API, opened once per process. */
export interface Program {
  readonly settings: Settings;
  readonly log: Log;
  readonly keyring: Keyring;
  /** Answers `/api/…`, `/healthz` and `/readyz`. */
  readonly api: ReturnType<typeof keyringHandler>;
  /** What a person is told at the start. */
  readonly host: Pick<Host, 'made' | 'notices' | 'embedded' | 'home' | 'rootKeyUri'>;
  readonly tokenFile: { readonly file: string; readonly made: boolean };
  /** The secret of a new sign-in link: good once, for ten minutes. */
  signInLink(): Promise<string>;
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
      rootKey: settings.nextRootKeyUri === undefined ? host.rootKeyUri : [host.rootKeyUri, settings.nextRootKeyUri],
      env: settings.environment,
      preparedStatements: settings.preparedStatements,
      actor: { name: 'server', kind: 'service' },
    });
    closers.push(() => keyring.close());
    const { token, file, made } = await apiTokenFile(host.home);
    const working = keyring.as({ name: 'server', kind: 'worker' });
    const checkpoint = settings.auditCheckpoint ?? join(host.home, 'audit-checkpoint');
    const worker = startWorker({
      ...{ keyring: working, databaseUrl: host.databaseUrl, log },
      onCheckpoint: checkpointKeeper(
        checkpoint,
        (text) => {
          log.info(text);
        },
        keyring.audit,
      ),
      readCheckpoint: () => readCheckpointFile(checkpoint),
      notify: allowedBy(settings.notificationsAllow),
    });
    closers.push(() => worker.stop());
    const lookout = pgDatabase({ connectionString: host.databaseUrl, maxConnections: 1 });
    closers.push(() => lookout.close());
    const closing = new AbortController();
    closers.push(() => {
      closing.abort();
      return Promise.resolve();
    });
    const api = keyringHandler({
      keyring,
      tokens: [{ name: 'start', digest: tokenDigest(token), role: 'instance_admin', person: 'operator' }],
      ...(settings.jwt === undefined ? {} : { jwt: settings.jwt }),
      onRotationRequested: () => {
        worker.wake();
      },
      onWrappingRotationRequested: (id) => {
        keyring.wrappingKeys.run(id, { signal: closing.signal }).catch((error: unknown) => {
          log.error(`the rotation ${id} of the wrapping key stopped: ${inWords(error)}`, {
            event: 'rotation_interrupted',
            rotationId: id,
            error,
          });
        });
      },
      workers: () => listWorkers(lookout),
      onError: (error, id) => {
        log.error(`error ${id}: ${inWords(error)}`, { event: 'request_failed', errorId: id, error });
      },
    });
    const signInLink = async (): Promise<string> => (await keyring.access.sessions.createLink()).secret;
    return { settings, log, keyring, api, host, tokenFile: { file, made }, signInLink, close };
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
  if (shared[programKey] !== undefined) return;
  const settings = readSettings();
  shared[programKey] = await openProgram(settings, serverLog(settings));
}

/** What the routes use. */
export function program(): Program {
  const opened = shared[programKey];
  if (opened === undefined) throw new Error('the program was not started');
  return opened;
}
