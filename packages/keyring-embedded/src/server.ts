import { spawn } from 'node:child_process';
import { chown, mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KeyringError } from '@meshhook/keyring';
import pg from 'pg';
import type { Binaries } from './binaries.ts';
import { findPostmaster, forgetStrangersPid } from './postmaster.ts';
import { childEnvironment, run, type Account } from './process.ts';

export const SUPERUSER = 'postgres';

export type Settings = Readonly<Record<string, string>>;

export interface ServerFiles {
  readonly dataDirectory: string;
  readonly logFile: string;
  readonly account: Account | undefined;
}

// No other machine and no other way in: TCP on the loopback, a password even there.
const always: Settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  password_encryption: 'scram-sha-256',
  logging_collector: 'off',
};

const MAX_LOG_BYTES = 10_000_000;
const STARTS = 6;
const STAGING = '.new-';

/** The URL of a database of a cluster; `password` is one of ours, which needs no escaping. */
export function superuserUrl(port: number, password: string, database = 'postgres'): string {
  return `postgresql://${SUPERUSER}:${password}@127.0.0.1:${String(port)}/${encodeURIComponent(database)}`;
}

export interface InitializeOptions extends Binaries, Omit<ServerFiles, 'logFile'> {
  readonly password: string;
  /** Those it will be started with: without `fsync`, its files are not synced either. */
  readonly settings: Settings;
}

/** Makes the files of a cluster, in UTF-8 with checksums; `onMade` runs just before they appear under their name. */
export async function initialize(options: InitializeOptions, onMade?: () => Promise<void>): Promise<void> {
  const { binDirectory, version, dataDirectory, account, password, settings } = options;
  await removeAbandoned(dataDirectory);
  // A name of its own: `initdb` of an attempt that was killed may live on, and goes on writing under its own.
  const staging = await mkdtemp(`${dataDirectory}${STAGING}`);
  const passwordFile = `${staging}.password`;
  try {
    await writeFile(passwordFile, password, { flag: 'wx', mode: 0o600 });
    if (account !== undefined) {
      for (const path of [staging, passwordFile]) await chown(path, account.uid, account.gid);
    }
    const args = ['-D', staging, '--username', SUPERUSER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'];
    args.push('--encoding', 'UTF8', '--data-checksums', ...localeArguments(version));
    if (settings['fsync'] === 'off') args.push('--no-sync');
    const { ok, output } = await run(join(binDirectory, 'initdb'), args, account);
    if (!ok) {
      throw new KeyringError(
        'database_unreachable',
        `The files of the embedded PostgreSQL could not be made: ${output}`,
        {
          remedy: 'Mend what it names (often a full disk), or set DATABASE_URL to a PostgreSQL 15 to 18.',
        },
      );
    }
    await onMade?.();
    await rename(staging, dataDirectory);
  } finally {
    await rm(passwordFile, { force: true });
    await rm(staging, { recursive: true, force: true });
  }
}

async function removeAbandoned(dataDirectory: string): Promise<void> {
  const folder = dirname(dataDirectory);
  for (const name of await readdir(folder)) {
    if (!name.startsWith(basename(dataDirectory) + STAGING)) continue;
    // Fails while an `initdb` still writes there; it ends soon, and the next attempt of anybody finds it.
    await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

function localeArguments(version: string): string[] {
  // The built-in provider sorts the same on every machine; the operating system's changes under an index.
  if (Number.parseInt(version, 10) < 17) return ['--locale', 'C.UTF-8'];
  return ['--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'];
}

export interface StartOptions extends ServerFiles {
  readonly binDirectory: string;
  readonly password: string;
  readonly settings: Settings;
  /** Taken if it is free: clients of the last start find their way back. */
  readonly preferredPort: number | null;
  /** Whether it outlives us and our terminal. */
  readonly detached: boolean;
  /** Milliseconds, epoch. Recovery after a crash can take a while; past this we stop waiting and leave it at work. */
  readonly deadline: number;
}

/**
 * Starts PostgreSQL and waits until it answers.
 * @returns its port.
 * @throws KeyringError `database_unreachable`, naming the log file.
 */
export async function startServer(options: StartOptions): Promise<number> {
  await forgetStrangersPid(options.dataDirectory);
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(attempt === 1 ? options.preferredPort : null);
    const failure = await startOn(port, options);
    if (failure === undefined) return port;
    // Started by a process that was killed before PostgreSQL had its pid file, and therefore its lock, to show.
    const earlier = await findPostmaster(options.dataDirectory);
    if (earlier !== undefined) return earlier.port;
    // Worth another go: the port may be taken since we looked, or backends of a killed postmaster still be leaving.
    if (attempt === STARTS) throw notStarted(options.logFile, failure);
    await delay(100 * attempt);
  }
}

async function startOn(port: number, options: StartOptions): Promise<string | undefined> {
  const log = await openLog(options.logFile);
  const settings = { ...always, ...options.settings, port: String(port) };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  try {
    const child = spawn(join(options.binDirectory, 'postgres'), ['-D', options.dataDirectory, ...args], {
      cwd: '/',
      env: childEnvironment,
      // Opened by us: PostgreSQL's account needs no right to the file, nor to where it is.
      stdio: ['ignore', log.fd, log.fd],
      detached: options.detached,
      ...options.account,
    });
    const exited = new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('exit', (code, signal) => resolve(`postgres ended with ${String(code ?? signal)}`));
    });
    child.unref();
    const answering = new AbortController();
    void exited.then(() => answering.abort());
    return await Promise.race([exited, answers(port, options, answering.signal)]);
  } finally {
    await log.close();
  }
}

async function answers(port: number, options: StartOptions, gaveUp: AbortSignal): Promise<undefined> {
  const { password, deadline, logFile } = options;
  while (!gaveUp.aborted) {
    const client = new pg.Client({ connectionString: superuserUrl(port, password) });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return undefined;
    } catch (error) {
      if (Date.now() > deadline) throw notStarted(logFile, 'it does not answer yet', error);
      await delay(20);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  return undefined;
}

function notStarted(logFile: string, reason: string, cause?: unknown): KeyringError {
  return new KeyringError('database_unreachable', `The embedded PostgreSQL did not start: ${reason}.`, {
    remedy: `Read the end of ${logFile}: PostgreSQL says there what keeps it from starting.`,
    details: { logFile },
    cause,
  });
}

async function openLog(path: string) {
  const size = await stat(path)
    .then((found) => found.size)
    .catch(() => 0);
  if (size > MAX_LOG_BYTES) await rename(path, `${path}.1`);
  return open(path, 'a', 0o600);
}

async function freePort(preferred: number | null): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error) => (preferred === null ? reject(error) : resolve(freePort(null))));
    probe.listen({ host: '127.0.0.1', port: preferred ?? 0, exclusive: true }, () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

/** The major version that the files in `dataDirectory` belong to; undefined when there are none. */
export async function dataVersion(dataDirectory: string): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8'), 10);
  } catch {
    return undefined;
  }
}
