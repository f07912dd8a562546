import { spawn } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { openCluster, type Cluster } from '../src/index.ts';
import { findPostmaster, stopPostmaster } from '../src/postmaster.ts';
import { run } from '../src/process.ts';
import { eventually, factsOf, hold, isUp, newHome, quick, startHolder } from './support/holders.ts';
import { longTest } from '../../../test/support/long.ts';

const answer = async (url: string) => (await query<{ one: number }>(url, 'select 1 as one'))[0]?.one;

longTest('ten processes that open an empty home at once get one cluster, and the last one out stops it', async () => {
  const home = await newHome();
  const held = await Promise.all(Array.from({ length: 10 }, () => hold(home)));

  expect(held.filter((one) => one.created)).toHaveLength(1);
  expect(held.filter((one) => one.started)).toHaveLength(1);
  expect(new Set(held.map((one) => one.adminUrl)).size).toBe(1);
  const [last, ...others] = held;
  await Promise.all(others.map((one) => one.close()));
  expect(await answer(last!.adminUrl)).toBe(1);
  await last!.close();
  expect(await isUp(last!.dataDirectory)).toBe(false);
});

longTest('processes that come and go while others start and stop it always get in', async () => {
  const home = await newHome();
  const script = join(import.meta.dirname, 'support/visitor.ts');
  const visitors = Array.from({ length: 4 }, () => startHolder(home, { script }));
  for (const { exit, errors } of visitors) {
    const [code] = (await exit) as [number];
    expect(errors()).toBe('');
    expect(code).toBe(0);
  }
  expect(await isUp((await factsOf(home)).dataDirectory)).toBe(false);
});

test('the last two to leave at the same moment leave nothing running', async () => {
  const home = await newHome();
  for (let round = 0; round < 5; round++) {
    const settings = quick;
    const both = await Promise.all([openCluster({ home, settings }), openCluster({ home, settings })]);
    await Promise.all(both.map((one) => one.close()));
    expect(await isUp(both[0].dataDirectory)).toBe(false);
  }
});

test('what is in it is there again after it was stopped', async () => {
  const home = await newHome();
  const first = await openCluster({ home, settings: quick });
  await query(first.adminUrl(), 'create table kept as select 7 as n');
  await first.close();
  const second = await openCluster({ home, settings: quick });
  expect(second).toMatchObject({ started: true, created: false, port: first.port });
  expect(await query(second.adminUrl(), 'select n from kept')).toEqual([{ n: 7 }]);
  await second.close();
  await second.close();
});

test('kill -9 of a process that has it open leaves it up; the next one joins it, and stops it when it leaves', async () => {
  const home = await newHome();
  const killed = await hold(home);
  await killed.kill();
  const next = await hold(home);
  expect(next).toMatchObject({ started: false, port: killed.port });
  await next.close();
  expect(await isUp(next.dataDirectory)).toBe(false);
});

longTest('kill -9 at any moment of making a cluster leaves nothing that the next one stumbles over', async () => {
  for (const moment of [300, 450, 600, 800, 1000]) {
    const home = await newHome();
    const { child, exit } = startHolder(home);
    await delay(moment);
    child.kill('SIGKILL');
    await exit;
    const next = await hold(home);
    expect(await answer(next.adminUrl)).toBe(1);
    await next.close();
  }
});

longTest('a cluster whose password is on disk and whose data is not yet is made again', async () => {
  const home = await newHome();
  const killed = await openCluster({ home, settings: quick });
  await killed.close();
  await writeFile(join(home, 'postgres.json'), JSON.stringify({ ...(await factsOf(home)), port: null }));
  await rm(killed.dataDirectory, { recursive: true });
  await writeFile(`${killed.dataDirectory}.new-abandoned.password`, 'left behind');
  const next = await openCluster({ home, settings: quick });
  expect(next.created).toBe(true);
  expect(await answer(next.adminUrl())).toBe(1);
  expect((await readdir(home)).filter((name) => name.includes('.new-'))).toEqual([]);
  await next.close();
});

test('after an immediate stop the next one starts it with recovery, and those still there are counted again', async () => {
  const home = await newHome();
  const stayed = await openCluster({ home, settings: quick });
  await query(stayed.adminUrl(), 'create table kept as select 7 as n');
  await stopPostmaster(stayed.dataDirectory, 'immediate');

  const next = await hold(home);
  expect(next.started).toBe(true);
  expect(await readFile(stayed.logFile, 'utf8')).toContain('automatic recovery in progress');
  expect(await query(next.adminUrl, 'select n from kept')).toEqual([{ n: 7 }]);

  const present = `select from pg_stat_activity where application_name = 'meshhook-keyring presence of ${process.pid}'`;
  await eventually(async () => (await query(next.adminUrl, present)).length === 1);
  await next.close();
  expect(await answer(stayed.adminUrl())).toBe(1);
  await stayed.close();
  expect(await isUp(stayed.dataDirectory)).toBe(false);
});

test('a postmaster that was killed leaves a stale pid file that hurts nobody', async () => {
  const home = await newHome();
  const before = await openCluster({ home, settings: quick });
  process.kill((await findPostmaster(before.dataDirectory))!.pid, 'SIGKILL');
  const after = await openCluster({ home, settings: quick });
  expect(after.started).toBe(true);
  expect(await answer(after.adminUrl())).toBe(1);
  await before.close();
  await after.close();
  expect(await isUp(after.dataDirectory)).toBe(false);
});

