import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  createRootKeyFile,
  insecureExportBackup,
  listBackups,
  openKeyring,
  openRootKey,
  pgDatabase,
  recoverFromBackup,
  verifyBackup,
  type Backup,
  type Database,
  type Keyring,
  type RootKeyProvider,
} from '@meshhook/keyring';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { strikeEveryStatement } from '../engine/support/faults.ts';
import { memoryRootKey, startInstallation, type Installation } from '../engine/support/installation.ts';
import {
  addWebhooksTable,
  auditPosition,
  auditSince,
  makeProject,
  type KnownProject,
} from '../engine/support/world.ts';
import { rejected } from '../support/thrown.ts';
import { addWrappingKey, backUp, forgetBackups, inTheClear } from './support/backups.ts';

let installation: Installation;
let database: Database;
let projects: KnownProject[];
let backup: Backup;
let folder: string;
const actor = 'test';
const uri = (name: string): string => `file:${path.join(folder, name)}.key`;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-recover-'));
  await createRootKeyFile(uri('old'));
  installation = await startInstallation({ rootKey: await openRootKey(uri('old'), { cwd: '.' }) });
  database = pgDatabase({ connectionString: installation.test.serviceUrl });
  await addWebhooksTable(installation);
  const keyring = await installation.open();
  projects = [
    await makeProject(installation, keyring, { secrets: 3, webhooks: 2 }),
    await makeProject(installation, keyring, { secrets: 1 }),
  ];
  const { id } = await keyring.rotations.request({ projects: [projects[0]?.id ?? ''] });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
});
afterEach(async () => {
  await forgetBackups(installation);
  await installation.behindTheFence(
    `delete from keyring.wrapped_wrapping_keys where root_key_id in
    (select id from keyring.root_keys where fingerprint <> $1)`,
    [(await installation.rootKey.status()).fingerprint],
  );
  await installation.behindTheFence('delete from keyring.root_keys where fingerprint <> $1', [
    (await installation.rootKey.status()).fingerprint,
  ]);
});
afterAll(async () => {
  await database.close();
  await installation.end();
  await rm(folder, { recursive: true, force: true });
});

const verify = (given: Backup) => verifyBackup({ database, backup: given, actor });
const recover = (given: Backup, rootKey: RootKeyProvider, port = database) =>
  recoverFromBackup({ database: port, backup: given, rootKey: async () => rootKey, actor });

/** Where it may not come to that. */
const noRootKey = (): never => {
  throw new Error('A root key was asked for.');
};

/** Every value of every project, by a keyring that has this root key and no other. */
async function expectEverythingOpens(rootKey: RootKeyProvider, thoroughly = true): Promise<void> {
  const keyring: Keyring = await openKeyring({ database: { ...database, close: async () => undefined }, rootKey });
  for (const { id, secrets } of projects) {
    for (const [name, value] of secrets) expect((await keyring.secrets.get(id, name))?.value).toBe(value);
  }
  if (!thoroughly) return keyring.close();
  const { findings, keysChecked, rowsChecked } = await keyring.doctor();
  expect(findings.filter(({ severity }) => severity === 'error')).toEqual([]);
  expect([keysChecked, rowsChecked]).toEqual([3, 6]);
  await keyring.close();
}

