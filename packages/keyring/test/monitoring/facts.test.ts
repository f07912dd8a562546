import {
  KeyringError,
  type DatabaseFacts,
  type FleetFacts,
  type Keyring,
  type MonitoringFacts,
} from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { memoryRootKey, startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase } from '../engine/support/intercept.ts';
import { clearProjects, makeProject, type KnownProject } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await installation.sql('delete from keyring.quarantine');
  await clearProjects(installation);
  keyring = await installation.open({ factsMaxAgeMs: 0 });
  project = await makeProject(installation, keyring, { secrets: 3 });
});
afterAll(() => installation.end());

const rotate = async (by = keyring): Promise<void> => {
  await by.rotations.run((await by.rotations.request({ projects: [project.id] })).id);
};
const databaseOf = async (by = keyring): Promise<DatabaseFacts> => known((await by.monitoring.facts()).database);
const fleetOf = async (by = keyring): Promise<FleetFacts> => known((await by.monitoring.facts()).fleet);
const completed = ({ ended }: DatabaseFacts): number =>
  ended.filter(({ outcome }) => outcome === 'completed').reduce((sum, { seconds }) => sum + seconds.count, 0);

function known<T>(facts: T | undefined): T {
  if (facts === undefined) throw new Error('the database was not asked');
  return facts;
}

test('a rotation that ends is counted once, with its time and its rows, by every process', async () => {
  const other = await installation.open({ factsMaxAgeMs: 0 });
  expect(completed(await databaseOf())).toBe(0);
  await rotate();
  for (const by of [keyring, other, keyring]) {
    const facts = await databaseOf(by);
    expect(facts.ended).toMatchObject([{ kind: 'data_key', trigger: 'manual', outcome: 'completed' }]);
    expect(facts.ended[0]?.seconds).toMatchObject({ count: 1 });
    expect(facts.ended[0]?.seconds.counts.at(-1)).toBe(1);
    expect(facts.secrets).toEqual({ moved: 3, verified: 3, remaining: 0 });
  }
});

test('what is counted for good and what is not yet add up, whenever a process began', async () => {
  await rotate();
  await installation.behindTheFence(
    `update keyring.rotations set started_at = started_at - interval '1 day', finished_at = finished_at - interval '1 day'`,
  );
  const early = await installation.open({ factsMaxAgeMs: 0 });
  expect(completed(await databaseOf(early))).toBe(1);
  await rotate();
  expect(completed(await databaseOf(early))).toBe(2);
  await installation.behindTheFence(
    // Just after what the process has counted for good, and just before what it will.
    `update keyring.rotations set finished_at = now() - interval '10 minutes' where finished_at > now() - interval '1 hour'`,
  );
  await rotate();
  for (const by of [early, keyring, early]) {
    expect(completed(await databaseOf(by))).toBe(3);
    expect((await databaseOf(by)).secrets.moved).toBe(9);
  }
});

test('later looks read only what ended since', async () => {
  const asked: string[] = [];
  const watching = await installation.open({
    factsMaxAgeMs: 0,
    wrap: (database) =>
      interceptDatabase(database, ({ statement, send }) => {
        if (statement.text.includes('ended as')) asked.push(String(statement.values?.[0]));
        return send();
      }),
  });
  await rotate();
  await databaseOf(watching);
  await databaseOf(watching);
  expect(asked[0]).toBe('-infinity');
  expect(asked[1]).toMatch(/^\d{4}-/);
});

test('the history can be read from the index alone', async () => {
  // For a table of a few rows nobody would.
  await installation.sql('set enable_seqscan = off; set enable_bitmapscan = off');
  const plan = await installation.sql<{ 'QUERY PLAN': string }>(
    `explain select id, trigger, state, started_at, finished_at from keyring.rotations where finished_at > '-infinity'`,
  );
  await installation.sql('reset enable_seqscan; reset enable_bitmapscan');
  expect(plan.map((row) => row['QUERY PLAN']).join('\n')).toContain('Index Only Scan using rotations_ended');
});