longTest('a stale pid file whose process id went to another program, as after a reboot, hurts nobody', async () => {
  const home = await newHome();
  const before = await openCluster({ home, settings: quick });
  const pidFile = join(before.dataDirectory, 'postmaster.pid');
  const original = await readFile(pidFile, 'utf8');
  await before.close();
  // One of the same user, whom PostgreSQL has to take for a postmaster.
  const { uid, gid } = await stat(before.dataDirectory);
  const stranger = spawn('sleep', ['60'], { uid, gid, cwd: '/', stdio: 'ignore' });
  onTestFinished(() => void stranger.kill());
  await writeFile(pidFile, original.replace(/^\d+/, String(stranger.pid)));
  const after = await openCluster({ home, settings: quick });
  expect(await answer(after.adminUrl())).toBe(1);
  await after.close();
});

test('no password in a command line or an environment, none of our environment in that of PostgreSQL', async () => {
  const home = await newHome();
  const opening = hold(home, { env: { ...process.env, BYSTANDER: 'sk_live_bystander' } });
  let seen = '';
  for (let open = false; !open;) {
    seen += (await run('ps', ['-eww', '-o', 'args'])).output;
    open = await Promise.race([opening.then(() => true), delay(5, false)]);
  }
  const held = await opening;
  const { password } = await factsOf(home);
  expect(password).toMatch(/^[\w-]{32}$/);
  expect(seen).toContain('initdb');
  expect(seen).not.toContain(password);
  const { pid } = (await findPostmaster(held.dataDirectory))!;
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
  expect(environment).not.toContain('bystander');
  expect(environment).not.toContain(password);
  await held.close();
});

describe('one that is open', () => {
  let home: string;
  let cluster: Cluster;
  beforeAll(async () => {
    home = join(await mkdtemp(join(await realpath(tmpdir()), 'keyring-embedded-')), '.meshhook');
    await chmod(dirname(home), 0o755);
    cluster = await openCluster({ home, settings: quick });
  });
  afterAll(async () => {
    await cluster.close();
    await rm(dirname(home), { recursive: true });
  });

  test('it listens on 127.0.0.1 only, without a socket in the file system, and demands the password', async () => {
    const rows = await query(
      cluster.adminUrl(),
      `select current_setting('listen_addresses') as addresses, current_setting('unix_socket_directories') as sockets,
              current_setting('data_checksums') as checksums, current_setting('server_encoding') as encoding,
              (select datlocale from pg_database where datname = 'postgres') as locale,
              (select count(*)::int from pg_hba_file_rules where auth_method <> 'scram-sha-256') as open_doors`,
    );
    const encoding = { checksums: 'on', encoding: 'UTF8', locale: 'C.UTF-8' };
    expect(rows).toEqual([{ addresses: '127.0.0.1', sockets: '', open_doors: 0, ...encoding }]);
    const wrong = cluster.adminUrl().replace(/:[\w-]{32}@/, ':wrong@');
    await expect(query(wrong, 'select 1')).rejects.toMatchObject({ code: '28P01' });
  });

  test('nothing it makes can be read by others', async () => {
    const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);
    for (const name of ['postgres.json', 'postgres.log', 'postgres.lock']) {
      expect([name, await mode(join(home, name))]).toEqual([name, '600']);
    }
    expect(await mode(cluster.dataDirectory)).toBe('700');
    // As root, PostgreSQL's group passes through to the data: no right to list, none for others.
    expect(await mode(home)).toBe(process.getuid?.() === 0 ? '710' : '700');
    expect((await readdir(home)).filter((name) => name.includes('password'))).toEqual([]);
  });

  test('no value reaches its log: not by a statement, not by a parameter, not by the detail of an error', async () => {
    const url = cluster.adminUrl();
    await query(url, 'create table t (v text primary key check (length(v) > 30))');
    await expect(query(url, `insert into t values ('sk_live_statement')`)).rejects.toMatchObject({ code: '23514' });
    await expect(query(url, 'insert into t values ($1)', ['sk_live_parameter'])).rejects.toMatchObject({
      code: '23514',
    });
    await query(url, 'insert into t values ($1)', ['sk_live_twice'.padEnd(40)]);
    const again = query(url, 'insert into t values ($1)', ['sk_live_twice'.padEnd(40)]);
    await expect(again).rejects.toMatchObject({ code: '23505' });
    const log = await readFile(cluster.logFile, 'utf8');
    expect(log).toContain('violates check constraint');
    expect(log).not.toContain('sk_live');
  });
});

longTest('when postgres.json is gone, the database in the home is neither opened nor overwritten', async () => {
  const home = await newHome();
  const cluster = await openCluster({ home, settings: quick });
  await cluster.close();
  await rm(join(home, 'postgres.json'));
  const opening = openCluster({ home, settings: quick });
  await expect(opening).rejects.toMatchObject({
    code: 'database_unreachable',
    remedy: expect.stringContaining('postgres.json'),
  });
  expect(await stat(join(cluster.dataDirectory, 'PG_VERSION'))).toBeDefined();
});

test('when the data is gone, it says so instead of beginning with an empty database', async () => {
  const home = await newHome();
  const cluster = await openCluster({ home, settings: quick });
  await cluster.close();
  await rm(cluster.dataDirectory, { recursive: true });
  await expect(openCluster({ home, settings: quick })).rejects.toThrow(/is gone/);
});

longTest('a PostgreSQL that does not start is reported with its log file', async () => {
  const home = await newHome();
  const opening = openCluster({ home, settings: { ...quick, shared_buffers: 'plenty' } });
  await expect(opening).rejects.toMatchObject({
    code: 'database_unreachable',
    remedy: expect.stringContaining('postgres.log'),
  });
});