describe('verify', () => {
  test('opens every data key, every signing key and a value under each version, in every column, and notes that it did', async () => {
    backup = await backUp(database, installation.rootKey);
    const since = await auditPosition(installation);
    const progress: number[] = [];
    const proof = await verifyBackup({ database, backup, actor, onProgress: (keys) => progress.push(keys) });
    expect(proof).toMatchObject({
      backupId: backup.id,
      wrappingKeys: [{ version: 1, primary: true, inBackup: true, keysUnderIt: 4 }],
      ...{ dataKeys: 3, signingKeys: 1, values: 3, failures: [], failed: 0, complete: true },
      then: { projects: 2, dataKeys: 3 },
      now: { projects: 2, dataKeys: 3 },
    });
    expect(progress).toEqual([3]);
    expect(await auditSince(installation, since)).toEqual({ 'root_key.backup_verified': 1 });
    expect(await listBackups({ database })).toMatchObject([{ id: backup.id, verifiedAt: expect.any(Date) }]);
  });

  test('of a backup that this dump does not know yet makes it known', async () => {
    backup = await backUp(database, installation.rootKey);
    await forgetBackups(installation);
    await verify(backup);
    expect(await listBackups({ database })).toMatchObject([
      { id: backup.id, createdAt: backup.createdAt, writtenAt: expect.any(Date), verifiedAt: expect.any(Date) },
    ]);
  });

  test('asks for no root key: only the backup is believed', async () => {
    backup = await backUp(database, installation.rootKey);
    await installation
      .behindTheFence('update keyring.wrapped_wrapping_keys set wrapped = $1', [Buffer.alloc(78)])
      .catch(() => undefined);
    const before = await installation.sql('select * from keyring.wrapped_wrapping_keys');
    expect(before).toMatchObject([{ wrapped: Buffer.alloc(78) }]);
    try {
      expect(await verify(backup)).toMatchObject({ complete: true });
    } finally {
      await recover(backup, memoryRootKey());
      await installation.behindTheFence('delete from keyring.wrapped_wrapping_keys where wrapped = $1', [
        Buffer.alloc(78),
      ]);
      await recover(backup, installation.rootKey);
    }
    await expectEverythingOpens(installation.rootKey);
  });

  test('names a data key and a value that do not open, and does not note that it verified', async () => {
    backup = await backUp(database, installation.rootKey);
    const [first, second] = projects;
    const spoil = (text: string, id: string | undefined): Promise<void> => installation.behindTheFence(text, [id]);
    const [saved] = await installation.sql<{ id: string; wrapped_key: Buffer }>(
      'select id, wrapped_key from keyring.encryption_keys where project_id = $1 and version = 1',
      [second?.id],
    );
    const flip = 'set_byte(C, 60, (get_byte(C, 60) + 1) % 256)';
    await spoil(
      `update keyring.encryption_keys set wrapped_key = ${flip.replaceAll('C', 'wrapped_key')} where id = $1`,
      saved?.id,
    );
    const rows = await installation.sql<{ id: string; value_encrypted: Buffer }>(
      'select id, value_encrypted from public.secrets where project_id = $1',
      [first?.id],
    );
    await spoil(
      `update public.secrets set value_encrypted = ${flip.replaceAll('C', 'value_encrypted')} where project_id = $1`,
      first?.id,
    );
    try {
      const since = await auditPosition(installation);
      const proof = await verify(backup);
      expect(proof).toMatchObject({ complete: false, failed: 2, dataKeys: 3, values: 2 });
      expect(proof.failures).toContain(`key:${String(saved?.id)}`);
      expect(rows.map(({ id }) => `secrets.value ${id}`)).toEqual(expect.arrayContaining(proof.failures.slice(1)));
      expect(await auditSince(installation, since)).toEqual({ 'root_key.backup_verified (failed)': 1 });
      expect(await listBackups({ database })).toMatchObject([{ verifiedAt: undefined }]);
    } finally {
      await installation.behindTheFence('update keyring.encryption_keys set wrapped_key = $2 where id = $1', [
        saved?.id,
        saved?.wrapped_key,
      ]);
      for (const row of rows)
        await installation.behindTheFence('update public.secrets set value_encrypted = $2 where id = $1', [
          row.id,
          row.value_encrypted,
        ]);
    }
    expect(await verify(backup)).toMatchObject({ complete: true });
  });

  test('of a backup from before a wrapping key says which it lacks, and still proves the rest', async () => {
    backup = await backUp(database, installation.rootKey);
    const { id } = await addWrappingKey(installation, projects[0]?.id);
    const proof = await verify(backup);
    expect(proof).toMatchObject({ complete: false, failed: 0, dataKeys: 3 });
    expect(proof.wrappingKeys).toMatchObject([
      { version: 1, inBackup: true },
      { id, version: 2, inBackup: false, keysUnderIt: 1 },
    ]);
    expect(await listBackups({ database })).toMatchObject([{ complete: false, verifiedAt: expect.any(Date) }]);
  });
});

