import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

/** Since 1.21 it follows which server connection knows which prepared statement. */
const TRACKS_SINCE = [1, 21] as const;

export interface Found {
  readonly version: string;
  readonly tracksPreparedStatements: boolean;
}

/** The pgbouncer of this machine, or undefined when there is none. */
export function findPgbouncer(): Found | undefined {
  const { stdout } = spawnSync('pgbouncer', ['--version'], { encoding: 'utf8', env: environment });
  const [, major, minor] = /PgBouncer (\d+)\.(\d+)/.exec(stdout) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  const newer =
    Number(major) > TRACKS_SINCE[0] || (Number(major) === TRACKS_SINCE[0] && Number(minor) >= TRACKS_SINCE[1]);
  return { version: `${major}.${minor}`, tracksPreparedStatements: newer };
}

export interface PoolerOptions {
  /** Where it connects to, with the login that the clients use as well. */
  readonly url: string;
  /** Server connections at most. */
  readonly poolSize: number;
  /** Prepared statements it follows; needs a pgbouncer that does. Default: none. */
  readonly preparedStatements?: number;
}

export interface Pooler extends AsyncDisposable {
  /** The same database, through the pooler. */
  readonly url: string;
}

const environment = { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

/** A pgbouncer in transaction mode, on the loopback, until it is disposed of. */
export async function startPooler(options: PoolerOptions): Promise<Pooler> {
  const server = new URL(options.url);
  const port = await freePort();
  const directory = await mkdtemp(path.join(tmpdir(), 'keyring-pgbouncer-'));
  const logFile = path.join(directory, 'log');
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: '',
    auth_type: 'scram-sha-256',
    auth_file: path.join(directory, 'users'),
    logfile: logFile,
    pool_mode: 'transaction',
    default_pool_size: options.poolSize,
    max_client_conn: 200,
    ...(options.preparedStatements === undefined ? {} : { max_prepared_statements: options.preparedStatements }),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${String(value)}`);
  const files = {
    ini: `[databases]\n* = host=${server.hostname} port=${server.port}\n\n[pgbouncer]\n${lines.join('\n')}\n`,
    users: `"${server.username}" "${decodeURIComponent(server.password)}"\n`,
  };
  const account = unprivileged();
  for (const [name, text] of Object.entries(files)) {
    await writeFile(path.join(directory, name), text, { mode: 0o600 });
    if (account !== undefined) await chown(path.join(directory, name), account.uid, account.gid);
  }
  if (account !== undefined) await chown(directory, account.uid, account.gid);

  // `--quiet`: it writes its log to the file, and nothing besides.
  const child = spawn('pgbouncer', ['--quiet', path.join(directory, 'ini')], {
    cwd: '/',
    env: environment,
    stdio: 'ignore',
    ...account,
  });
  const url = new URL(options.url);
  url.port = String(port);
  const dispose = async (): Promise<void> => {
    await ended(child);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await untilItAnswers(url.href, child);
  } catch (error) {
    const log = await readFile(logFile, 'utf8').catch(() => 'no log');
    await dispose();
    throw new Error(`pgbouncer does not answer:\n${log}`, { cause: error });
  }
  return { url: url.href, [Symbol.asyncDispose]: dispose };
}

async function untilItAnswers(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query('select 1');
      return;
    } catch (error) {
      if (Date.now() > deadline || child.exitCode !== null) throw error;
      await delay(30);
    } finally {
      await client.end();
    }
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await over;
}

/** It refuses to run as root; any other user will do, and `nobody` is on every machine. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string): number => Number(spawnSync('id', [flag, 'nobody'], { encoding: 'utf8' }).stdout);
  return { uid: id('-u'), gid: id('-g') };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
