import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import type { Facts } from '../../src/facts.ts';
import { findPostmaster, stopPostmaster } from '../../src/postmaster.ts';
import type { Account } from '../../src/process.ts';

export const quick = { fsync: 'off', shared_buffers: '16MB' };

/** What a child process that opened a cluster said about it. */
export interface Held {
  readonly port: number;
  readonly adminUrl: string;
  readonly dataDirectory: string;
  readonly binDirectory: string;
  readonly placement: string;
  readonly started: boolean;
  readonly created: boolean;
  readonly pid: number;
  /** Lets it close, and waits for its end. */
  close(): Promise<void>;
  kill(): Promise<void>;
}

export interface HolderOptions {
  readonly account?: Account;
  readonly sharedDirectory?: string;
  readonly script?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts a child process on `home`; it has not opened anything yet. */
export function startHolder(home: string, options: HolderOptions = {}) {
  const script = options.script ?? join(import.meta.dirname, 'holder.ts');
  const args = ['--conditions=@meshhook/source', script, home, JSON.stringify(quick), options.sharedDirectory ?? ''];
  const child = spawn(process.execPath, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    cwd: '/',
    env: options.env ?? process.env,
    ...options.account,
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const exit = once(child, 'exit');
  onTestFinished(() => void child.kill('SIGKILL'));
  return { child, exit, errors: () => errors };
}

/** A child process that has opened the cluster of `home`. Rejects with what it printed when it could not. */
export async function hold(home: string, options: HolderOptions = {}): Promise<Held> {
  const { child, exit, errors } = startHolder(home, options);
  const lines = createInterface(child.stdout);
  const line = await Promise.race([once(lines, 'line'), exit.then(() => Promise.reject(new Error(errors())))]);
  return {
    ...(JSON.parse(String(line[0])) as Held),
    pid: child.pid ?? 0,
    async close() {
      child.stdin.end();
      const [code] = (await exit) as [number | null];
      if (code !== 0) throw new Error(errors());
    },
    async kill() {
      child.kill('SIGKILL');
      await exit;
    },
  };
}

/** A home that does not exist yet, below a folder everybody may enter; it and its PostgreSQL go when the test ends. */
export async function newHome(): Promise<string> {
  const home = join(await openFolder(), '.meshhook');
  onTestFinished(async () => {
    const facts = await factsOf(home).catch(() => undefined);
    if (facts !== undefined) await stopPostmaster(facts.dataDirectory, 'immediate');
  });
  return home;
}

/** A folder for the time of a test, mode 0755. */
export async function openFolder(): Promise<string> {
  const folder = await mkdtemp(join(await realpath(tmpdir()), 'keyring-embedded-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await chmod(folder, 0o755);
  return folder;
}

export async function factsOf(home: string): Promise<Facts> {
  return JSON.parse(await readFile(join(home, 'postgres.json'), 'utf8')) as Facts;
}

export async function isUp(dataDirectory: string): Promise<boolean> {
  return (await findPostmaster(dataDirectory)) !== undefined;
}

export async function eventually(claim: () => Promise<boolean>, patience = 120_000): Promise<void> {
  const deadline = Date.now() + patience;
  while (!(await claim())) {
    if (Date.now() > deadline) throw new Error('It did not become true in time.');
    await delay(20);
  }
}
