import { randomBytes } from 'node:crypto';
import { chown, mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { accountFor } from './account.ts';
import { installedBinaries, runnableBinaries } from './binaries.ts';
import { SHARED_DIRECTORY } from './placement.ts';
import { isAlive, stopPostmaster, type StopMode } from './postmaster.ts';
import { canEnter, type Account } from './process.ts';
import { initialize, startServer, superuserUrl, type Settings } from './server.ts';

export interface ScratchOptions {
  /** The PostgreSQL to run, `/usr/lib/postgresql/15/bin` for example. Default: the one from npm. */
  readonly binDirectory?: string;
  /** PostgreSQL settings, over ours. */
  readonly settings?: Settings;
  /** Where its folder is made. Default: the system's folder for temporary files. */
  readonly baseDirectory?: string;
}

/** A throwaway cluster, for tests and measurements. Logs as an ordinary server does, statements and details included. */
export interface ScratchCluster {
  /** A URL as superuser. Default database `postgres`. */
  adminUrl(database?: string): string;
  /** Kept over a restart unless another program takes it meanwhile. */
  readonly port: number;
  readonly dataDirectory: string;
  readonly binDirectory: string;
  /** Such as `18.4`. */
  readonly version: string;
  readonly logFile: string;
  /** `immediate` stops it as a crash would. Nothing that was committed is lost. @throws Error once it was told to stop. */
  restart(mode?: StopMode): Promise<void>;
  /** Stops it, once a restart that is under way is through, and removes its files. May be called again. */
  stop(): Promise<void>;
}

// Not `synchronous_commit`: without it an immediate stop loses what was acknowledged, and tests count on that.
const throwaway: Settings = {
  cluster_name: 'meshhook-scratch',
  fsync: 'off',
  full_page_writes: 'off',
  max_wal_size: '4GB',
  shared_buffers: '128MB',
  max_connections: '100',
  log_timezone: 'UTC',
};

const PREFIX = 'meshhook-scratch-';

/**
 * Starts a throwaway cluster. It ends with `stop()`, or with the signal that ends us at the terminal; one whose process
 * was killed is cleared away by the next call.
 * @throws KeyringError `database_unreachable`.
 */
export async function startScratchCluster(options: ScratchOptions = {}): Promise<ScratchCluster> {
  const account = await accountFor();
  const directory = await makeDirectory(options.baseDirectory ?? tmpdir(), account);
  const password = randomBytes(24).toString('base64url');
  const settings = { ...throwaway, ...options.settings };
  const files = { dataDirectory: join(directory, 'data'), logFile: join(directory, 'postgres.log'), account };
  let port: number | null = null;
  let restarted: Promise<void> = Promise.resolve();
  let ended = false;

  async function start(binDirectory: string): Promise<number> {
    const deadline = Date.now() + 60_000;
    return startServer({ ...files, binDirectory, password, settings, preferredPort: port, detached: false, deadline });
  }
  async function stop(): Promise<void> {
    ended = true;
    // A server that is just starting goes on writing into the folder. What became of its start, its caller is told.
    await restarted.catch(() => undefined);
    await stopPostmaster(files.dataDirectory, 'immediate');
    await rm(directory, { recursive: true, force: true });
  }

  try {
    const binaries = await runnableBinaries(options.binDirectory ?? installedBinaries(), account, SHARED_DIRECTORY);
    await initialize({ ...binaries, ...files, password, settings });
    port = await start(binaries.binDirectory);
    return {
      ...binaries,
      dataDirectory: files.dataDirectory,
      logFile: files.logFile,
      adminUrl: (database) => superuserUrl(port ?? 0, password, database),
      get port() {
        return port ?? 0;
      },
      async restart(mode = 'fast') {
        if (ended) throw new Error('A scratch cluster that was told to stop does not start again.');
        const restart = async (): Promise<void> => {
          await stopPostmaster(files.dataDirectory, mode);
          port = await start(binaries.binDirectory);
        };
        restarted = restarted.then(restart, restart);
        return restarted;
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function makeDirectory(base: string, account: Account | undefined): Promise<string> {
  const root = await realpath(account === undefined || (await canEnter(base, account)) ? base : '/tmp');
  await clearAway(root);
  const directory = await mkdtemp(join(root, `${PREFIX}${String(process.pid)}-`));
  if (account !== undefined) await chown(directory, account.uid, account.gid);
  return directory;
}

async function clearAway(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const owner = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN;
    if (Number.isNaN(owner) || isAlive(owner)) continue;
    const directory = join(root, name);
    // Another user's is for another user to clear.
    await stopPostmaster(join(directory, 'data'), 'immediate').catch(() => undefined);
    await rm(directory, { recursive: true, force: true }).catch(() => undefined);
  }
}
