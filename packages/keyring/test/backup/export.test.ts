import { createHash } from 'node:crypto';
import {
  insecureExportBackup,
  listBackups,
  pgDatabase,
  recoverFromBackup,
  verifyBackup,
  type Backup,
  type Database,
} from '@meshhook/keyring';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { strikeEveryStatement } from '../engine/support/faults.ts';
import { rejected } from '../support/thrown.ts';
import { memoryRootKey, startInstallation, type Installation } from '../engine/support/installation.ts';
import { auditPosition, auditSince, makeProject, type KnownProject } from '../engine/support/world.ts';
import { addWrappingKey, backUp, forgetBackups, inTheClear } from './support/backups.ts';

let installation: Installation;
let database: Database;
let project: KnownProject;

beforeAll(async () => {
  installation = await startInstallation();
  database = pgDatabase({ connectionString: installation.test.serviceUrl });
  const keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 2 });
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(id);
});
afterEach(() => forgetBackups(installation));
afterAll(async () => {
  await database.close();
  await installation.end();
});

test('a backup says what it is of, and what there was', async () => {
  const backup = await backUp(database, installation.rootKey);
  const [here] = await installation.sql<{ id: string; schema: string }>(
    'select id, keyring.schema_version() as schema from keyring.installation',
  );
  const [key] = await installation.sql<{ id: string; check: string }>(
    `select id, encode(fingerprint, 'base64') as check from keyring.wrapping_keys`,
  );
  expect(backup).toMatchObject({
    installationId: here?.id,
    schemaVersion: here?.schema,
    recipients: ['age1test'],
    rootKey: { uri: 'memory:test', included: false },
    wrappingKeys: [{ id: key?.id, version: 1, state: 'enabled', primary: true, fingerprint: key?.check }],
    signingKeys: [{ version: 1 }],
    database: { projects: 1, dataKeys: 2, newestDataKeyAt: expect.any(Date), newestEntryAt: expect.any(Date) },
  });
});

test('the trail says what leaves before it leaves, to whom and which file, and again when it has arrived; never a key', async () => {
  const since = await auditPosition(installation);
  const { options } = inTheClear(database, installation.rootKey);
  let meanwhile: unknown;
  let file = Buffer.alloc(0);
  const record = await insecureExportBackup({
    ...options,
    async write(bytes) {
      file = Buffer.from(bytes);
      meanwhile = {
        entries: await auditSince(installation, since),
        written: (await listBackups({ database })).map(({ writtenAt }) => writtenAt),
      };
    },
  });
  expect(meanwhile).toEqual({ entries: { 'root_key.backup_sealed': 1 }, written: [undefined] });
  expect(await auditSince(installation, since)).toEqual({ 'root_key.backup_sealed': 1, 'root_key.backed_up': 1 });
  const fileSha256 = createHash('sha256').update(file).digest('hex');
  expect(record).toMatchObject({ fileSha256, complete: true, writtenAt: expect.any(Date), verifiedAt: undefined });
  expect(await listBackups({ database })).toEqual([record]);

  const entries = await installation.sql<{ subject: string; actor: string; details: object }>(
    `select subject, actor, details from keyring.audit_log where id > $1`,
    [since],
  );
  for (const entry of entries) {
    expect(entry).toEqual({
      ...{ subject: `root_key_backup:${record.id}`, actor: 'test' },
      details: {
        recipients: ['age1test'],
        wrappingKeys: record.wrappingKeyIds,
        rootKey: record.rootFingerprint,
        rootKeyIncluded: false,
        fileSha256,
      },
    });
  }
  const stored = JSON.stringify(await installation.sql('select * from keyring.root_key_backups, keyring.audit_log'));
  const document = JSON.parse(file.toString()) as { wrappingKeys: { key: string }[] };
  for (const { key } of document.wrappingKeys) expect(stored).not.toContain(key.slice(0, 12));
});

test('the document is overwritten once it is sealed, also when sealing fails', async () => {
  const { options } = inTheClear(database, installation.rootKey);
  const since = await auditPosition(installation);
  for (const fails of [false, true]) {
    let given: Uint8Array = new Uint8Array();
    await insecureExportBackup({
      ...options,
      async seal(document) {
        given = document;
        if (fails) throw new Error('no such recipient');
        return Buffer.from('sealed');
      },
    }).catch((error: unknown) => expect((error as Error).message).toBe('no such recipient'));
    expect(given.length).toBeGreaterThan(500);
    expect(given.every((byte) => byte === 0)).toBe(true);
  }
  // Of the one that was never sealed nobody has to know.
  expect(await auditSince(installation, since)).toEqual({ 'root_key.backup_sealed': 1, 'root_key.backed_up': 1 });
});

test('a backup that did not reach its file is told from one that did', async () => {
  const since = await auditPosition(installation);
  const { options } = inTheClear(database, installation.rootKey);
  const write = (): Promise<void> => Promise.reject(new Error('the disk is full'));
  await expect(insecureExportBackup({ ...options, write })).rejects.toThrow('the disk is full');
  expect(await auditSince(installation, since)).toEqual({
    'root_key.backup_sealed': 1,
    'root_key.backed_up (failed)': 1,
  });
  expect(await listBackups({ database })).toMatchObject([{ writtenAt: undefined, complete: true }]);
});

test('a wrapping key that the root key at hand does not open makes no backup without it', async () => {
  const { id } = await addWrappingKey(installation, project.id);
  expect((await backUp(database, installation.rootKey)).wrappingKeys.map((key) => key.version)).toEqual([1, 2]);
  await installation.behindTheFence('delete from keyring.wrapped_wrapping_keys where wrapping_key_id = $1', [id]);
  expect(await rejected(backUp(database, installation.rootKey))).toMatchObject({
    code: 'wrong_root_key',
    message: expect.stringContaining('version 2'),
  });
  expect(await rejected(backUp(database, memoryRootKey()))).toMatchObject({ code: 'wrong_root_key' });
});

