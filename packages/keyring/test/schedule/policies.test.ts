import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { DAY_MS, HOUR_MS } from '../../src/schedule/arithmetic/duration.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { clearProjects, codeOf, makeProject, type KnownProject } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  await installation.sql('delete from keyring.rotation_policies');
  await installation.sql('insert into keyring.rotation_policies (project_id) values (null)');
  keyring = (await installation.open()).as({ name: 'ada', kind: 'user' });
  project = await makeProject(installation, keyring, { secrets: 1 });
});
afterAll(() => installation.end());

const weekends = {
  zone: 'Europe/Berlin',
  windows: [{ days: ['sat', 'sun'], from: '22:00', to: '06:00' }],
} as const;
const set = async (change: Parameters<Keyring['policies']['set']>[0], projectId?: string) =>
  keyring.policies.set(change, { projectId, revision: (await keyring.policies.show(projectId)).revision });
const dueAt = async (): Promise<Date | undefined> =>
  (await installation.sql<{ due_at: Date }>('select due_at from keyring.scheduled_projects'))[0]?.due_at;

test('an installation rotates every 90 days, up to a week earlier', async () => {
  expect(await keyring.policies.show()).toMatchObject({
    projectId: undefined,
    enabled: true,
    rotateAfterMs: 90 * DAY_MS,
    jitterMs: 7 * DAY_MS,
    retentionMs: 30 * DAY_MS,
    destroyAfterRetention: true,
    quietHours: undefined,
    inWords: 'every 90 days (up to 1 week earlier), at any time',
  });
  expect(await keyring.policies.show(project.id)).toMatchObject({ projectId: project.id, revision: 0 });
});

test('a project that gets a policy of its own takes the default along, and goes by the default again without it', async () => {
  await set({ rotateAfterMs: 30 * DAY_MS, quietHours: weekends });
  const own = await set({ rotateAfterMs: 7 * DAY_MS, jitterMs: 0, reason: 'payments' }, project.id);
  expect(own).toMatchObject({ rotateAfterMs: 7 * DAY_MS, quietHours: { windows: [{ days: ['sun', 'sat'] }] } });
  expect(own.inWords).toBe('every 1 week, Saturdays and Sundays 22:00 to 06:00, Europe/Berlin');
  await set({ rotateAfterMs: 60 * DAY_MS });
  expect(await keyring.policies.show(project.id)).toMatchObject({ rotateAfterMs: 7 * DAY_MS, changedBy: 'ada' });
  expect((await keyring.policies.list()).map(({ projectId }) => projectId)).toEqual([undefined, project.id]);
  const back = await keyring.policies.unset(project.id, { revision: own.revision, reason: 'over' });
  expect(back).toMatchObject({ revision: 0, rotateAfterMs: 60 * DAY_MS });
  expect(await codeOf(keyring.policies.unset(project.id, { revision: 0 }))).toBe('illegal_state');
});

test('two who change the same policy do not overwrite each other', async () => {
  const { revision } = await keyring.policies.show();
  const both = await Promise.allSettled(
    [30, 60].map((days) => keyring.policies.set({ rotateAfterMs: days * DAY_MS }, { revision })),
  );
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'conflict' } });
  // A first policy of its own.
  const first = await Promise.allSettled(
    [30, 60].map((days) =>
      keyring.policies.set({ rotateAfterMs: days * DAY_MS }, { projectId: project.id, revision: 0 }),
    ),
  );
  expect(first.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  // One that was removed and made anew is not the one that was seen before.
  const seen = await keyring.policies.show(project.id);
  await keyring.policies.unset(project.id, { revision: seen.revision });
  await set({}, project.id);
  expect(
    await codeOf(keyring.policies.set({ rotateAfterMs: DAY_MS }, { projectId: project.id, revision: seen.revision })),
  ).toBe('conflict');
});

