import { pgDatabase, type Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation, type OpenOptions } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { flakyRootKey, forgetInstances, keysByWrappingVersion, addStagedVersions } from './support/upper-keys.ts';
import {
  auditPosition,
  auditSince,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  expectOneHistory,
  makeProject,
  type KnownProject,
} from './support/world.ts';

const root = flakyRootKey();
let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
const opened: Keyring[] = [];
beforeEach(async () => {
  Object.assign(root, { down: false, slowMs: 0 });
  installation = await startInstallation({ rootKey: root });
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 3 });
  await forgetInstances(installation);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
  await installation.end();
});

/** A process with heartbeats, closed at the end of the test. */
async function beating(options: OpenOptions = {}): Promise<Keyring> {
  const made = await installation.open({ heartbeatMs: 50, ...options });
  opened.push(made);
  return made;
}

async function rotateWrappingKey(by: Keyring = keyring): Promise<string> {
  const { id } = await by.wrappingKeys.request({ reason: 'test' });
  expect((await by.wrappingKeys.run(id)).state).toBe('completed');
  return id;
}

const stateOf = async (id: string): Promise<string | undefined> => (await keyring.wrappingKeys.get(id))?.state;

// ── who is waited for ───────────────────────────────────────────────────────────────────────────────────────────────

test('it waits, by name, for a live process that does not hold the new key, and goes on when that does', async () => {
  const other = await installation.open({ heartbeatMs: 3_600_000, actor: 'slow' });
  const [slow] = await keyring.instances.list();
  const { id } = await keyring.wrappingKeys.request();
  const seen: string[][] = [];
  const running = keyring.wrappingKeys.run(id, {
    onProgress: (_, waitingFor) => seen.push(waitingFor.map((one) => one.actor)),
  });
  await expect.poll(() => seen.some((names) => names.includes('slow'))).toBe(true);
  expect(await stateOf(id)).toBe('prepared');
  // Its next heartbeat, at last.
  await other.close();
  const next = await beating({ actor: 'quick' });
  expect((await running).state).toBe('completed');
  expect(slow?.actor).toBe('slow');
  expect(seen.flat()).not.toContain('quick');
  expect((await next.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
});

test('a heartbeat is enough for a process to follow', async () => {
  const other = await beating();
  const before = root.asked;
  await rotateWrappingKey();
  // Made and read back by the one that rotates; loaded by the other.
  expect(root.asked - before).toBe(3);
  expect((await other.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
  expect(root.asked - before).toBe(3);
});

test('it can be forced past one that is alive, on the record', async () => {
  await installation.open();
  const [laggard] = await keyring.instances.list();
  const audited = await auditPosition(installation);
  const { id } = await keyring.wrappingKeys.request({ reason: 'it hangs' });
  expect((await keyring.wrappingKeys.run(id, { whenLagging: 'leave' })).state).toBe('prepared');
  const rotation = await keyring.wrappingKeys.run(id, { forcePast: [laggard?.id ?? ''] });
  expect(rotation).toMatchObject({ state: 'completed', forced: [laggard?.id] });
  expect((await auditSince(installation, audited))['instance.forced_past']).toBe(1);
});

test('one that has been silent for fifteen seconds is not waited for', async () => {
  await installation.open();
  await installation.sql(`update keyring.instances set seen_at = now() - interval '15 seconds'`);
  await rotateWrappingKey();
});

test('a process that comes between the look and the move of the pointer is waited for, too', async () => {
  let looks = 0;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('not (i.wrapping_keys @> array') && ++looks === 2) {
          await installation.sql(
            `insert into keyring.instances (id, host, pid, actor, version, seen_at)
             values (gen_random_uuid(), 'h', 1, 'late', '1', now() + interval '1 hour')`,
          );
        }
        return send();
      }),
  });
  await forgetInstances(installation);
  const { id } = await rotator.wrappingKeys.request();
  const seen: string[] = [];
  const running = rotator.wrappingKeys.run(id, {
    onProgress: (_, waitingFor) => seen.push(...waitingFor.map((one) => one.actor)),
  });
  await expect.poll(() => seen).toContain('late');
  expect(await stateOf(id)).toBe('prepared');
  await installation.sql(`delete from keyring.instances where actor = 'late'`);
  expect((await running).state).toBe('completed');
});

