import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { openKeyring } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { openCluster, openHost, type Host } from '../src/index.ts';
import { scramVerifier } from '../src/scram.ts';
import { isLongRun, longTest } from '../../../test/support/long.ts';

const opener = fileURLToPath(new URL('support/opener.ts', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'host-'));
const home = path.join(folder, 'home');
const rootKey = path.join(home, 'root.key');

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** In a process of its own. @returns what it made, or undefined if it was killed. */
function openElsewhere(where: string, killAfterMs?: number): Promise<{ made: string[]; secret: string } | undefined> {
  const child = spawn(process.execPath, ['--conditions=@meshhook/source', opener, where], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, error] = ['', ''];
  child.stdout.on('data', (text: Buffer) => (out += text.toString()));
  child.stderr.on('data', (text: Buffer) => (error += text.toString()));
  if (killAfterMs !== undefined) setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  return new Promise((resolve, reject) => {
    child.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(undefined);
      else if (code === 0) resolve(JSON.parse(out) as { made: string[]; secret: string });
      else reject(new Error(error));
    });
  });
}

test('what PostgreSQL stores of a password is what RFC 5803 says, so that we can send that and no password', () => {
  // Password, salt and iterations of the example in RFC 7677, section 3.
  expect(scramVerifier('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'))).toBe(
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
  );
});

test('processes that open an empty home at once make one database, one root key, one schema', async () => {
  const opened = await Promise.all(Array.from({ length: isLongRun ? 20 : 6 }, () => openElsewhere(home)));
  const made = opened.flatMap((one) => one?.made ?? []);
  expect(made.toSorted()).toEqual(['PostgreSQL database', 'root key', 'schema']);
  expect(new Set(opened.map((one) => one?.secret))).toEqual(new Set(['the same for all']));
});

describe('an open host', () => {
  let host: Host;
  beforeAll(async () => {
    host = await openHost({ home });
  });
  afterAll(() => host.close());

  test('made nothing when everything was there', () => {
    expect(host).toMatchObject({ made: [], applied: [], notices: [], embedded: true, home });
  });

  test('gives the service a login that owns nothing and bypasses nothing, and the owner one that is no superuser', async () => {
    const rights = `select rolname as name, rolsuper or rolbypassrls or rolcreatedb or rolreplication as mighty, rolcreaterole as roles
                    from pg_roles where rolname = current_user`;
    expect(await query(host.databaseUrl, rights)).toEqual([{ name: 'meshhook_service', mighty: false, roles: false }]);
    expect(await query(host.migrationUrl, rights)).toEqual([{ name: 'meshhook_owner', mighty: false, roles: true }]);
    expect(await query(host.databaseUrl, `select from pg_class where relowner = current_user::regrole`)).toEqual([]);
  });

  test('keeps its passwords and its root key for their owner alone', () => {
    for (const file of ['credentials.json', 'root.key'])
      expect(statSync(path.join(home, file)).mode & 0o777).toBe(0o600);
  });

  test('gets new passwords when the file of the old ones is gone', async () => {
    await rm(path.join(home, 'credentials.json'));
    const other = await openHost({ home });
    await other.close();
    expect(other.databaseUrl).not.toBe(host.databaseUrl);
    expect(await query(other.databaseUrl, 'select 1 as one')).toEqual([{ one: 1 }]);
  });
});

test('a root key that is gone is not made anew while there are keys', async () => {
  await rename(rootKey, `${rootKey}.away`);
  await expect(openHost({ home })).rejects.toMatchObject({
    ...{ code: 'root_key_missing', remedy: expect.stringContaining('Restore') },
    details: { path: rootKey },
  });
  expect(existsSync(rootKey)).toBe(false);
  await rename(`${rootKey}.away`, rootKey);
});

test('a log of every statement has no password in it', async () => {
  const fresh = path.join(folder, 'logged');
  const cluster = await openCluster({ home: fresh });
  await query(cluster.adminUrl(), `alter role postgres set log_statement = 'all'`);
  const host = await openHost({ home: fresh });
  await host.close();
  await cluster.close();
  const log = readFileSync(path.join(fresh, 'postgres.log'), 'utf8');
  expect(log).toContain(`create role meshhook_service`);
  for (const url of [host.databaseUrl, host.migrationUrl]) expect(log).not.toContain(new URL(url).password);
});

test('a root key that is half written is never taken for one', async () => {
  const fresh = path.join(folder, 'half');
  const cluster = await openCluster({ home: fresh });
  await cluster.close();
  await writeFile(path.join(fresh, 'root.key.new'), '# The root key of', { mode: 0o600 });
  const host = await openHost({ home: fresh });
  const keyring = await openKeyring({ database: host.databaseUrl, rootKey: host.rootKeyUri });
  await keyring.close();
  await host.close();
  expect(existsSync(path.join(fresh, 'root.key.new'))).toBe(false);
});

longTest('killed at any moment of the first start, the next start makes the rest', async () => {
  const fresh = path.join(folder, 'killed');
  const moments = [300, 600, 800, 1_000, 1_200, 1_400, 1_700];
  for (const ms of moments) await openElsewhere(fresh, ms);
  expect((await openElsewhere(fresh))?.secret).toBe('the same for all');
});

test('a database of somebody’s own is taken as it is, and needs a root key that is named', async () => {
  const databaseUrl = 'postgres://ada@db.example/app';
  await expect(openHost({ home: '/nowhere', databaseUrl })).rejects.toMatchObject({ code: 'root_key_missing' });
  const host = await openHost({ home: '/nowhere', databaseUrl, rootKeyUri: 'file:./root.key' });
  expect(host).toMatchObject({
    databaseUrl,
    migrationUrl: databaseUrl,
    rootKeyUri: 'file:./root.key',
    embedded: false,
    made: [],
  });
  expect(existsSync('/nowhere')).toBe(false);
});

test('a home that cannot be made is an error with a remedy', async () => {
  await writeFile(path.join(folder, 'file'), '');
  await expect(openHost({ home: path.join(folder, 'file', 'home') })).rejects.toMatchObject({
    ...{ code: 'database_unreachable', remedy: expect.stringContaining('MESHHOOK_HOME') },
  });
});