test('the trail says who changed what, from what, to what', async () => {
  await set({ enabled: false, reason: 'moving house' });
  expect(await keyring.audit.list({ limit: 1 })).toMatchObject([
    {
      actor: 'ada',
      action: 'policy.changed',
      subject: 'policy:default',
      reason: 'moving house',
      details: { before: { enabled: true }, after: { enabled: false } },
    },
  ]);
  expect((await keyring.policies.show()).inWords).toBe('not rotated on a schedule: moving house');
  expect((await keyring.policies.next()).dates).toEqual([]);
  expect((await keyring.keys.list())[0]?.nextDueAt).toBeUndefined();
});

test.each([
  [{ rotateAfterMs: DAY_MS - 1 }],
  [{ rotateAfterMs: 3651 * DAY_MS }],
  [{ rotateAfterMs: Number.NaN }],
  [{ jitterMs: 90 * DAY_MS }],
  [{ retentionMs: -1 }],
  [{ maxEncryptions: 0 }],
  [{ enabled: false }],
  [{ reason: ' ' }],
  [{ quietHours: { zone: 'UTC', cron: '0 0 30 2 *', openForMinutes: 60 } }],
  [{ quietHours: { zone: 'UTC', windows: [] } }],
])('%j is refused, and changes nothing', async (change) => {
  const before = await keyring.policies.show();
  expect(await codeOf(set(change))).toBe('invalid_argument');
  expect(await keyring.policies.show()).toEqual(before);
});

test('a project that is not there is unknown, and takes its policy along when it goes', async () => {
  const nobody = '00000000-0000-4000-8000-000000000001';
  expect(await codeOf(keyring.policies.show(nobody))).toBe('unknown_project');
  expect(await codeOf(keyring.policies.set({}, { projectId: nobody, revision: 0 }))).toBe('unknown_project');
  await set({}, project.id);
  await installation.sql('delete from public.projects where id = $1', [project.id]);
  expect(await keyring.policies.list()).toHaveLength(1);
});

test('the list of keys, the next dates and the database say the same date', async () => {
  const dates = async () => {
    const next = await keyring.policies.next({ projectId: project.id });
    expect(next).toMatchObject({ of: 'project' });
    expect((await keyring.policies.next()).dates[0]).toEqual(next.dates[0]);
    expect((await keyring.keys.list())[0]?.nextDueAt).toEqual(next.dates[0]);
    return next.dates;
  };
  const anyTime = await dates();
  expect(anyTime[0]).toEqual(await dueAt());
  expect(anyTime).toHaveLength(5);
  await set({ quietHours: weekends });
  const atWeekends = await dates();
  for (const date of atWeekends) expect([0, 1, 6]).toContain(date.getUTCDay());
  await set({ quietHours: { zone: 'Europe/Berlin', cron: '0 3 * * sun', openForMinutes: 60 } });
  const onSundays = await dates();
  expect(onSundays.map((date) => date.getUTCDay())).toEqual([0, 0, 0, 0, 0]);
});

test('what a change would come to is seen before it is made', async () => {
  const { dates, policy } = await keyring.policies.next({
    projectId: project.id,
    change: { rotateAfterMs: 7 * DAY_MS, jitterMs: 0 },
    count: 2,
  });
  const made = (await keyring.keys.list())[0]?.createdAt.getTime() ?? 0;
  const hour = (at: number) => new Date(Math.floor(at / HOUR_MS) * HOUR_MS);
  expect(dates).toEqual(
    [hour(made + 7 * DAY_MS), hour(made + 14 * DAY_MS - HOUR_MS)].map((one, i) => (i === 0 ? one : dates[1])),
  );
  expect(policy.inWords).toBe('every 1 week, at any time');
  expect(await keyring.policies.show(project.id)).toMatchObject({ revision: 0, rotateAfterMs: 90 * DAY_MS });
});

test('no span of a policy depends on the time zone of a session', async () => {
  const dates = async (zone: string) => {
    await installation.sql(`set timezone = '${zone}'`);
    return installation.sql(
      'select extract(epoch from due_at) as due, extract(epoch from promised_at) as promised from keyring.scheduled_projects',
    );
  };
  const expected = await dates('UTC');
  for (const zone of ['Europe/Berlin', 'Pacific/Apia', 'Australia/Lord_Howe'])
    expect(await dates(zone)).toEqual(expected);
  await installation.sql('reset timezone');
});