// ── everything else goes on ─────────────────────────────────────────────────────────────────────────────────────────

test.each(['together', 'alone'] as const)(
  'a data-key rotation that stages while the pointer moves makes its version anew, once (projects %s)',
  async (way) => {
    const second = await makeProject(installation, keyring, { secrets: 1 });
    await forgetInstances(installation);
    let rotated = false;
    const rotator = await installation.open({
      rotationSetSize: way === 'together' ? 100 : 1,
      wrap: (database) =>
        interceptDatabase(database, async ({ statement, send }) => {
          if (!rotated && statement.text.includes('insert into keyring.encryption_keys')) {
            rotated = true;
            await forgetInstances(installation);
            await rotateWrappingKey();
          }
          return send();
        }),
    });
    const { id } = await rotator.rotations.request({ projects: [project.id, second.id] });
    expect((await rotator.rotations.run(id)).state).toBe('completed');
    expect(rotated).toBe(true);
    expect(Object.keys(await keysByWrappingVersion(installation))).toEqual(['2']);
    for (const one of [project, second]) await expectOneHistory(installation, one, 2);
    await expectEverySecretFresh(installation, keyring, [project, second]);
    await expectHealthy(keyring);
  },
);

test('the first put of a project that meets the moving pointer is under the new wrapping key', async () => {
  const { id } = await keyring.projects.create({ name: 'new' });
  let rotated = false;
  const writer = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!rotated && statement.text.includes('insert into keyring.encryption_keys')) {
          rotated = true;
          await forgetInstances(installation);
          await rotateWrappingKey();
        }
        return send();
      }),
  });
  await writer.secrets.put(id, 'A', 'a');
  expect(Object.keys(await keysByWrappingVersion(installation))).toEqual(['2']);
  expect((await keyring.secrets.get(id, 'A'))?.value).toBe('a');
});

test('an emergency that meets the moving pointer is one emergency', async () => {
  const [key] = await keyring.keys.list({ projectId: project.id });
  let rotated = false;
  const emergency = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!rotated && statement.text.includes('insert into keyring.encryption_keys')) {
          rotated = true;
          await forgetInstances(installation);
          await rotateWrappingKey();
        }
        return send();
      }),
  });
  const { rotation } = await emergency.rotations.compromise(key?.id ?? '', { reason: 'leaked' });
  expect((await emergency.rotations.run(rotation?.id ?? '')).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
});

test('rotations of data keys, first puts and reads go on while the wrapping key is rotated five times', async () => {
  const projects = [project];
  for (let count = 0; count < 5; count++) projects.push(await makeProject(installation, keyring, { secrets: 2 }));
  await addStagedVersions(installation, project.id, 100);
  await forgetInstances(installation);
  const [worker, writer, rotator] = [await beating(), await beating(), await beating({ sweepBatchSize: 1 })];
  let done = false;
  const rotating = (async () => {
    let count = 0;
    for (; !done; count++) {
      const { id } = await worker.rotations.request({ projects: 'all' });
      expect((await worker.rotations.run(id)).state).toBe('completed');
    }
    return count;
  })();
  const writing = (async () => {
    let count = 0;
    for (; !done; count++) {
      const { id } = await writer.projects.create({ name: `made meanwhile ${String(count)}` });
      await writer.secrets.put(id, 'A', String(count));
      expect((await writer.secrets.get(id, 'A'))?.value).toBe(String(count));
      for (const [name, value] of project.secrets) {
        expect((await writer.secrets.get(project.id, name))?.value).toBe(value);
      }
    }
    return count;
  })();
  try {
    for (let count = 0; count < 5; count++) await rotateWrappingKey(rotator);
  } finally {
    done = true;
  }
  expect(await rotating).toBeGreaterThan(0);
  expect(await writing).toBeGreaterThan(0);
  expect(Object.keys(await keysByWrappingVersion(installation))).toEqual(['6']);
  await expectEverySecretFresh(installation, await installation.open(), projects);
  await expectHealthy(keyring);
});

