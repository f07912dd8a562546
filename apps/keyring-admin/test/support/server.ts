import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, openKeyring, type Keyring } from '@meshhook/keyring';
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts';

const app = path.join(import.meta.dirname, '../..');

export interface Server extends AsyncDisposable {
  readonly url: string;
  readonly process: ChildProcess;
  /** What it printed so far, both streams. */
  output(): string;
  /** Gives the exit code, or the signal that ended it. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals | null>;
}

export interface Ended {
  readonly code: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function launch(environment: Record<string, string>) {
  if (!existsSync(path.join(app, 'build/handler.js'))) throw new Error('The app is not built: run `npm run build`.');
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [path.join(app, 'serve.js')], {
    env: { PATH, HOME, PORT: '0', ...environment },
  });
  const printed = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed.stderr += text));
  const ended = once(child, 'close').then(
    ([code, signal]: (number | NodeJS.Signals | null)[]) => code ?? signal ?? null,
  );
  return { child, printed, ended };
}

/** The real, built server, on a port that the system chose. */
export async function startServer(environment: Record<string, string>): Promise<Server> {
  const { child, printed, ended } = launch(environment);
  const output = (): string => printed.stdout + printed.stderr;
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', () => {
      const found = /^page +(http:\S+)$/m.exec(printed.stdout)?.[1];
      if (found !== undefined) resolve(found);
    });
    void ended.then((code) => {
      reject(new Error(`The server ended with ${String(code)}:\n${output()}`));
    });
  });
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal);
    return ended;
  };
  return {
    url,
    process: child,
    output,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

/** A start that is expected to end by itself. */
export async function failToStart(environment: Record<string, string>): Promise<Ended> {
  const { printed, ended } = launch(environment);
  return { code: await ended, ...printed };
}

/** A home, a root key and a database for a server of one's own, and a keyring that looks at the same database. */
export interface Place extends AsyncDisposable {
  readonly home: string;
  readonly database: TestDatabase;
  readonly environment: { DATABASE_URL: string; MESHHOOK_ROOT_KEY: string; MESHHOOK_HOME: string };
  readonly keyring: Keyring;
  /** The header that a caller sends. */
  authorization(): Promise<string>;
}

export async function makePlace(): Promise<Place> {
  const home = await temporaryFolder();
  const database = await createTestDatabase();
  const rootKey = `file:${path.join(home, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const keyring = await openKeyring({ database: database.serviceUrl, rootKey, actor: 'test' });
  return {
    home,
    database,
    keyring,
    environment: { DATABASE_URL: database.serviceUrl, MESHHOOK_ROOT_KEY: rootKey, MESHHOOK_HOME: home },
    authorization: async () => `Bearer ${(await readFile(path.join(home, 'api-token'), 'utf8')).trim()}`,
    async [Symbol.asyncDispose]() {
      await keyring.close();
      await database.drop();
      await rm(home, { recursive: true, force: true });
    },
  };
}

export function temporaryFolder(): Promise<string> {
  return mkdtemp(path.join(tmpdir(), 'keyring-admin-'));
}

/** A project with that many secrets, put by a few writers at once. */
export async function fillProject(keyring: Keyring, name: string, secrets: number): Promise<string> {
  const { id } = await keyring.projects.create({ name });
  const left = Array.from({ length: secrets }, (_, index) => index);
  const write = async (): Promise<void> => {
    for (let index = left.pop(); index !== undefined; index = left.pop()) {
      await keyring.secrets.put(id, `SECRET_${index}`, `value ${index}`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, write));
  return id;
}

/** Asks until it is so, or fails saying what it last was. */
export async function until<T>(ask: () => Promise<T>, isSo: (answer: T) => boolean, timeoutMs = 30_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`It never came to that; last it was ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
