import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { openKeyring, type Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createTestDatabase, query, session, type TestDatabase } from '../../../../test/support/database.ts';
import { canRun } from '../../../../test/support/required.ts';
import { outcome } from '../database/support.ts';
import { memoryRootKey } from './support/installation.ts';

// A backup is a copy of the whole database, made by PostgreSQL; old rows are taken from it and brought into the live one.
const rootKey = memoryRootKey();
let live: TestDatabase;
let backup: { name: string; adminUrl: string; serviceUrl: string };
let projectId: string;
let firstKey: string;

/** Opened and closed again: a database is copied, and dropped, only while nobody is in it. */
async function withKeyring<T>(url: string, work: (keyring: Keyring) => Promise<T>): Promise<T> {
  const keyring = await openKeyring({ database: url, rootKey });
  try {
    return await work(keyring);
  } finally {
    await keyring.close();
  }
}

const inLive = <T>(work: (keyring: Keyring) => Promise<T>): Promise<T> => withKeyring(live.serviceUrl, work);

function inDatabase(url: string, name: string): string {
  const other = new URL(url);
  other.pathname = `/${name}`;
  return other.href;
}

async function rotate(keyring: Keyring): Promise<void> {
  const { id } = await keyring.rotations.request({ projects: [projectId] });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
}

beforeEach(async () => {
  live = await createTestDatabase();
  await inLive(async (keyring) => {
    projectId = (await keyring.projects.create({ name: 'acme' })).id;
    for (const name of ['KEPT', 'LOST', 'BYTES']) await keyring.secrets.put(projectId, name, `the value of ${name}`);
    firstKey = (await keyring.keys.list({ projectId }))[0]?.id ?? '';
  });
  const name = `${live.name}_backup`;
  await expect
    .poll(() => outcome(query(inDatabase(live.adminUrl, 'postgres'), `create database ${name} template ${live.name}`)))
    .toBe('done');
  backup = { name, adminUrl: inDatabase(live.adminUrl, name), serviceUrl: inDatabase(live.serviceUrl, name) };
});
afterEach(async () => {
  await query(inDatabase(live.adminUrl, 'postgres'), `drop database ${backup.name} with (force)`);
  await live.drop();
});

interface OldRow {
  readonly id: string;
  readonly value_encrypted: Buffer;
  readonly encryption_key_id: string;
}

/** Brings one row of the backup into the live database, after `before`, in one transaction of the migrating role. */
async function restoreRow(key: string, before: string, url = live.ownerUrl): Promise<void> {
  const [row] = await query<OldRow & Record<string, unknown>>(
    backup.adminUrl,
    'select id, value_encrypted, encryption_key_id from public.secrets where key = $1',
    [key],
  );
  await using client = await session(url, 'restore');
  await client.query('begin');
  await client.query(before);
  await client.query(
    'insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id) values ($1, $2, $3, $4, $5)',
    [row?.id, projectId, key, row?.value_encrypted, row?.encryption_key_id],
  );
  await client.query('commit');
}

const throughTheDoor = `select keyring.open_restore_door('ticket 4711')`;