test('a process whose provider is down meets the new key with a clear error, and works on what it has', async () => {
  const other = await installation.open();
  await other.secrets.get(project.id, 'SECRET_1');
  await forgetInstances(installation);
  await rotateWrappingKey();
  root.down = true;
  expect((await other.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
  await other.secrets.put(project.id, 'SECRET_1', 'changed');
  expect((await other.secrets.get(project.id, 'SECRET_1'))?.value).toBe('changed');
  const { id } = await other.projects.create({ name: 'new' });
  expect(await codeOf(other.secrets.put(id, 'A', 'a'))).toBe('root_key_unreachable');
  const { id: rotation } = await other.rotations.request({ projects: [project.id] });
  expect(await codeOf(other.rotations.run(rotation))).toBe('root_key_unreachable');
  // Nobody was called blocked for it.
  expect((await other.rotations.get(rotation))?.projects).toEqual({ total: 1, requested: 1 });

  root.down = false;
  await expect.poll(() => codeOf(other.secrets.put(id, 'A', 'a'))).toBe('nothing');
  expect((await other.rotations.run(rotation)).state).toBe('completed');
});

// ── outages of the provider ─────────────────────────────────────────────────────────────────────────────────────────

test('a provider that goes down is needed for the next wrapping key alone; then it goes on where it stopped', async () => {
  const { id } = await keyring.wrappingKeys.request();
  root.down = true;
  expect(await codeOf(keyring.wrappingKeys.run(id))).toBe('root_key_unreachable');
  await keyring.secrets.put(project.id, 'SECRET_1', 'one');
  const { id: newProject } = await keyring.projects.create({ name: 'new' });
  await keyring.secrets.put(newProject, 'A', 'a');
  const rotation = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(rotation.id)).state).toBe('completed');
  const version = (await keyring.keys.list({ projectId: newProject })).find(({ active }) => active);
  const emergency = await keyring.rotations.compromise(version?.id ?? '', { reason: 'leaked' });
  expect((await keyring.rotations.run(emergency.rotation?.id ?? '')).state).toBe('completed');
  expect(await stateOf(id)).toBe('requested');

  root.down = false;
  expect((await keyring.wrappingKeys.run(id)).state).toBe('completed');
});

test('once it is prepared the provider is not needed any more', async () => {
  await installation.open();
  const { id } = await keyring.wrappingKeys.request();
  expect((await keyring.wrappingKeys.run(id, { whenLagging: 'leave' })).state).toBe('prepared');
  await forgetInstances(installation);
  root.down = true;
  expect((await keyring.wrappingKeys.run(id)).state).toBe('completed');
});

test('a provider that wraps what it does not unwrap is found out before anything is under the new key', async () => {
  const lying = {
    ...root,
    wrap: async (key: Uint8Array, context: Uint8Array) =>
      root.wrap(
        key.map((byte) => byte ^ 1),
        context,
      ),
  };
  const rotator = await installation.open({ rootKey: lying });
  const { id } = await rotator.wrappingKeys.request();
  expect(await rotator.wrappingKeys.run(id)).toMatchObject({ state: 'failed', errorCode: 'self_test_failed' });
  expect(await keyring.wrappingKeys.list()).toMatchObject([
    { version: 2, state: 'disabled', active: false },
    { version: 1, state: 'enabled', active: true },
  ]);
  await forgetInstances(installation);
  await rotateWrappingKey();
  expect(Object.keys(await keysByWrappingVersion(installation))).toEqual(['3']);
});

