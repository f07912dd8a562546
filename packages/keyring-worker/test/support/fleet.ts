import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, openRootKey, type Keyring } from '@meshhook/keyring';
import { startInstallation, type Installation } from '../../../keyring/test/engine/support/installation.ts';
import type { KnownProject } from '../../../keyring/test/engine/support/world.ts';

type Said = Readonly<Record<string, unknown>>;

export interface WorkerProcess {
  readonly pid: number;
  /** Everything it said so far. */
  readonly said: readonly Said[];
  /** Resolves with the first thing it says, or has said, that has `word`. */
  says(word: string): Promise<Said>;
  /** Lets the units go that it holds. */
  open(): void;
  /** Gives its exit code, or the signal that ended it. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null>;
}

/** An installation with any number of worker processes. */
export interface Fleet {
  readonly installation: Installation;
  readonly keyring: Keyring;
  start(options?: Readonly<Record<string, string>>): Promise<WorkerProcess>;
  end(): Promise<void>;
}

export async function startFleet(): Promise<Fleet> {
  const folder = await mkdtemp(path.join(tmpdir(), 'meshhook-worker-'));
  const rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const installation = await startInstallation({ rootKey: await openRootKey(rootKey, { cwd: folder }) });
  const running = new Set<WorkerProcess>();
  return {
    installation,
    keyring: await installation.open(),
    async start(options = {}) {
      const { PATH = '', NODE_COMPILE_CACHE = '' } = process.env;
      const worker = launch(
        { PATH, NODE_COMPILE_CACHE, DATABASE_URL: installation.test.serviceUrl, ROOT_KEY: rootKey, ...options },
        () => running.delete(worker),
      );
      running.add(worker);
      await worker.says('ready');
      return worker;
    },
    async end() {
      await Promise.all([...running].map((worker) => worker.end('SIGKILL')));
      await installation.end();
      await rm(folder, { recursive: true });
    },
  };
}

function launch(env: Record<string, string>, onEnd: () => void): WorkerProcess {
  const child = spawn(
    process.execPath,
    ['--conditions=@meshhook/source', path.join(import.meta.dirname, 'worker-process.ts')],
    { env, stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const said: Said[] = [];
  const listeners = new Set<() => void>();
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (text + chunk).split('\n');
    text = lines.pop() ?? '';
    said.push(...lines.map((line) => JSON.parse(line) as Said));
    for (const listener of listeners) listener();
  });
  // One that was killed reads nothing any more.
  child.stdin.on('error', () => undefined);
  const ended = once(child, 'close').then(([code, signal]: (number | NodeJS.Signals | null)[]) => {
    onEnd();
    return code ?? signal ?? null;
  });
  return {
    pid: child.pid ?? 0,
    said,
    says: (word) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = said.find((one) => word in one);
          if (found === undefined) return;
          listeners.delete(look);
          resolve(found);
        };
        listeners.add(look);
        look();
        ended.then((code) => reject(new Error(`It ended (${String(code)}) without saying "${word}".`)), reject);
      }),
    open: () => void child.stdin.write('go\n'),
    end: (signal) => {
      child.kill(signal);
      return ended;
    },
  };
}

/** That many small projects, each with that many secrets, put a few at once. */
export async function makeProjects(keyring: Keyring, projects: number, secrets: number): Promise<KnownProject[]> {
  const made: KnownProject[] = [];
  const left = Array.from({ length: projects }, (_, number) => number);
  const make = async (): Promise<void> => {
    for (let number = left.pop(); number !== undefined; number = left.pop()) {
      const name = `project ${String(number)}`;
      const { id } = await keyring.projects.create({ name });
      const project: KnownProject = { id, name, secrets: new Map(), webhooks: new Map() };
      for (let secret = 0; secret < secrets; secret++) {
        const value = `value ${String(secret)} of ${name}`;
        await keyring.secrets.put(id, `SECRET_${String(secret)}`, value);
        project.secrets.set(`SECRET_${String(secret)}`, value);
      }
      made.push(project);
    }
  };
  await Promise.all(Array.from({ length: 8 }, make));
  return made;
}