test('a wrapping key that was destroyed is not in a backup, and not missed', async () => {
  const { id } = await addWrappingKey(installation, undefined);
  await backUp(database, installation.rootKey);
  await installation.behindTheFence(
    `update keyring.wrapping_keys set state = 'destroyed', destroyed_at = now() where id = $1`,
    [id],
  );
  await installation.behindTheFence('delete from keyring.wrapped_wrapping_keys where wrapping_key_id = $1', [id]);
  expect((await backUp(database, installation.rootKey)).wrappingKeys).toHaveLength(1);
  expect((await listBackups({ database })).map(({ complete }) => complete)).toEqual([true, true]);
});

test('an older backup is no longer complete once there is a newer wrapping key', async () => {
  await backUp(database, installation.rootKey);
  await addWrappingKey(installation, undefined);
  expect((await listBackups({ database })).map(({ complete }) => complete)).toEqual([false]);
  await backUp(database, installation.rootKey);
  expect((await listBackups({ database })).map(({ complete }) => complete)).toEqual([true, false]);
});

test('doctor warns until a backup holds the newest wrapping key, and was verified', async () => {
  const keyring = await installation.open();
  // That one admin is alone is another test's.
  const warnings = async (): Promise<string[]> =>
    (await keyring.doctor()).findings.map(({ code }) => code).filter((code) => code !== 'single_admin');
  const verify = (backup: Backup) => verifyBackup({ database, backup, actor: 'test' });
  const { options } = inTheClear(database, installation.rootKey);
  expect(await warnings()).toEqual(['no_backup']);
  await insecureExportBackup({ ...options, write: () => Promise.reject(new Error('full')) }).catch(() => undefined);
  expect(await warnings()).toEqual(['no_backup']);
  const backup = await backUp(database, installation.rootKey);
  expect(await warnings()).toEqual(['backup_not_verified']);
  await verify(backup);
  expect(await warnings()).toEqual([]);
  await addWrappingKey(installation, undefined);
  expect(await warnings()).toEqual(['backup_outdated']);
  // An older one, verified again, is not a newer one.
  await verify(backup);
  expect(await warnings()).toEqual(['backup_outdated']);
  const newer = await backUp(database, installation.rootKey);
  expect(await warnings()).toEqual(['backup_not_verified']);
  await verify(newer);
  expect(await warnings()).toEqual([]);
});

test('that loses any one statement: nothing has left that the trail does not know', async () => {
  const points = await strikeEveryStatement({
    plans: [
      { when: 'before it is sent', then: 'the process is gone' },
      { when: 'after it was carried out', then: 'the process is gone' },
    ],
    prepare: async () => ({ left: false, since: await auditPosition(installation) }),
    async act(world, fault) {
      const { options } = inTheClear(fault.wrap(database), installation.rootKey);
      fault.arm();
      await insecureExportBackup({ ...options, write: async () => void (world.left = true) });
    },
    async recover(world) {
      const entries = await auditSince(installation, world.since);
      const [last] = await listBackups({ database });
      if (world.left) expect(entries).toMatchObject({ 'root_key.backup_sealed': 1 });
      if (last?.writtenAt !== undefined) expect(entries).toMatchObject({ 'root_key.backed_up': 1 });
      expect(entries['root_key.backed_up'] ?? 0).toBe(last?.writtenAt === undefined ? 0 : 1);
      await forgetBackups(installation);
    },
  });
  console.log(`backup: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(20);
});

test('an empty installation gets its first wrapping key, and a backup of it', async () => {
  const empty = await startInstallation();
  const port = pgDatabase({ connectionString: empty.test.serviceUrl });
  try {
    expect(await backUp(port, empty.rootKey)).toMatchObject({
      wrappingKeys: [{ version: 1, primary: true }],
      database: { projects: 0, dataKeys: 0, newestDataKeyAt: undefined },
    });
  } finally {
    await port.close();
    await empty.end();
  }
});

test('while the root key changes, wrapping keys may be under one or the other', async () => {
  const { id } = await addWrappingKey(installation, project.id);
  const next = memoryRootKey();
  const first = await backUp(database, installation.rootKey);
  await recoverFromBackup({ database, backup: first, rootKey: async () => next, actor: 'test' });
  const { fingerprint } = await installation.rootKey.status();
  await installation.behindTheFence(
    `delete from keyring.wrapped_wrapping_keys c using keyring.root_keys r
     where r.id = c.root_key_id and r.fingerprint = $1 and c.wrapping_key_id = $2`,
    [fingerprint, id],
  );
  expect(await rejected(backUp(database, installation.rootKey))).toMatchObject({ code: 'wrong_root_key' });
  const { options, backup } = inTheClear(database, installation.rootKey);
  await insecureExportBackup({ ...options, rootKey: [installation.rootKey, next] });
  expect(backup()).toMatchObject({ rootKey: { fingerprint }, wrappingKeys: [{ version: 1 }, { version: 2 }] });
});

test('the login of the service cannot change what a backup was, nor delete that it was made', async () => {
  await backUp(database, installation.rootKey);
  for (const text of [
    `update keyring.root_key_backups set file_sha256 = null`,
    `update keyring.root_key_backups set wrapping_key_ids = '{}'`,
    `delete from keyring.root_key_backups`,
    `update keyring.installation set id = gen_random_uuid()`,
  ]) {
    expect(await rejected(database.query({ text }))).toMatchObject({ details: { sqlState: '42501' } });
  }
});
