import type { Keyring, KeyVersion } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import {
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
/** Of version 1, which a finished rotation retired. */
let retired: KeyVersion;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 2 });
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  retired = await version(1);
});
afterAll(() => installation.end());

async function version(number: number): Promise<KeyVersion> {
  const found = (await keyring.keys.list({ projectId: project.id })).find((key) => key.version === number);
  if (found === undefined) throw new Error(`There is no version ${String(number)}.`);
  return found;
}

const reason = { reason: 'does anything need it?' };

/** Puts a secret back as a backup from before the rotation has it. */
async function restoreRow(name: string): Promise<void> {
  const entry = (await keyring.secrets.list(project.id)).find((one) => one.name === name);
  const place = { projectId: project.id, label: 'secrets.value', rowId: entry?.id ?? '' };
  const old = await installation.seal(place, 'from a backup', retired.id);
  await installation.behindTheFence(
    'update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1',
    [place.rowId, old.envelope, old.keyId],
  );
}

test('a suspended version opens nothing until it is restored, and both are on the record', async () => {
  await restoreRow('SECRET_1');
  await keyring.secrets.put(project.id, 'SECRET_1', 'new');
  const before = await auditPosition(installation);
  expect(await keyring.keys.disable(retired.id, reason)).toMatchObject({ id: retired.id, status: 'suspended' });
  expect((await keyring.keys.disable(retired.id, reason)).status).toBe('suspended');
  expect(await codeOf(installation.seal({ ...anywhere(), label: 'secrets.value' }, 'x', retired.id))).toBe(
    'key_disabled',
  );
  const { rowId, envelope } = await sealedBefore();
  await installation.behindTheFence(
    'update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1',
    [rowId, envelope, retired.id],
  );
  expect(await codeOf(keyring.secrets.get(project.id, 'SECRET_2'))).toBe('key_disabled');
  expect((await keyring.keys.restore(retired.id, { reason: 'it does' })).status).toBe('deactivated');
  expect((await keyring.secrets.get(project.id, 'SECRET_2'))?.value).toBe('from before');
  expect(await auditSince(installation, before)).toEqual({ 'key.disabled': 1, 'key.restored': 1 });
  const [restored] = await keyring.audit.list({ projectId: project.id, limit: 1 });
  expect(restored).toMatchObject({ subject: `key:${retired.id}`, reason: 'it does', details: { version: 1 } });
  const [row] = await installation.sql('select state, disabled_at from keyring.encryption_keys where id = $1', [
    retired.id,
  ]);
  expect(row).toEqual({ state: 'enabled', disabled_at: null });
});

function anywhere(): { projectId: string; rowId: string } {
  return { projectId: project.id, rowId: '00000000-0000-4000-8000-000000000000' };
}

/** SECRET_2 under the retired version, sealed while that could be had. */
async function sealedBefore(): Promise<{ rowId: string; envelope: Buffer }> {
  const entry = (await keyring.secrets.list(project.id)).find((one) => one.name === 'SECRET_2');
  const place = { projectId: project.id, label: 'secrets.value', rowId: entry?.id ?? '' };
  await installation.behindTheFence(`update keyring.encryption_keys set state = 'enabled' where id = $1`, [retired.id]);
  const { envelope } = await installation.seal(place, 'from before', retired.id);
  await installation.behindTheFence(`update keyring.encryption_keys set state = 'disabled' where id = $1`, [
    retired.id,
  ]);
  return { rowId: place.rowId, envelope };
}

test('a suspended version may still open for another process for as long as that keeps keys', async () => {
  let now = new Date();
  const other = await installation.open({ keyCacheMs: 60_000, now: () => now });
  await restoreRow('SECRET_1');
  expect((await other.secrets.get(project.id, 'SECRET_1'))?.value).toBe('from a backup');
  await installation.behindTheFence(
    `update keyring.encryption_keys set state = 'disabled', disabled_at = now() where id = $1`,
    [retired.id],
  );
  expect((await other.secrets.get(project.id, 'SECRET_1'))?.value).toBe('from a backup');
  now = new Date(now.getTime() + 60_000);
  expect(await codeOf(other.secrets.get(project.id, 'SECRET_1'))).toBe('key_disabled');
});