async function destroyFirstVersion(keyring: Keyring): Promise<void> {
  await query(live.adminUrl, `insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [
    projectId,
  ]);
  await rotate(keyring);
  await keyring.keys.destroy(firstKey, { reason: 'its retention is over' });
}

test('an old row comes back through the door, opens as stale, and the next rotation moves it', async () => {
  await inLive(async (keyring) => {
    await keyring.secrets.remove(projectId, 'LOST');
    await rotate(keyring);
    expect(await outcome(restoreRow('LOST', 'select'))).toBe('MK001');
    await restoreRow('LOST', throughTheDoor);
    expect(await keyring.secrets.get(projectId, 'LOST')).toMatchObject({
      value: 'the value of LOST',
      keyId: firstKey,
      stale: true,
    });
    await rotate(keyring);
    const moved = await keyring.secrets.get(projectId, 'LOST');
    expect(moved).toMatchObject({ value: 'the value of LOST', stale: false });
    expect(moved?.keyId).not.toBe(firstKey);
  });
  const entries = await query(
    live.adminUrl,
    `select actor, reason from keyring.audit_log where action = 'restore.door_opened'`,
  );
  expect(entries).toEqual([{ actor: `database:${new URL(live.ownerUrl).username}`, reason: 'ticket 4711' }]);
});

test('the login of the service cannot open the door', async () => {
  await inLive((keyring) => keyring.secrets.remove(projectId, 'LOST'));
  expect(await outcome(restoreRow('LOST', throughTheDoor, live.serviceUrl))).toBe('42501');
});

test('a version that was destroyed lets no row back in, and the refusal names it', async () => {
  await inLive(async (keyring) => {
    await keyring.secrets.remove(projectId, 'LOST');
    await destroyFirstVersion(keyring);
  });
  await expect(restoreRow('LOST', throughTheDoor)).rejects.toMatchObject({
    code: 'MK006',
    message: expect.stringContaining(firstKey) as string,
  });
});

test('a row under a destroyed version that got past the fence fails with an error that names the version', async () => {
  await inLive(async (keyring) => {
    await keyring.secrets.remove(projectId, 'LOST');
    await destroyFirstVersion(keyring);
    // As `pg_restore --disable-triggers` does.
    await restoreRow('LOST', 'set local session_replication_role = replica', live.adminUrl);
    await expect(keyring.secrets.get(projectId, 'LOST')).rejects.toMatchObject({
      code: 'key_destroyed',
      message: expect.stringContaining(firstKey) as string,
      details: { keyId: firstKey, version: 1 },
    });
    expect((await keyring.secrets.get(projectId, 'KEPT'))?.value).toBe('the value of KEPT');
    expect((await keyring.doctor()).healthy).toBe(false);
  });
});

test('a database that is restored as a whole needs no door: everything opens, even under what was destroyed since', async () => {
  await inLive(destroyFirstVersion);
  await withKeyring(backup.serviceUrl, async (keyring) => {
    for (const name of ['KEPT', 'LOST', 'BYTES']) {
      expect(await keyring.secrets.get(projectId, name)).toMatchObject({
        value: `the value of ${name}`,
        keyId: firstKey,
        stale: false,
      });
    }
    expect(await keyring.doctor()).toMatchObject({ healthy: true });
    await rotate(keyring);
  });
});

const hasPsql = canRun('pg15', existsSync('/usr/bin/psql'), 'there is no psql');

test.skipIf(!hasPsql)('the commands of docs/runbooks/restore-old-rows.md bring the rows back', async () => {
  const runbook = await readFile(
    path.join(import.meta.dirname, '../../../../docs/runbooks/restore-old-rows.md'),
    'utf8',
  );
  const commands = /```sh\n([^]*?)```/.exec(runbook)?.[1]?.replace(/^ {3}/gm, '') ?? '';
  const owner = new URL(live.ownerUrl);
  const folder = await mkdtemp(path.join(tmpdir(), 'keyring-restore-'));
  try {
    await inLive(async (keyring) => {
      await keyring.secrets.remove(projectId, 'LOST');
      await keyring.secrets.remove(projectId, 'BYTES');
      await rotate(keyring);
      await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', commands], {
        cwd: folder,
        env: {
          PATH: '/usr/bin:/bin',
          PGHOST: owner.hostname,
          PGPORT: owner.port,
          PGUSER: owner.username,
          PGPASSWORD: owner.password,
          BACKUP: backup.name,
          LIVE: live.name,
          PROJECT: projectId,
        },
      });
      for (const name of ['LOST', 'BYTES']) {
        expect(await keyring.secrets.get(projectId, name)).toMatchObject({
          value: `the value of ${name}`,
          stale: true,
        });
      }
      expect(await keyring.secrets.get(projectId, 'KEPT')).toMatchObject({ stale: false });
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