test('open rotations are counted by state, with what is left of them, and whether anybody drives them', async () => {
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  const waiting = await databaseOf();
  expect(waiting).toMatchObject({ undriven: 1, openProjects: { requested: 1 } });
  expect(waiting.open).toEqual([{ kind: 'data_key', trigger: 'manual', state: 'requested', rotations: 1 }]);
  expect(waiting.oldestOpenSeconds).toBeGreaterThan(0);
  await keyring.rotations.pause(id);
  expect(await databaseOf()).toMatchObject({ undriven: 0, open: [{ state: 'paused' }] });
  await keyring.rotations.resume(id);
  await keyring.rotations.run(id);
  expect(await databaseOf()).toMatchObject({ undriven: 0, open: [], openProjects: {}, oldestOpenSeconds: 0 });
});

test('a row that does not open is in quarantine, by its reason, and its rotation blocked', async () => {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
     where key = 'SECRET_1'`,
  );
  await rotate();
  const facts = await databaseOf();
  expect(facts.quarantined).toEqual({ does_not_open: 1 });
  expect(facts.open).toMatchObject([{ state: 'blocked' }]);
  expect(facts.secrets).toMatchObject({ moved: 2, remaining: 1 });
});

test('the oldest key, what is due and overdue, and the fullest key are those of primary versions', async () => {
  expect(await fleetOf()).toMatchObject({ projects: 1, due: 0, overdue: 0 });
  await rotate();
  const age = (version: number, interval: string) =>
    installation.behindTheFence(
      'update keyring.encryption_keys set created_at = now() - $2::interval where version = $1',
      [version, interval],
    );
  await age(1, '5 years');
  expect((await fleetOf()).oldestKeySeconds).toBeLessThan(86_400);
  await age(2, '90 days 1 hour');
  expect(await fleetOf()).toMatchObject({ due: 1, overdue: 0 });
  await age(2, '92 days');
  const late = await fleetOf();
  expect(late).toMatchObject({ due: 1, overdue: 1 });
  expect(late.oldestKeySeconds).toBeCloseTo(92 * 86_400, -2);
  await age(2, '1 day');
  await installation.behindTheFence('update keyring.key_usage set reserved = 4123168604');
  expect(await fleetOf()).toMatchObject({ due: 1, overdue: 1, usageRatio: expect.closeTo(0.96, 3) as number });
});

test('a policy of its own decides about a project', async () => {
  await installation.behindTheFence(`update keyring.encryption_keys set created_at = now() - interval '100 days'`);
  expect(await fleetOf()).toMatchObject({ due: 1, overdue: 1 });
  await installation.sql(`insert into keyring.rotation_policies (project_id, rotate_after) values ($1, '1 year')`, [
    project.id,
  ]);
  expect(await fleetOf()).toMatchObject({ due: 0, overdue: 0 });
});

test('a process counts its own cache, the fence, and what it asked of its root key', async () => {
  const root = memoryRootKey();
  const own = await startInstallation({ rootKey: root });
  try {
    const counting = await own.open({ factsMaxAgeMs: 0 });
    const facts = async (by = counting): Promise<MonitoringFacts['process']> => (await by.monitoring.facts()).process;
    const known = await makeProject(own, counting, { secrets: 1 });
    const before = await facts();
    expect(before.rootKeys).toMatchObject([{ scheme: 'memory', unwrapped: 1, seconds: { count: 1 } }]);
    await counting.secrets.get(known.id, 'SECRET_1');
    expect((await facts()).cacheHits).toBe(before.cacheHits + 1);

    const other = await own.open();
    await other.rotations.run((await other.rotations.request({ projects: 'all' })).id);
    await counting.secrets.put(known.id, 'SECRET_1', 'another value');
    const after = await facts();
    expect(after.fenceRefusals).toBe(1);
    expect(after.cacheMisses).toBeGreaterThan(before.cacheMisses);

    const broken = { ...root, unwrap: () => Promise.reject(new KeyringError('root_key_denied', 'No.')) };
    const two = await own.open({ rootKey: [broken, root], factsMaxAgeMs: 0 }).catch((error: unknown) => error);
    expect(two).toMatchObject({ code: 'root_key_denied' });
  } finally {
    await own.end();
  }
});

test('a database that does not answer leaves what the process knows, and what was last seen of the fleet', async () => {
  let down = false;
  const watching = await installation.open({
    factsMaxAgeMs: 0,
    wrap: (database) => ({
      ...database,
      connect: () =>
        down ? Promise.reject(new KeyringError('database_unreachable', 'It is down.')) : database.connect(),
    }),
  });
  expect((await watching.monitoring.facts()).fleet?.projects).toBe(1);
  down = true;
  const facts = await watching.monitoring.facts();
  expect(facts).toMatchObject({ database: undefined, fleet: { projects: 1 }, process: { failedLooks: 1 } });
  down = false;
  expect((await watching.monitoring.facts()).database).toBeDefined();
});

test('whoever asks at the same time, or soon after, is told what was read once', async () => {
  let looks = 0;
  const watching = await installation.open({
    factsMaxAgeMs: 60_000,
    wrap: (database) =>
      interceptDatabase(database, ({ statement, send }) => {
        if (statement.text.includes('keyring.quarantine')) looks += 1;
        return send();
      }),
  });
  await Promise.all(Array.from({ length: 20 }, () => watching.monitoring.facts()));
  await watching.monitoring.facts();
  expect(looks).toBe(1);
});

test('workers and instances are alive until they fall silent; wrapping keys want a backup', async () => {
  await installation.sql(
    `insert into keyring.workers (id, host, pid, version, concurrency, seen_at)
     select gen_random_uuid(), 'host', n, '1', 1, now() from generate_series(1, 3) n`,
  );
  await installation.sql(`update keyring.instances set seen_at = now() - interval '1 minute'`);
  await installation.open();
  const facts = await databaseOf();
  // One of four seconds ago is alive for one second more: again, until the machine is quick enough to see it.
  await expect
    .poll(async () => {
      await installation.sql(`update keyring.workers set seen_at = now() - (pid - 1) * interval '4 seconds'`);
      return (await databaseOf()).workers;
    })
    .toEqual({ alive: 2, silent: 1 });
  expect(facts.instances.alive).toBe(1);
  expect(facts.instances.silent).toBeGreaterThan(0);
  expect(facts.backups).toEqual({ missing: 1, lastWrittenAt: undefined, lastVerifiedAt: undefined });
  await installation.sql(
    `insert into keyring.root_key_backups (id, root_fingerprint, wrapping_key_ids, recipients, written_at)
     select gen_random_uuid(), repeat('0', 32), array_agg(id), '{x}', now() from keyring.wrapping_keys`,
  );
  expect((await databaseOf()).backups).toMatchObject({ missing: 0, lastWrittenAt: expect.any(Date) as Date });
});

test('the trail lags until it is sealed, and is said to be broken from when sealing finds it changed', async () => {
  expect((await keyring.monitoring.facts()).audit?.unsealed.entries).toBeGreaterThan(0);
  while ((await keyring.audit.seal()).more);
  expect(await keyring.monitoring.facts()).toMatchObject({
    audit: { lagSeconds: 0, unsealed: { entries: 0 }, lastCheckpointAt: expect.any(Date) as Date },
    process: { auditBroken: false },
  });
  await installation.behindTheFence(`update keyring.audit_log set reason = 'another' where id = 1`);
  expect(await keyring.audit.verify()).toMatchObject({ intact: false });
  expect((await keyring.as({ name: 'x', kind: 'user' }).monitoring.facts()).process.auditBroken).toBe(true);
  // Who seals what is new has looked at the end alone.
  await keyring.projects.create({ name: 'one more' });
  expect((await keyring.audit.seal()).sealed).toBeGreaterThan(0);
  expect((await keyring.monitoring.facts()).process.auditBroken).toBe(true);
});
