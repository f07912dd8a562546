import { setTimeout as sleep } from 'node:timers/promises';
import { openKeyring, type Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { DAY_MS } from '../../src/schedule/arithmetic/duration.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { clearProjects, detailOf, makeProject, type KnownProject } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  await installation.sql('delete from keyring.rotation_policies');
  await installation.sql(`insert into keyring.rotation_policies (project_id, jitter) values (null, '0')`);
  await installation.sql(`update keyring.schedule_turns set last_at = '-infinity'`);
  keyring = await installation.open();
});
afterAll(() => installation.end());

const projects = async (count: number): Promise<KnownProject[]> => {
  const made: KnownProject[] = [];
  for (let n = 0; n < count; n++) made.push(await makeProject(installation, keyring, { secrets: 1 }));
  return made;
};
/** Everything that happened so far happened so long before. */
async function wait(time: string): Promise<void> {
  for (const [table, column] of [
    ['keyrings', 'promoted_at'],
    ['keyrings', 'primary_made_at'],
    ['encryption_keys', 'created_at'],
    ['encryption_keys', 'retention_until'],
    ['rotation_projects', 'finished_at'],
  ]) {
    await installation.behindTheFence(
      `update keyring.${table ?? ''} set ${column ?? ''} = ${column ?? ''} - $1::interval`,
      [time],
    );
  }
  await installation.behindTheFence(`update keyring.schedule_turns set last_at = last_at - $1::interval`, [time]);
}
const quiet = (hours: object) =>
  installation.sql('update keyring.rotation_policies set quiet_hours = $1', [JSON.stringify(hours)]);
const allDay = [{ days: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], from: '00:00', to: '24:00' }];
/** In UTC, by hours from now. */
const around = (from: number, to: number) => {
  const clock = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16);
  return { zone: 'UTC', windows: [{ ...allDay[0], from: clock(from), to: clock(to) }] };
};
const days = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
/** Its number, in UTC. Shortly before midnight it waits for the next day, so that a test ends on the day that it began on. */
async function today(): Promise<number> {
  const left = DAY_MS - (Date.now() % DAY_MS);
  if (left < 120_000) await sleep(left + 1_000);
  return new Date().getUTCDay();
}
const request = () => keyring.policies.requestDue();
const overdue = async () => (await keyring.policies.overdue()).projects;

test('projects that are due make one rotation, and the trail says when it might have begun', async () => {
  const [first, second] = await projects(2);
  await wait('89 days');
  expect(await request()).toEqual({ rotationId: undefined, projects: 0, plannedFor: undefined });
  await wait('1 day');
  const { rotationId = '', projects: count, plannedFor } = await request();
  expect(count).toBe(2);
  const rotation = await detailOf(keyring, rotationId);
  expect(rotation).toMatchObject({ trigger: 'schedule', state: 'requested', plannedFor, pace: 'polite' });
  expect(rotation.projectDetails.map(({ projectId }) => projectId).sort()).toEqual([first?.id, second?.id].sort());
  expect(await request()).toMatchObject({ projects: 0 });
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  expect(await request()).toMatchObject({ projects: 0 });
});

test('after days without a server it begins at once, and its lateness is on record', async () => {
  await projects(1);
  await wait('93 days');
  const { rotationId = '', plannedFor } = await request();
  const late = Date.now() - (plannedFor?.getTime() ?? 0);
  expect(late).toBeGreaterThanOrEqual(3 * DAY_MS);
  expect(late).toBeLessThan(3 * DAY_MS + 3_700_000);
  const [entry] = await keyring.audit.list({ limit: 1 });
  expect(entry).toMatchObject({ action: 'rotation.requested', subject: `rotation:${rotationId}` });
  expect(entry?.details).toMatchObject({ trigger: 'schedule', plannedFor: plannedFor?.toISOString() });
  expect(Number(entry?.details['lateSeconds'])).toBeGreaterThanOrEqual(259_200);
});