// ── two at once, and asking at the wrong moment ─────────────────────────────────────────────────────────────────────

test('two processes that drive it at once come to one end, with one entry each', async () => {
  await addStagedVersions(installation, project.id, 200);
  const audited = await auditPosition(installation);
  const [one, two] = [await beating({ sweepBatchSize: 1 }), await beating({ sweepBatchSize: 1 })];
  const { id } = await one.wrappingKeys.request();
  const ends = await Promise.all([one, two].map((by) => by.wrappingKeys.run(id)));
  expect(ends.map((end) => end.state)).toEqual(['completed', 'completed']);
  const [keys] = Object.values(await keysByWrappingVersion(installation));
  expect(ends[0]?.keys).toEqual({ total: keys, moved: keys, verified: keys });
  expect(await auditSince(installation, audited)).toEqual({
    'wrapping_key.rotation_requested': 1,
    'wrapping_key.created': 1,
    'wrapping_key.rotation_prepared': 1,
    'wrapping_key.promoted': 1,
    'wrapping_key.rewrapped': 1,
    'wrapping_key.rotation_completed': 1,
  });
});

test('one is open at a time, and each verb has its moment', async () => {
  await installation.open();
  const { id } = await keyring.wrappingKeys.request();
  await expect(keyring.wrappingKeys.request()).rejects.toMatchObject({
    code: 'rotation_in_progress',
    details: { rotationId: id, kind: 'wrapping' },
  });
  expect(await codeOf(keyring.wrappingKeys.rollback(id))).toBe('illegal_state');
  expect(await codeOf(keyring.wrappingKeys.resume(id))).toBe('rotation_not_open');
  expect((await keyring.wrappingKeys.run(id, { whenLagging: 'leave' })).state).toBe('prepared');
  expect((await keyring.wrappingKeys.cancel(id)).state).toBe('canceled');
  expect(await codeOf(keyring.wrappingKeys.cancel(id))).toBe('rotation_not_open');
  await forgetInstances(installation);
  const done = await rotateWrappingKey();
  expect(await codeOf(keyring.wrappingKeys.rollback(done))).toBe('rotation_not_open');
  expect(await codeOf(keyring.wrappingKeys.run('00000000-0000-4000-8000-000000000000'))).toBe('unknown_rotation');
  expect(await keyring.wrappingKeys.get('nothing')).toBeUndefined();
});

// ── keys that are in the way ────────────────────────────────────────────────────────────────────────────────────────

test('keys that do not unwrap block it and are named; all others are wrapped anew, and it goes on once they are mended', async () => {
  await addStagedVersions(installation, project.id, 50);
  const [broken] = await installation.sql<{ id: string; wrapped_key: Buffer }>(
    'select id, wrapped_key from keyring.encryption_keys where version = 7',
  );
  const set = 'update keyring.encryption_keys set wrapped_key = $2 where id = $1';
  const altered = Buffer.from(broken?.wrapped_key ?? []);
  altered[40] = (altered[40] ?? 0) ^ 1;
  await installation.behindTheFence(set, [broken?.id, altered]);

  const { id } = await keyring.wrappingKeys.request();
  const blocked = await keyring.wrappingKeys.run(id);
  expect(blocked).toMatchObject({
    state: 'blocked',
    errorCode: 'keys_do_not_open',
    blockedBy: [{ kind: 'data', id: broken?.id, projectId: project.id, version: 7, reason: 'does_not_open' }],
  });
  expect(await keysByWrappingVersion(installation)).toEqual({ '1': 1, '2': 50 });
  const findings = (await keyring.doctor()).findings.map((finding) => finding.code);
  expect(findings).toContain('wrapping_rotation_blocked');

  await installation.behindTheFence(set, [broken?.id, broken?.wrapped_key]);
  await keyring.wrappingKeys.resume(id);
  expect(await keyring.wrappingKeys.run(id)).toMatchObject({
    state: 'completed',
    blockedBy: [],
    keys: { verified: 51 },
  });
  await expectHealthy(keyring);
});