describe('recover', () => {
  test('a database whose root key is gone opens under a new one, with every value', async () => {
    backup = await backUp(database, installation.rootKey);
    await createRootKeyFile(uri('new'));
    const fresh = await openRootKey(uri('new'), { cwd: '.' });
    expect(await rejected(openKeyring({ database: installation.test.serviceUrl, rootKey: fresh }))).toMatchObject({
      code: 'wrong_root_key',
    });
    const since = await auditPosition(installation);
    const { fingerprint } = await fresh.status();
    const old = await installation.rootKey.status();
    expect(await recover(backup, fresh)).toEqual({
      backupId: backup.id,
      rootKey: { uri: uri('new'), fingerprint },
      wrappingKeys: [{ id: backup.wrappingKeys[0]?.id, version: 1, added: true }],
      leftOut: [],
      otherRootKeys: [{ uri: uri('old'), fingerprint: old.fingerprint }],
      then: backup.database,
      now: { ...backup.database, newestEntryAt: expect.any(Date) },
    });
    await expectEverythingOpens(fresh);
    await expectEverythingOpens(installation.rootKey);
    // Again: nothing changes, and the trail does not say that something did.
    expect(await recover(backup, fresh)).toMatchObject({ wrappingKeys: [{ added: false }] });
    expect(await auditSince(installation, since)).toEqual({ 'root_key.recovered': 1 });
  });

  test('a root key that is a file is in the backup, and opens by itself what it opened', async () => {
    const { options } = inTheClear(database, installation.rootKey);
    let text = '';
    const write = async (file: Uint8Array): Promise<void> => void (text = Buffer.from(file).toString());
    await insecureExportBackup({ ...options, write });
    const { rootKey } = JSON.parse(text) as { rootKey: { key: string; uri: string } };
    expect(rootKey.uri).toBe(uri('old'));
    await writeFile(path.join(folder, 'by-hand.key'), `${rootKey.key}\n`, { mode: 0o600 });
    await expectEverythingOpens(await openRootKey(uri('by-hand'), { cwd: '.' }));
  });

  test('a root key in a variable is in the backup as well', async () => {
    const digits = Buffer.alloc(32, 9).toString('base64url');
    const env = { ROOT: `MESHHOOK-ROOT-KEY-1-${digits}` };
    const backupOfFile = await backUp(database, installation.rootKey);
    await recover(backupOfFile, await openRootKey('env:ROOT', { cwd: '.', env }));
    const { options, backup: read } = inTheClear(database, installation.rootKey);
    let text = '';
    const seal = async (document: Uint8Array): Promise<Uint8Array> =>
      Buffer.from((text = Buffer.from(document).toString()));
    await insecureExportBackup({ ...options, seal, rootKey: 'env:ROOT', env });
    expect(read().rootKey).toMatchObject({ uri: 'env:ROOT', included: true });
    expect(text).toContain(`"key": "${env.ROOT}"`);
  });

  test('of two at once both are right', async () => {
    backup = await backUp(database, installation.rootKey);
    const rootKey = memoryRootKey();
    const both = await Promise.all([recover(backup, rootKey), recover(backup, rootKey)]);
    expect(both.flatMap(({ wrappingKeys }) => wrappingKeys.map(({ added }) => added)).toSorted()).toEqual([
      false,
      true,
    ]);
    await expectEverythingOpens(rootKey);
  });

  test('is refused while something is under a wrapping key that the backup does not hold, and says what', async () => {
    backup = await backUp(database, installation.rootKey);
    const { id } = await addWrappingKey(installation, projects[0]?.id);
    const rootKey = memoryRootKey();
    expect(await rejected(recover(backup, rootKey))).toMatchObject({
      code: 'backup_incomplete',
      message: expect.stringContaining('version 2 (1 keys under it)'),
      details: { missing: [{ id, version: 2, keysUnderIt: 1 }] },
    });
    expect(await installation.sql('select count(*)::int as n from keyring.root_keys')).toEqual([{ n: 1 }]);
  });

  test('leaves out a wrapping key that nothing is under, and says so', async () => {
    backup = await backUp(database, installation.rootKey);
    const { id } = await addWrappingKey(installation, undefined);
    const rootKey = memoryRootKey();
    expect(await recover(backup, rootKey)).toMatchObject({ leftOut: [{ id, version: 2 }] });
    await expectEverythingOpens(rootKey);
  });

  test('is refused when what lies there under the new root key does not read back', async () => {
    backup = await backUp(database, installation.rootKey);
    const rootKey = memoryRootKey();
    await recover(backup, rootKey);
    const { fingerprint } = await rootKey.status();
    await installation.behindTheFence(
      `update keyring.wrapped_wrapping_keys c set wrapped = set_byte(wrapped, 60, (get_byte(wrapped, 60) + 1) % 256)
       from keyring.root_keys r where r.id = c.root_key_id and r.fingerprint = $1`,
      [fingerprint],
    );
    expect(await rejected(recover(backup, rootKey))).toMatchObject({ code: 'wrong_root_key' });
  });

  test('is refused to a root key that was given up', async () => {
    backup = await backUp(database, installation.rootKey);
    const rootKey = memoryRootKey();
    await recover(backup, rootKey);
    const { fingerprint } = await rootKey.status();
    await installation.behindTheFence(`update keyring.root_keys set state = 'compromised' where fingerprint = $1`, [
      fingerprint,
    ]);
    expect(await rejected(recover(backup, rootKey))).toMatchObject({ code: 'illegal_state' });
  });

  test('that loses any one statement is finished by doing it again, with one entry', async () => {
    const points = await strikeEveryStatement({
      plans: [
        { when: 'before it is sent', then: 'the process is gone' },
        { when: 'after it was carried out', then: 'the process is gone' },
      ],
      async prepare() {
        return {
          backup: await backUp(database, installation.rootKey),
          rootKey: memoryRootKey(),
          since: await auditPosition(installation),
        };
      },
      async act(world, fault) {
        fault.arm();
        await recover(world.backup, world.rootKey, fault.wrap(database));
      },
      async recover(world) {
        await recover(world.backup, world.rootKey);
        await expectEverythingOpens(world.rootKey, false);
        expect(await auditSince(installation, world.since)).toEqual({ 'root_key.recovered': 1 });
      },
    });
    console.log(`recover: ${String(points)} fault points`);
    expect(points).toBeGreaterThan(20);
  });
});