test('quiet hours that are closed hold it, and their opening lets it go, without being late', async () => {
  await projects(1);
  await wait('91 days');
  await quiet(around(2, 4));
  expect(await request()).toMatchObject({ projects: 0 });
  expect(await overdue()).toMatchObject([{ cause: 'waiting' }]);
  await quiet(around(-1, 2));
  const { projects: count, plannedFor } = await request();
  expect(count).toBe(1);
  // Yesterday they were open, too.
  expect(Date.now() - (plannedFor?.getTime() ?? 0)).toBeGreaterThan(DAY_MS / 2);
});

test('the last quiet hours before the promise are used', async () => {
  const day = await today();
  await projects(1);
  await wait('88 days');
  await quiet({ zone: 'UTC', windows: [{ days: [days[day]], from: '00:00', to: '24:00' }] });
  expect((await request()).projects).toBe(1);
  await installation.sql(`update keyring.rotation_projects set state = 'canceled', finished_at = '2020-01-01'`);
  // Five days earlier they open once more in time.
  await wait('-5 days');
  expect((await request()).projects).toBe(0);
});

test('who misses the last quiet hours before the promise is late from then, not from the next ones', async () => {
  const day = await today();
  await projects(1);
  // Open today, and 6 days ago; its age was reached 2 days ago, in between.
  await quiet({ zone: 'UTC', windows: [{ days: [days[day], days[(day + 1) % 7]], from: '00:00', to: '24:00' }] });
  await wait('92 days');
  const { projects: count, plannedFor } = await request();
  expect(count).toBe(1);
  const late = Date.now() - (plannedFor?.getTime() ?? 0);
  expect(late).toBeGreaterThanOrEqual(6 * DAY_MS);
  expect(late).toBeLessThan(8 * DAY_MS);
  const [entry] = await keyring.audit.list({ limit: 1 });
  expect(Number(entry?.details['lateSeconds'])).toBeGreaterThanOrEqual(6 * 86_400);
});

test('a project whose rotation failed or was turned back is foretold for when it is asked for again', async () => {
  const [project] = await projects(1);
  await wait('91 days');
  for (const [state, hours] of [
    ['failed', 1],
    ['canceled', 24],
  ] as const) {
    const { rotationId = '' } = await request();
    await installation.behindTheFence(
      `update keyring.rotation_projects set state = $2, finished_at = now() where rotation_id = $1`,
      [rotationId, state],
    );
    const [first] = (await keyring.policies.next({ projectId: project?.id })).dates;
    const [seen] = await installation.sql<{ at: Date }>(
      'select finished_at as at from keyring.rotation_projects where rotation_id = $1',
      [rotationId],
    );
    expect(first?.getTime()).toBe((seen?.at.getTime() ?? 0) + hours * 3_600_000);
    await wait(`${String(hours)} hours`);
  }
});

test('a version at 0.9 × 2^32 waits for no quiet hours, and a schedule that is off for nothing', async () => {
  await projects(1);
  await quiet(around(2, 4));
  await installation.sql('update keyring.key_usage set reserved = 3865470566');
  await installation.sql(`update keyring.rotation_policies set enabled = false, reason = 'frozen'`);
  expect(await request()).toMatchObject({ projects: 0 });
  await installation.sql('update keyring.rotation_policies set enabled = true');
  const { rotationId = '', projects: count } = await request();
  expect(count).toBe(1);
  expect(await detailOf(keyring, rotationId)).toMatchObject({ trigger: 'usage' });
});

test('a policy that is off, or changed at the last moment, asks for nothing', async () => {
  const [one] = await projects(2);
  await wait('91 days');
  await keyring.policies.set({ enabled: false, reason: 'frozen' }, { projectId: one?.id, revision: 0 });
  const { projects: count } = await request();
  expect(count).toBe(1);
  expect((await overdue()).map(({ projectId }) => projectId)).not.toContain(one?.id);
});