test('a key that unwraps to another key than it was is found when it is read back, and blocks it until it is mended', async () => {
  const [first] = await keyring.keys.list({ projectId: project.id });
  const [was] = await installation.sql<{ fingerprint: Buffer }>('select fingerprint from keyring.encryption_keys');
  await installation.behindTheFence(`update keyring.encryption_keys set fingerprint = decode(repeat('ab', 32), 'hex')`);
  const { id } = await keyring.wrappingKeys.request();
  expect(await keyring.wrappingKeys.run(id)).toMatchObject({
    state: 'blocked',
    blockedBy: [{ id: first?.id, reason: 'does_not_open' }],
  });
  await keyring.wrappingKeys.resume(id);
  expect((await keyring.wrappingKeys.run(id)).state).toBe('blocked');
  await installation.behindTheFence('update keyring.encryption_keys set fingerprint = $1', [was?.fingerprint]);
  await keyring.wrappingKeys.resume(id);
  expect((await keyring.wrappingKeys.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
});

test('a key whose row somebody holds is passed over, waited for with patience, and named when that ends', async () => {
  await addStagedVersions(installation, project.id, 50);
  await using holder = await session(installation.test.adminUrl, 'holder');
  await holder.query('begin');
  await holder.query('select from keyring.encryption_keys where version = 5 for update');
  const impatient = await installation.open({ lockPatienceMs: 100 });
  await forgetInstances(installation);
  const { id } = await impatient.wrappingKeys.request();
  expect(await impatient.wrappingKeys.run(id)).toMatchObject({
    state: 'blocked',
    errorCode: 'keys_held',
    blockedBy: [{ version: 5, reason: 'held' }],
  });
  expect(await keysByWrappingVersion(installation)).toEqual({ '1': 1, '2': 50 });

  await keyring.wrappingKeys.resume(id);
  const running = keyring.wrappingKeys.run(id);
  await expect.poll(() => stateOf(id)).toBe('rewrapping');
  await holder.query('rollback');
  expect((await running).state).toBe('completed');
});

test('a transaction that makes keys and stays open delays the pointer for its bounded waits, and nobody for longer', async () => {
  await using maker = await session(installation.test.serviceUrl, 'maker');
  await maker.query('begin');
  const copy = `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
    select gen_random_uuid(), project_id, 90, wrapped_key, wrapping_key_id, fingerprint from keyring.encryption_keys limit 1`;
  await maker.query(copy);
  const impatient = await installation.open({ lockPatienceMs: 300 });
  await forgetInstances(installation);
  const { id } = await impatient.wrappingKeys.request();
  expect(await codeOf(impatient.wrappingKeys.run(id))).toBe('contended');
  expect(await stateOf(id)).toBe('prepared');
  const { id: newProject } = await keyring.projects.create({ name: 'new' });
  await keyring.secrets.put(newProject, 'A', 'a');
  const running = keyring.wrappingKeys.run(id);
  await maker.query('rollback');
  expect((await running).state).toBe('completed');
});

// ── what was restored ───────────────────────────────────────────────────────────────────────────────────────────────

/** Puts the bytes back that a data key had, as from a backup, in a transaction of the migrating role that `before` begins. */
async function restoreKey(
  row: { id: string; wrapped_key: Buffer; wrapping_key_id: string },
  before: string,
  url: string,
) {
  await using client = await session(url, 'restore');
  await client.query('begin');
  await client.query(before);
  await client.query('update keyring.encryption_keys set wrapped_key = $2, wrapping_key_id = $3 where id = $1', [
    row.id,
    row.wrapped_key,
    row.wrapping_key_id,
  ]);
  await client.query('commit');
}

test('a row from before the rotation comes back by the door alone, opens, holds its wrapping key, and is moved by the next', async () => {
  const [old] = await installation.sql<{ id: string; wrapped_key: Buffer; wrapping_key_id: string }>(
    'select id, wrapped_key, wrapping_key_id from keyring.encryption_keys',
  );
  await rotateWrappingKey();
  const { ownerUrl, adminUrl } = installation.test;
  const door = `select keyring.open_restore_door('ticket 4711')`;
  await expect(restoreKey(old!, 'select', ownerUrl)).rejects.toMatchObject({ code: 'MK009' });
  await restoreKey(old!, door, ownerUrl);
  const fresh = await installation.open();
  expect((await fresh.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
  expect((await fresh.doctor()).findings.map((finding) => finding.code)).toEqual([
    'stale_wrapping',
    'no_backup',
    'single_admin',
  ]);
  expect(await codeOf(fresh.wrappingKeys.destroy(old!.wrapping_key_id, { reason: 'old' }))).toBe('key_in_use');

  await forgetInstances(installation);
  await rotateWrappingKey();
  await expectHealthy(fresh);
  const destroyed = await keyring.wrappingKeys.destroy(old!.wrapping_key_id, { reason: 'old' });
  expect(destroyed).toMatchObject({ state: 'destroyed', rootKeys: [] });
  await expect(restoreKey(old!, door, ownerUrl)).rejects.toMatchObject({ code: 'MK006' });
  // As `pg_restore --disable-triggers` does.
  await restoreKey(old!, 'set local session_replication_role = replica', adminUrl);
  await expect((await installation.open()).secrets.get(project.id, 'SECRET_1')).rejects.toMatchObject({
    code: 'key_destroyed',
    message: expect.stringContaining(`Wrapping key version 1 (${old!.wrapping_key_id})`) as string,
  });
});

test('the primary wrapping key and one that a rotation needs are not destroyed', async () => {
  const [first] = await keyring.wrappingKeys.list();
  expect(await codeOf(keyring.wrappingKeys.destroy(first?.id ?? '', { reason: 'x' }))).toBe('key_is_primary');
  await installation.open();
  const { id } = await keyring.wrappingKeys.request();
  const { toKeyId } = await keyring.wrappingKeys.run(id, { whenLagging: 'leave' });
  expect(await codeOf(keyring.wrappingKeys.destroy(toKeyId ?? '', { reason: 'x' }))).toBe('key_in_use');
  expect(await codeOf(keyring.wrappingKeys.destroy(id, { reason: 'x' }))).toBe('unknown_key');
  expect(await auditSince(installation, '0')).toMatchObject({ 'wrapping_key.destroyed (refused)': 2 });
});

test('a database restored as a whole from before the rotation opens with the same root key', async () => {
  const admin = new URL(installation.test.adminUrl);
  const name = `${installation.test.name}_dump`;
  const at = (database: string, url = admin.href): string =>
    Object.assign(new URL(url), { pathname: `/${database}` }).href;
  await installation.release();
  await using postgres = await session(at('postgres'), 'copier');
  await expect
    .poll(() =>
      postgres.query(`create database ${name} template ${installation.test.name}`).then(() => 'copied', String),
    )
    .toBe('copied');
  try {
    installation = await startInstallation({ test: installation.test, rootKey: root });
    keyring = await installation.open();
    await forgetInstances(installation);
    await rotateWrappingKey();
    const dump = pgDatabase({ connectionString: at(name, installation.test.serviceUrl) });
    const restored = await installation.open({ wrap: () => dump });
    expect((await restored.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
    expect((await restored.wrappingKeys.list()).map(({ version, active }) => [version, active])).toEqual([[1, true]]);
    await rotateWrappingKey(restored);
    await restored.close();
  } finally {
    await postgres.query(`drop database ${name} with (force)`);
  }
});
