import { mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditCheckpoint, Keyring } from '@meshhook/keyring';
import { checkpointKeeper, Sealing } from '@meshhook/keyring-worker/sealing';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../../keyring/test/engine/support/installation.ts';

let installation: Installation;
let keyring: Keyring;
let home: string;
let file: string;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
});
afterAll(() => installation.end());
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'keyring-sealing-'));
  file = join(home, 'audit-checkpoint');
  return () => rm(home, { recursive: true });
});

const note = (): Promise<unknown> =>
  installation.sql(
    `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', 'a:1')`,
  );
const keeper = (where = file) => checkpointKeeper(where, () => undefined, keyring.audit);
const last = async (): Promise<AuditCheckpoint> => (await keyring.audit.checkpoint())!;
const facts = async () => (await keyring.monitoring.facts()).process;

async function nextCheckpoint(): Promise<AuditCheckpoint> {
  await note();
  await new Sealing(keyring.audit).round();
  return last();
}

test('a checkpoint that could not be kept is kept as soon as it can, though nothing new was sealed, and the metric tells', async () => {
  const where = join(home, 'folder', 'audit-checkpoint');
  await writeFile(join(home, 'folder'), 'in the way');
  const sealing = new Sealing(keyring.audit, keeper(where));
  await note();
  await expect(sealing.round()).rejects.toMatchObject({ code: 'backup_unwritten' });
  expect((await facts()).checkpointUnkept).toBe(true);
  await expect(sealing.round()).rejects.toMatchObject({ code: 'backup_unwritten' });
  await rm(join(home, 'folder'));
  await sealing.round();
  expect(await readFile(where, 'utf8')).toBe((await last()).note);
  expect((await facts()).checkpointUnkept).toBe(false);
});

test('whoever begins to seal keeps the checkpoint that others signed', async () => {
  const { note: signed } = await nextCheckpoint();
  const seal = () => Promise.resolve({ sealed: 0, checkpoint: undefined, more: false, busy: true });
  await new Sealing({ ...keyring.audit, seal }, keeper()).round();
  expect(await readFile(file, 'utf8')).toBe(signed);
});

test('the file does not go back to a shorter chain, and is whole, for its owner alone, with nothing beside it', async () => {
  const older = await nextCheckpoint();
  const newer = await nextCheckpoint();
  await keeper()(newer);
  await keeper()(older);
  expect(await readFile(file, 'utf8')).toBe(newer.note);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await readdir(home)).toEqual(['audit-checkpoint']);
  // An older one is no other chain: it makes way.
  await writeFile(file, older.note);
  await keeper()(newer);
  expect(await readFile(file, 'utf8')).toBe(newer.note);
});

test('where the file is a link, what it leads to is replaced; one that leads nowhere is left alone', async () => {
  const elsewhere = join(home, 'elsewhere');
  await mkdir(elsewhere);
  await writeFile(join(elsewhere, 'kept'), (await nextCheckpoint()).note);
  await symlink(join(elsewhere, 'kept'), file);
  const { note: signed, ...checkpoint } = await nextCheckpoint();
  await keeper()({ ...checkpoint, note: signed });
  expect(await readFile(join(elsewhere, 'kept'), 'utf8')).toBe(signed);
  // The disk is not there.
  await rename(elsewhere, join(home, 'gone'));
  await expect(keeper()({ ...checkpoint, note: signed })).rejects.toMatchObject({ code: 'backup_unwritten' });
  expect(await readlink(file)).toBe(join(elsewhere, 'kept'));
});

test.each([
  ['half of one', (kept: string) => kept.slice(0, 100)],
  ['nothing', () => ''],
  ['one of another installation', (kept: string) => kept.replace(/audit\/[0-9a-f]{4}/g, 'audit/0000')],
  ['much', (kept: string) => kept.repeat(1_000)],
])('a file with %s is never replaced, and the metric says that something is broken', async (_, forge) => {
  const forged = forge((await nextCheckpoint()).note);
  await writeFile(file, forged);
  const sealing = new Sealing(keyring.audit, keeper());
  await note();
  await expect(sealing.round()).rejects.toMatchObject({ code: 'audit_broken' });
  expect(await facts()).toMatchObject({ auditBroken: true, checkpointUnkept: true });
  expect(await readFile(file, 'utf8')).toBe(forged);
  await rm(file);
  await sealing.round();
  expect(await facts()).toMatchObject({ auditBroken: false, checkpointUnkept: false });
});