test('refused is suspending the primary, a version that a row names, and one that an open rotation needs', async () => {
  const before = await auditPosition(installation);
  expect(await codeOf(keyring.keys.disable((await version(2)).id, reason))).toBe('key_is_primary');
  await restoreRow('SECRET_1');
  expect(await codeOf(keyring.keys.disable(retired.id, reason))).toBe('key_in_use');
  expect(await auditSince(installation, before)).toEqual({ 'key.disabled (refused)': 2 });

  const { id } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(id);
  const source = (await version(2)).id;
  await installation.behindTheFence(`update keyring.rotation_projects set state = 'blocked' where rotation_id = $1`, [
    id,
  ]);
  expect(await codeOf(keyring.keys.disable(source, reason))).toBe('key_in_use');
});

test('refused is restoring a version that is not suspended, which says how it is', async () => {
  const before = await auditPosition(installation);
  await expect(keyring.keys.restore(retired.id, reason)).rejects.toMatchObject({
    code: 'illegal_state',
    message: expect.stringMatching(
      /^Version 1 of .* is deactivated, not suspended: there is nothing to restore\.$/,
    ) as string,
  });
  expect(await codeOf(keyring.keys.restore((await version(2)).id, reason))).toBe('illegal_state');
  expect((await version(2)).status).toBe('active');
  expect(await auditSince(installation, before)).toEqual({ 'key.restored (refused)': 2 });
});

test('refused is suspending or restoring a compromised version, or a destroyed one', async () => {
  await keyring.keys.disable(retired.id, reason);
  await keyring.rotations.compromise(retired.id, { reason: 'leaked' });
  expect(await codeOf(keyring.keys.restore(retired.id, reason))).toBe('illegal_state');
  expect(await codeOf(keyring.keys.disable(retired.id, reason))).toBe('illegal_state');
  await installation.behindTheFence('update keyring.encryption_keys set retention_until = now() where id = $1', [
    retired.id,
  ]);
  await keyring.keys.destroy(retired.id, reason);
  expect(await codeOf(keyring.keys.restore(retired.id, reason))).toBe('key_destroyed');
  expect(await codeOf(keyring.keys.disable(retired.id, reason))).toBe('key_destroyed');
  await expectEverySecretFresh(installation, keyring, [project]);
});

test('a suspended version is destroyed when its retention is over, and not before', async () => {
  await keyring.keys.disable(retired.id, reason);
  expect(await codeOf(keyring.keys.destroy(retired.id, reason))).toBe('retention_not_over');
  await installation.behindTheFence('update keyring.encryption_keys set retention_until = now() where id = $1', [
    retired.id,
  ]);
  expect((await keyring.keys.destroy(retired.id, reason)).status).toBe('destroyed');
  await expectHealthy(keyring);
});

test('a version that does not exist, and a blank reason, are refused', async () => {
  expect(await codeOf(keyring.keys.disable('nope', reason))).toBe('unknown_key');
  expect(await codeOf(keyring.keys.restore(anywhere().rowId, reason))).toBe('unknown_key');
  expect(await codeOf(keyring.keys.disable(retired.id, { reason: ' ' }))).toBe('invalid_argument');
});

test('suspending waits for a row of the version that is in flight, and then finds it', async () => {
  const entry = (await keyring.secrets.list(project.id)).find((one) => one.name === 'SECRET_1');
  const place = { projectId: project.id, label: 'secrets.value', rowId: entry?.id ?? '' };
  const old = await installation.seal(place, 'from a backup', retired.id);
  await using restorer = await session(installation.test.ownerUrl, 'a restore');
  await restorer.query('begin');
  await restorer.query(`select keyring.open_restore_door('a test')`);
  await restorer.query('update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1', [
    place.rowId,
    old.envelope,
    old.keyId,
  ]);
  const suspending = codeOf(keyring.keys.disable(retired.id, reason));
  const waits = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  while ((await installation.sql(waits)).length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  await restorer.query('commit');
  expect(await suspending).toBe('key_in_use');
  expect((await keyring.secrets.get(project.id, 'SECRET_1'))?.value).toBe('from a backup');
});
