import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  fillProject,
  type KnownProject,
} from '../../keyring/test/engine/support/world.ts';
import { listWorkers } from '@meshhook/keyring-worker';
import { pgDatabase } from '@meshhook/keyring';
import { makeProjects, startFleet, type Fleet, type WorkerProcess } from './support/fleet.ts';

const soon = { interval: 100 };

let fleet: Fleet;
beforeEach(async () => {
  fleet = await startFleet();
});
afterEach(() => fleet.end());

const completed = (id: string) =>
  expect.poll(async () => (await detailOf(fleet.keyring, id)).state, soon).toBe('completed');

/** Three workers that each hold a unit, and the rotation that it is of; the driver is the first. */
async function threeThatHold(
  projects: number,
): Promise<{ id: string; driver: WorkerProcess; others: WorkerProcess[] }> {
  const workers = await Promise.all([1, 2, 3].map(() => fleet.start({ GATED: 'yes' })));
  const { id } = await fleet.keyring.rotations.request({ projects: 'all', pace: 'full' });
  await Promise.all(workers.map((worker) => worker.says('unit')));
  const { runner, projects: states } = await detailOf(fleet.keyring, id);
  expect(states.total).toBe(projects);
  const driver = workers.find(({ pid }) => runner?.includes(`:${String(pid)}:`));
  if (driver === undefined) throw new Error(`Nobody drives it: ${String(runner)}`);
  return { id, driver, others: workers.filter((one) => one !== driver) };
}

async function workersOf({ installation }: Fleet) {
  const database = pgDatabase({ connectionString: installation.test.serviceUrl, maxConnections: 1 });
  try {
    return await listWorkers(database);
  } finally {
    await database.close();
  }
}

/** Until each has looked who is there since the last of them came. */
const everybodyKnown = () =>
  expect
    .poll(
      () =>
        fleet.installation.sql(
          `select from keyring.workers where seen_at <= (select max(started_at) + interval '1 ms' from keyring.workers)`,
        ),
      soon,
    )
    .toEqual([]);

/** A unit that a former driver had handed out may still be at its end, when the rotation has ended without it. */
const noJobLeft = () =>
  expect
    .poll(
      () =>
        fleet.installation.sql(
          `select state, singleton_key from keyring_jobs.job where state in ('created', 'active')`,
        ),
      soon,
    )
    .toEqual([]);

test('a rotation of sixty projects is done by three processes, each of which does units of it', async () => {
  const projects = await makeProjects(fleet.keyring, 60, 3);
  const { id, driver, others } = await threeThatHold(60);
  await expect
    .poll(async () => (await workersOf(fleet)).map(({ alive, units }) => alive && units.length === 1), soon)
    .toEqual([true, true, true]);
  expect((await workersOf(fleet)).flatMap(({ driving }) => driving)).toEqual([id]);
  for (const worker of [driver, ...others]) worker.open();
  await completed(id);
  await expectEverySecretFresh(fleet.installation, fleet.keyring, projects);
  await expectHealthy(fleet.keyring);
  const done = [driver, ...others].map(({ said }) => said.reduce((sum, one) => sum + Number(one['done'] ?? 0), 0));
  expect(done.every((count) => count > 0)).toBe(true);
  expect(done.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(60);
  await noJobLeft();
});

test('the units of a worker that was killed are done by others', async () => {
  const projects = await makeProjects(fleet.keyring, 60, 3);
  const { id, driver, others } = await threeThatHold(60);
  const [killed, left] = others;
  driver.open();
  left?.open();
  expect(await killed?.end('SIGKILL')).toBe('SIGKILL');
  await completed(id);
  await expectEverySecretFresh(fleet.installation, fleet.keyring, projects);
  await noJobLeft();
  await expect.poll(async () => (await workersOf(fleet)).filter(({ alive }) => alive).length, soon).toBe(2);
});

test('a rotation whose driver was killed is driven by another worker', async () => {
  const projects = await makeProjects(fleet.keyring, 60, 3);
  const { id, driver, others } = await threeThatHold(60);
  expect(await driver.end('SIGKILL')).toBe('SIGKILL');
  for (const worker of others) worker.open();
  await completed(id);
  await expectEverySecretFresh(fleet.installation, fleet.keyring, projects);
  await noJobLeft();
  // It says so after it is so.
  await expect
    .poll(
      () => others.flatMap(({ said }) => said.filter(({ info }) => String(info).includes(`${id}: completed`))),
      soon,
    )
    .toHaveLength(1);
});

test('a worker that is told to stop gives back what it has, and leaves nothing behind', async () => {
  const projects = await makeProjects(fleet.keyring, 60, 3);
  const { id, driver, others } = await threeThatHold(60);
  const [stopped, left] = others;
  const held = async () =>
    (await fleet.installation.sql(`select id from keyring_jobs.job where state = 'active'`)).map(({ id: job }) => job);
  // That of the driver may be in nobody's queue: it took it before it knew of the others.
  const before = await held();
  expect(await stopped?.end('SIGTERM')).toBe(0);
  expect(stopped?.said.at(-1)).toEqual({ stopped: { done: 0, failed: 0 } });
  expect(await held()).toHaveLength(before.length - 1);
  expect(await workersOf(fleet)).toHaveLength(2);
  // The driver, too: everything goes to the one that is left.
  expect(await driver.end('SIGTERM')).toBe(0);
  left?.open();
  await completed(id);
  await expectEverySecretFresh(fleet.installation, fleet.keyring, projects);
  expect(await left?.end('SIGTERM')).toBe(0);
  await noJobLeft();
  expect(await workersOf(fleet)).toEqual([]);
});

test('a large project is parted among three processes, and the part of one that is killed is done by another', async () => {
  const [project] = (await makeProjects(fleet.keyring, 1, 1)) as [KnownProject];
  await fillProject(fleet.installation, project, 3_000);
  const workers = await Promise.all([1, 2, 3].map(() => fleet.start({ GATED: 'rows', BATCH_SIZE: '100' })));
  await everybodyKnown();
  const { id } = await fleet.keyring.rotations.request({ projects: 'all', pace: 'full' });
  // Three parts, one each.
  await Promise.all(workers.map((worker) => worker.says('holds')));
  const { runner } = await detailOf(fleet.keyring, id);
  const killed = workers.find(({ pid }) => runner?.includes(`:${String(pid)}:`) === false);
  expect(await killed?.end('SIGKILL')).toBe('SIGKILL');
  for (const worker of workers) if (worker !== killed) worker.open();
  await completed(id);
  await expectEverySecretFresh(fleet.installation, fleet.keyring, [project]);
  expect((await detailOf(fleet.keyring, id)).rows).toMatchObject({ total: 3_001, moved: 3_001, verified: 3_001 });
  await noJobLeft();
});
