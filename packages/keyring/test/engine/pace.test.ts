import type { Executor, Keyring, Rotation } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { auditPosition, auditSince, clearProjects, codeOf, expectEverySecretFresh } from './support/world.ts';
import { makeProject, type KnownProject } from './support/world.ts';

// Far more than a cap of one row a second lets through before a test gives up.
const SECRETS = 40;

let installation: Installation;
/** The operator's; the rotations run in another one, which shares nothing with it but the database. */
let keyring: Keyring;
let project: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: SECRETS });
});
afterAll(() => installation.end());

const isMove = (text: string): boolean => text.includes('keyring.move_');

/** Another process that rotates; `seen` is asked before each statement. */
const worker = (seen: (text: string, name?: string) => Promise<void>, options = {}): Promise<Keyring> =>
  installation.open({
    ...options,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        await seen(statement.text, statement.name);
        return send();
      }),
  });

test('a rotation is polite and without a cap unless it is asked for otherwise', async () => {
  const polite = await keyring.rotations.request({ projects: [project.id] });
  expect(polite).toMatchObject({ pace: 'polite', maxRate: undefined });
  await keyring.rotations.run(polite.id);
  const full = await keyring.rotations.request({ projects: [project.id], pace: 'full', maxRate: 500 });
  expect(full).toMatchObject({ pace: 'full', maxRate: 500 });
  expect((await keyring.rotations.list({ limit: 1 }))[0]).toMatchObject({ pace: 'full', maxRate: 500 });
});

test('a polite rotation of a few secrets is not measured, and its batches do not rest', async () => {
  let probes = 0;
  const rotator = await worker(async (_, name) => void (probes += Number(name === 'secret_select')));
  const { id } = await rotator.rotations.request({ projects: [project.id] });
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  expect(probes).toBe(0);
});

test('a polite rotation past its beginning reads beside its batches, and takes them one at a time', async () => {
  let probes = 0;
  let underWay = 0;
  let most = 0;
  const rotator = await installation.open({
    sweepBatchSize: 10,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.name === 'secret_select') probes += 1;
        if (!isMove(statement.text)) return send();
        most = Math.max(most, ++underWay);
        return send().finally(() => (underWay -= 1));
      }),
  });
  // A cap begins without the free rows, and this one is too high to be met.
  const { id } = await rotator.rotations.request({ projects: [project.id], maxRate: 1_000_000 });
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  expect(probes).toBeGreaterThan(0);
  expect(most).toBe(1);
  await expectEverySecretFresh(installation, keyring, [project]);
});

test.each(['driver', 'unit of another process'])(
  'a cap that is lifted from elsewhere no longer holds a %s',
  async (who) => {
    const rotator = await worker(async () => undefined);
    const { id } = await rotator.rotations.request({ projects: [project.id], maxRate: 1 });
    const executor: Executor = {
      atOnce: 1,
      execute: async (unit, signal) => rotator.rotations.work(unit, { signal }),
    };
    const running =
      who === 'driver' ? rotator.rotations.run(id) : (await installation.open()).rotations.run(id, { executor });
    await until(async () => (await rotationOf(id)).rows.moved > 0);
    expect((await rotationOf(id)).rows.moved).toBeLessThan(SECRETS / 2);
    await keyring.rotations.setPace(id, { pace: 'full', maxRate: null });
    expect(await running).toMatchObject({ state: 'completed', pace: 'full', maxRate: undefined });
    await expectEverySecretFresh(installation, keyring, [project]);
  },
);

test('a cap that another process sets holds the rows that are left, and a pause ends the rest at once', async () => {
  let moves = 0;
  let beats = 0;
  let slowed: Promise<void> | undefined;
  const slowDown = async (): Promise<void> => {
    await keyring.rotations.setPace(id, { maxRate: 1 });
    // One beat may have been on its way already; the next one knows.
    const from = beats;
    await until(() => beats > from + 2);
  };
  const rotator = await worker(
    async (text) => {
      if (text.includes('set runner = $2')) beats += 1;
      if (!isMove(text)) return;
      moves += 1;
      await (slowed ??= slowDown());
    },
    { sweepBatchSize: 1 },
  );
  const { id } = await rotator.rotations.request({ projects: [project.id], pace: 'full' });
  const running = rotator.rotations.run(id);
  // The three batches that were under way, and the first one under the cap.
  await until(() => moves > 3);
  await keyring.rotations.pause(id);
  expect((await running).state).toBe('paused');
  expect((await rotationOf(id)).rows.moved).toBeLessThan(SECRETS);
  expect((await keyring.rotations.setPace(id, { maxRate: null })).maxRate).toBeUndefined();
  await keyring.rotations.resume(id);
  expect((await keyring.rotations.run(id)).state).toBe('completed');
});

test('a change of pace is on record, one that changes nothing is not, and what is over has none', async () => {
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  const from = await auditPosition(installation);
  await keyring.rotations.setPace(id, { maxRate: 7 });
  await keyring.rotations.setPace(id, { maxRate: 7 });
  expect(await auditSince(installation, from)).toEqual({ 'rotation.pace_changed': 1 });
  const [entry] = await keyring.audit.list({ limit: 1 });
  expect(entry?.details).toEqual({
    pace: 'polite',
    maxRate: 7,
    before: { pace: 'polite', maxRate: null },
  });
  await keyring.rotations.setPace(id, { pace: 'full', maxRate: null });
  await keyring.rotations.run(id);
  expect(await codeOf(keyring.rotations.setPace(id, { pace: 'polite' }))).toBe('rotation_not_open');
  expect(await codeOf(keyring.rotations.setPace(project.id, { pace: 'polite' }))).toBe('unknown_rotation');
});

test.each([{}, { maxRate: 0 }, { maxRate: 1.5 }, { maxRate: 1_000_001 }, { pace: 'slow' as 'polite' }])(
  'a pace that cannot be is refused: %o',
  async (change) => {
    const { id } = await keyring.rotations.request({ projects: [project.id] });
    expect(await codeOf(keyring.rotations.setPace(id, change))).toBe('invalid_argument');
  },
);

test('an emergency is at full speed, whatever its row says, and cannot be slowed down', async () => {
  const leaked = (await keyring.keys.list({ projectId: project.id })).find(({ active }) => active)?.id ?? '';
  const { rotation } = await keyring.rotations.compromise(leaked, { reason: 'test' });
  const id = rotation?.id ?? '';
  expect(rotation).toMatchObject({ pace: 'full', maxRate: undefined });
  expect(await codeOf(keyring.rotations.setPace(id, { maxRate: 1 }))).toBe('illegal_state');
  await installation.sql(`update keyring.rotations set pace = 'polite', max_rate = 1 where id = $1`, [id]);
  expect(await keyring.rotations.run(id)).toMatchObject({ state: 'completed', pace: 'full', maxRate: undefined });
});

async function rotationOf(id: string): Promise<Rotation> {
  const rotation = await keyring.rotations.get(id);
  if (rotation === undefined) throw new Error('there is no such rotation');
  return rotation;
}

async function until(met: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await met())) await new Promise((resolve) => setTimeout(resolve, 10));
}
