import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chown, mkdtemp, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { ScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { query } from '../../support/database.ts';

/** PostgreSQL as Debian ships it, with the programs that copy a cluster: the one from npm has the server alone. */
export const POSTGRES_15 = '/usr/lib/postgresql/15/bin';
export const hasPostgres15 = existsSync(`${POSTGRES_15}/pg_basebackup`);

/** Runs one of them to its end against a server. @throws Error with what it printed. */
export async function run(
  program: string,
  args: readonly string[],
  { url, account }: { readonly url: string; readonly account?: { uid: number; gid: number } },
): Promise<void> {
  const { hostname, port, username, password } = new URL(url);
  const child = spawn(path.join(POSTGRES_15, program), args, {
    cwd: '/',
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', PGHOST: hostname, PGPORT: port, PGUSER: username, PGPASSWORD: password },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...account,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`${program} ended with ${String(code)}: ${output}`);
}

/** A standby of a cluster, that streams from it. */
export interface Standby {
  /** Of a database, as whom the other URL logs in. */
  urlOf(url: string): string;
  /** Takes what was sent so far, and nothing more. */
  cutOff(): Promise<void>;
  promote(): Promise<void>;
  /** Answers where the one answered that it took over from: as behind a name that was moved. */
  moveTo(port: number): Promise<void>;
  stop(): Promise<void>;
}

/** `synchronous`: the primary acknowledges nothing that this one has not. */
export async function startStandby(
  primary: ScratchCluster,
  { synchronous }: { synchronous: boolean },
): Promise<Standby> {
  const { uid, gid } = await stat(primary.dataDirectory);
  const account = process.getuid?.() === 0 ? { uid, gid } : undefined;
  const as = account === undefined ? {} : { account };
  const folder = await mkdtemp('/tmp/keyring-standby-');
  if (account !== undefined) await chown(folder, uid, gid);
  const data = path.join(folder, 'data');
  const adminUrl = primary.adminUrl();
  let port = await freePort();
  const urlOf = (url: string): string => {
    const made = new URL(url);
    made.port = String(port);
    return made.href;
  };
  const start = (): Promise<void> => {
    const settings = `-p ${String(port)} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off`;
    const log = ['-l', path.join(folder, 'log'), '-w', '-t', '120'];
    return run('pg_ctl', ['start', '-D', data, '-o', settings, ...log], { url: urlOf(adminUrl), ...as });
  };
  const halt = (mode: string): Promise<void> =>
    run('pg_ctl', ['stop', '-D', data, '-m', mode, '-w'], { url: urlOf(adminUrl), ...as });
  await run('pg_basebackup', ['-D', data, '-R', '-X', 'stream', '-c', 'fast', '--no-sync'], { url: adminUrl, ...as });
  await start();
  if (synchronous) {
    await query(adminUrl, `alter system set synchronous_standby_names = '*'`);
    await query(adminUrl, 'select pg_reload_conf()');
  }
  await until(
    async () =>
      (
        await query(adminUrl, `select from pg_stat_replication where state = 'streaming' and sync_state = $1`, [
          synchronous ? 'sync' : 'async',
        ])
      ).length === 1,
  );
  return {
    urlOf,
    async cutOff() {
      const [sent] = await query<{ lsn: string }>(adminUrl, 'select pg_current_wal_lsn()::text as lsn');
      const taken = `select from pg_stat_replication where replay_lsn >= $1::pg_lsn`;
      await until(async () => (await query(adminUrl, taken, [sent?.lsn])).length === 1);
      await query(urlOf(adminUrl), `alter system set primary_conninfo = ''`);
      await query(urlOf(adminUrl), 'select pg_reload_conf()');
      await until(async () => (await query(adminUrl, 'select from pg_stat_replication')).length === 0);
    },
    async promote() {
      await query(urlOf(adminUrl), 'select pg_promote(true, 120)');
    },
    async moveTo(other) {
      await halt('fast');
      port = other;
      await start();
    },
    async stop() {
      await halt('immediate').catch(() => undefined);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** As a machine that is gone: nothing that it had is there any more. */
export function lose(
  { dataDirectory }: ScratchCluster,
  adminUrl: string,
  owner: { uid: number; gid: number },
): Promise<void> {
  const account = process.getuid?.() === 0 ? { account: owner } : {};
  return run('pg_ctl', ['stop', '-D', dataDirectory, '-m', 'immediate', '-w'], { url: adminUrl, ...account });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 120_000; !(await condition());) {
    if (Date.now() > deadline) throw new Error('It did not come to be.');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen({ host: '127.0.0.1', port: 0 }, () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