describe('another database', () => {
  let other: Installation;
  let port: Database;

  beforeAll(async () => {
    other = await startInstallation();
    port = pgDatabase({ connectionString: other.test.serviceUrl });
    await makeProject(other, await other.open(), { secrets: 1 });
  });
  afterAll(async () => {
    await port.close();
    await other.end();
  });

  test('is told from this one, by what the keys are, and left as it is', async () => {
    backup = await backUp(database, installation.rootKey);
    for (const refused of [
      () => verifyBackup({ database: port, backup, actor }),
      () => recoverFromBackup({ database: port, backup, rootKey: noRootKey, actor }),
    ]) {
      expect(await rejected(refused())).toMatchObject({
        code: 'backup_mismatch',
        details: { backup: backup.installationId, database: expect.not.stringMatching(backup.installationId) },
      });
    }
    expect(await other.sql('select count(*)::int as n from keyring.root_keys')).toEqual([{ n: 1 }]);
  });

  test('that says it holds the same key, and does not, is found out', async () => {
    backup = await backUp(database, installation.rootKey);
    const [key] = await installation.sql<{ fingerprint: Buffer }>('select fingerprint from keyring.wrapping_keys');
    await installation.behindTheFence('update keyring.wrapping_keys set fingerprint = $1', [Buffer.alloc(32, 1)]);
    try {
      for (const refused of [() => verify(backup), () => recover(backup, memoryRootKey())])
        expect(await rejected(refused())).toMatchObject({
          code: 'backup_mismatch',
          message: expect.stringContaining('version 1'),
        });
    } finally {
      await installation.behindTheFence('update keyring.wrapping_keys set fingerprint = $1', [key?.fingerprint]);
    }
  });

  test('without a schema is refused as ever', async () => {
    const empty = await createTestDatabase({ template: 'empty' });
    try {
      const refused = recoverFromBackup({ database: empty.serviceUrl, backup, rootKey: noRootKey, actor });
      expect(await rejected(refused)).toMatchObject({ code: 'not_migrated' });
    } finally {
      await empty.drop();
    }
  });
});