test('a hundred thousand projects of one day are spread over the days that the policy names', async () => {
  await installation.sql('update keyring.rotation_policies set jitter = null');
  // The spread is a function of ids alone: no keys are needed for it.
  const rows = await installation.sql<{ day: string; n: string }>(`
    select floor(7 * (uuid_hash_extended(gen_random_uuid(), 0) & 4294967295)::double precision / 4294967296) as day, count(*) as n
    from generate_series(1, 100000) group by 1 order by 1`);
  expect(rows.map(({ day }) => Number(day))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  for (const { n } of rows) expect(Math.abs(Number(n) - 100_000 / 7)).toBeLessThan(1_000);
  await projects(3);
  const seen = await installation.sql<{ early: number; fraction: number }>(
    'select extract(epoch from promised_at - due_at)::float8 as early, fraction from keyring.scheduled_projects',
  );
  for (const { early, fraction } of seen) {
    expect(early).toBeGreaterThanOrEqual(fraction * 604_800);
    expect(early).toBeLessThan(fraction * 604_800 + 3_600);
  }
  // The date of a project does not move.
  expect(await installation.sql('select fraction from keyring.scheduled_projects order by 1')).toEqual(
    await installation.sql('select fraction from keyring.scheduled_projects order by 1'),
  );
});

test('a rotation that failed is asked for again after one hour, two, four', async () => {
  await projects(1);
  await wait('91 days');
  for (const hours of [1, 2, 4]) {
    const { rotationId = '' } = await request();
    await installation.behindTheFence(
      `update keyring.rotation_projects set state = 'failed', finished_at = now(), error_code = 'self_test' where rotation_id = $1`,
      [rotationId],
    );
    expect(await overdue()).toMatchObject([{ cause: 'failed', errorCode: 'self_test', rotationId }]);
    await wait(`${String(hours)} hours -10 minutes`);
    expect(await request()).toMatchObject({ projects: 0 });
    await wait('10 minutes');
  }
  expect(await request()).toMatchObject({ projects: 1 });
});

test('what is overdue says why, once in the trail', async () => {
  const [running, blocked, paused] = await projects(4);
  await wait('91 days');
  const ask = async (id = '') => (await keyring.rotations.request({ projects: [id] })).id;
  await ask(running?.id);
  await installation.behindTheFence(
    `update keyring.rotation_projects set state = 'blocked', error_code = 'rows_quarantined' where rotation_id = $1`,
    [await ask(blocked?.id)],
  );
  await keyring.rotations.pause(await ask(paused?.id));
  expect((await overdue()).map(({ cause }) => cause).sort()).toEqual(['blocked', 'not_requested', 'paused', 'running']);
  expect(await keyring.policies.overdue({ limit: 1 })).toMatchObject({ total: 4, projects: [{}] });
  expect(await keyring.policies.noteOverdue()).toBe(4);
  await wait('2 minutes');
  expect(await keyring.policies.noteOverdue()).toBe(0);
  expect(await keyring.audit.list({ limit: 1 })).toMatchObject([
    { action: 'rotation.overdue', outcome: 'failed', details: { projects: 4 } },
  ]);
});

test('a project in an open rotation is in no other, and a new one is not due', async () => {
  const [open] = await projects(2);
  await wait('91 days');
  await keyring.rotations.request({ projects: [open?.id ?? ''] });
  await projects(1);
  expect(await request()).toMatchObject({ projects: 1 });
});

test('a project that is deleted while it is due is asked for by nobody', async () => {
  const [gone] = await projects(2);
  await wait('91 days');
  await installation.sql('delete from public.projects where id = $1', [gone?.id]);
  expect(await request()).toMatchObject({ projects: 1 });
  expect(await overdue()).toHaveLength(1);
});

test('a rotation by hand, or because of a leak, is the one that was due, and no second one follows', async () => {
  const [byHand, leaked] = await projects(2);
  await wait('91 days');
  const { id } = await keyring.rotations.request({ projects: [byHand?.id ?? ''] });
  const [key] = await keyring.keys.list({ projectId: leaked?.id ?? '' });
  const { rotation } = await keyring.rotations.compromise(key?.id ?? '', { reason: 'laptop stolen' });
  expect(await request()).toMatchObject({ projects: 0 });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  expect((await keyring.rotations.run(rotation?.id ?? '')).state).toBe('completed');
  expect(await request()).toMatchObject({ projects: 0 });
  expect(await overdue()).toEqual([]);
});

test('a leak overtakes the rotation that the schedule asked for, and nothing is asked for twice', async () => {
  const [project] = await projects(1);
  await wait('91 days');
  const { rotationId = '' } = await request();
  const [key] = await keyring.keys.list({ projectId: project?.id ?? '' });
  const { rotation } = await keyring.rotations.compromise(key?.id ?? '', { reason: 'laptop stolen' });
  expect((await keyring.rotations.run(rotation?.id ?? '')).state).toBe('completed');
  await keyring.rotations.run(rotationId);
  expect(await request()).toMatchObject({ projects: 0 });
  expect((await keyring.keys.list({ projectId: project?.id ?? '' })).filter(({ active }) => active)).toHaveLength(1);
});

test('a schedule that is switched off while its rotation is open lets it end, and asks for no other', async () => {
  const [project] = await projects(1);
  await wait('91 days');
  const { rotationId = '' } = await request();
  await keyring.policies.set({ enabled: false, reason: 'frozen' }, { projectId: project?.id, revision: 0 });
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  await wait('200 days');
  expect(await request()).toMatchObject({ projects: 0 });
  expect(await overdue()).toEqual([]);
  expect(await keyring.policies.noteOverdue()).toBe(0);
});

test('what is overdue is noted once, and its notice goes with its version', async () => {
  await projects(1);
  await wait('92 days');
  expect(await keyring.policies.noteOverdue()).toBe(1);
  const { rotationId = '' } = await request();
  await keyring.rotations.run(rotationId);
  await wait('2 minutes');
  expect(await keyring.policies.noteOverdue()).toBe(0);
  expect(await installation.sql('select key_id from keyring.overdue_notices')).toEqual([]);
  await wait('92 days');
  expect(await keyring.policies.noteOverdue()).toBe(1);
});

test('by use it waits for quiet hours to open, and any number of processes that look in one minute look once', async () => {
  await projects(1);
  await installation.sql('update keyring.rotation_policies set max_encryptions = 1');
  await wait('2 hours');
  await quiet(around(2, 4));
  expect(await request()).toMatchObject({ projects: 0 });
  await quiet(around(-1, 2));
  const processes = await Promise.all(Array.from({ length: 8 }, () => installation.open()));
  await installation.sql(`update keyring.schedule_turns set last_at = '-infinity'`);
  const turns = async () => installation.sql(`select last_at::text from keyring.schedule_turns where task = 'request'`);
  const asked = await Promise.all(processes.map(({ policies }) => policies.requestDue({ atMostEveryMs: 600_000 })));
  expect(asked.filter(({ rotationId }) => rotationId !== undefined)).toHaveLength(1);
  const first = await turns();
  await Promise.all(processes.map(({ policies }) => policies.requestDue({ atMostEveryMs: 600_000 })));
  expect(await turns()).toEqual(first);
});

test('the page of what is due has those by age, by use and by a policy of their own, and no other', async () => {
  const [old, used, own, off, young] = await projects(5);
  const due = async () => (await keyring.keys.page({ due: true })).map(({ projectId }) => projectId).sort();
  expect(await due()).toEqual([]);
  await wait('40 days');
  await keyring.policies.set({ rotateAfterMs: 30 * DAY_MS }, { projectId: own?.id, revision: 0 });
  await keyring.policies.set({ enabled: false, reason: 'frozen' }, { projectId: off?.id, revision: 0 });
  await installation.behindTheFence('update keyring.key_usage set reserved = 3865470566 where project_id = $1', [
    used?.id,
  ]);
  for (const id of [old?.id, off?.id]) {
    await installation.behindTheFence(
      `update keyring.encryption_keys set created_at = now() - interval '90 days' where project_id = $1`,
      [id],
    );
    await installation.behindTheFence(
      `update keyring.keyrings set primary_made_at = now() - interval '90 days' where project_id = $1`,
      [id],
    );
  }
  expect(await due()).toEqual([old?.id, used?.id, own?.id].sort());
  const rest = (await keyring.keys.page({ due: false })).map(({ projectId }) => projectId);
  expect(rest.sort()).toEqual([off?.id, young?.id].sort());
});

test('looks at a fleet that became due at once read each of its projects a few times, not each for each of the others', async () => {
  await projects(1);
  // Who looks has looked before there was a rotation, as every worker has: its plans are those for tables that are known to be empty.
  for (const table of ['rotations', 'rotation_projects', 'overdue_notices'])
    await installation.sql(`delete from keyring.${table}`);
  await installation.sql('vacuum analyze keyring.rotation_projects, keyring.overdue_notices');
  const own = await openKeyring({ database: installation.test.serviceUrl, rootKey: installation.rootKey });
  await wait('91 days');
  expect(await own.policies.requestDue()).toMatchObject({ projects: 1 });
  const fleet = 2_000;
  await installation.behindTheFence(`
    with made as (
      insert into public.projects (id, owner, name)
        select gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'fleet ' || n from generate_series(1, ${String(fleet)}) n
        returning id
    ), keys as (
      insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, activated_at, created_at)
        select gen_random_uuid(), p.id, 1, k.wrapped_key, k.wrapping_key_id, k.fingerprint, now(), now() - interval '92 days'
        from made p cross join (select * from keyring.encryption_keys limit 1) k
        returning id, project_id, created_at
    )
    insert into keyring.keyrings (project_id, primary_key_id, promoted_at, primary_made_at)
      select project_id, id, created_at, created_at from keys`);
  await installation.sql('analyze public.projects, keyring.encryption_keys, keyring.keyrings');
  expect(await own.policies.requestDue()).toMatchObject({ projects: fleet });
  expect(await own.policies.noteOverdue()).toBe(fleet + 1);
  expect(await own.policies.requestDue()).toMatchObject({ projects: 0 });
  await own.close();
  // What a connection read is on record once it is closed.
  const read = async () =>
    installation.sql<{ noted: number; rows: number }>(
      `select sum(n_tup_ins)::int as noted, sum(seq_tup_read)::float8 as rows from pg_stat_user_tables
       where relname in ('rotation_projects', 'overdue_notices')`,
    );
  await expect.poll(async () => (await read())[0]?.noted).toBeGreaterThanOrEqual(2 * fleet);
  expect((await read())[0]?.rows).toBeLessThan(50 * fleet);
});

test('a clock that was turned back does not stop the schedule, and a turn is not taken twice', async () => {
  await projects(1);
  await wait('91 days');
  await installation.sql(`update keyring.schedule_turns set last_at = now() + interval '3 years'`);
  expect(await keyring.policies.requestDue({ atMostEveryMs: 60_000 })).toMatchObject({ projects: 1 });
  await installation.sql(`update keyring.rotation_projects set state = 'canceled', finished_at = '2020-01-01'`);
  expect(await keyring.policies.requestDue({ atMostEveryMs: 60_000 })).toMatchObject({ projects: 0 });
  await wait('1 minute');
  expect(await keyring.policies.requestDue({ atMostEveryMs: 60_000 })).toMatchObject({ projects: 1 });
});
