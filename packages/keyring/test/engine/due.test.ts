import type { Keyring } from '@meshhook/keyring';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { clearProjects, codeOf, detailOf, makeProject, type KnownProject } from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 3 });
});
afterEach(() =>
  installation.sql('update keyring.rotation_policies set max_encryptions = default, rotate_after = default'),
);
afterAll(() => installation.end());

const due = async (): Promise<object[]> => installation.sql('select by_age, by_usage from keyring.due_projects');
const limitOfUse = (most: number) =>
  installation.sql('update keyring.rotation_policies set max_encryptions = $1', [most]);
/** Everything that happened so far happened so long before. */
async function wait(time: string): Promise<void> {
  await installation.behindTheFence('update keyring.keyrings set promoted_at = promoted_at - $1::interval', [time]);
  await installation.behindTheFence('update keyring.encryption_keys set created_at = created_at - $1::interval', [
    time,
  ]);
  await installation.behindTheFence('update keyring.rotation_projects set finished_at = finished_at - $1::interval', [
    time,
  ]);
}

const request = async (): Promise<string> => (await keyring.rotations.request({ projects: [project.id] })).id;

async function rollBack(): Promise<void> {
  const id = await request();
  const stop = new AbortController();
  const stopped = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, ({ statement, send }) => {
        if (statement.text.includes('keyring.move_')) stop.abort();
        return send();
      }),
  });
  expect(await codeOf(stopped.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  await keyring.rotations.rollback(id);
  expect(await keyring.rotations.run(id)).toMatchObject({ state: 'rolled_back', projects: { rolled_back: 1 } });
}

async function cancel(): Promise<void> {
  await keyring.rotations.cancel(await request());
}

async function fail(): Promise<void> {
  const id = await request();
  await installation.behindTheFence(
    `update keyring.rotation_projects set state = 'failed', finished_at = now() where rotation_id = $1`,
    [id],
  );
  expect((await detailOf(keyring, id)).projects.failed).toBe(1);
}

test.each([
  ['turned back', rollBack],
  ['canceled', cancel],
])('a project whose rotation was %s is not due for a day, whatever its age and use', async (_, giveUp) => {
  await limitOfUse(5);
  await wait('100 days');
  expect(await due()).toEqual([{ by_age: true, by_usage: true }]);
  await giveUp();
  await wait('23 hours');
  expect(await due()).toEqual([]);
  expect(await codeOf(keyring.rotations.request({ projects: { due: true } }))).toBe('nothing_to_rotate');
  await wait('1 hour');
  expect(await due()).toMatchObject([{ by_usage: true }]);
});

test('a project whose rotation failed is not due for an hour, and twice as long after each that fails', async () => {
  await wait('100 days');
  for (const hours of [1, 2, 4, 8, 16, 24, 24]) {
    await fail();
    await wait(`${String(hours)} hours -10 minutes`);
    expect(await due()).toEqual([]);
    await wait('10 minutes');
    expect(await due()).toMatchObject([{ by_age: true }]);
  }
});

test('a version that was promoted since is due as any other', async () => {
  await limitOfUse(5);
  await cancel();
  await keyring.rotations.run(await request());
  await wait('2 hours');
  expect(await due()).toEqual([{ by_age: false, by_usage: true }]);
});

test('a limit of use that a sweep alone reaches does not make one rotation after another', async () => {
  await limitOfUse(5);
  await wait('1 hour');
  expect(await due()).toEqual([{ by_age: false, by_usage: true }]);
  const { id } = await keyring.rotations.request({ projects: { due: true }, trigger: 'usage' });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  expect(await due()).toEqual([]);
  await wait('59 minutes');
  expect(await due()).toEqual([]);
});

test('a version near the bound of NIST SP 800-38D is due at once', async () => {
  await installation.sql('update keyring.key_usage set reserved = 3865470565');
  expect(await due()).toEqual([]);
  await installation.sql('update keyring.key_usage set reserved = 3865470566');
  expect(await due()).toEqual([{ by_age: false, by_usage: true }]);
});
