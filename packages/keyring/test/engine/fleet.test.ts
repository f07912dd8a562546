import { openKeyring, verifyReceipt, type Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation, type OpenOptions } from './support/installation.ts';
import { interceptDatabase, type Passing } from './support/intercept.ts';
import {
  addWebhooksTable,
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  expectOneHistory,
  fillProject,
  forgetRunners,
  makeProject,
  type KnownProject,
} from './support/world.ts';

// What projects of one rotation do together: packages/keyring/src/rotation/fleet.

let installation: Installation;
let keyring: Keyring;
let projects: KnownProject[];
let audited: string;

const MANY = 40;

beforeAll(async () => {
  installation = await startInstallation();
  await addWebhooksTable(installation);
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  projects = [];
  for (let number = 0; number < MANY; number++) {
    projects.push(await makeProject(installation, keyring, { secrets: number % 4, webhooks: number % 2 }));
  }
  // Without a key of its own there is nothing to rotate.
  projects = projects.filter(({ secrets, webhooks }) => secrets.size + webhooks.size > 0);
  audited = await auditPosition(installation);
});
afterAll(() => installation.end());

function opened(on: (statement: Passing['statement']) => Promise<void> | void, options: OpenOptions): Promise<Keyring> {
  return installation.open({
    ...options,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        await on(statement);
        return send();
      }),
  });
}

async function rotateAll(by: Keyring): Promise<string> {
  const { id } = await by.rotations.request({ projects: 'all', pace: 'full' });
  await by.rotations.run(id);
  return id;
}

const ofEach = (count: number): Record<string, number> => ({
  'rotation.requested': 1,
  'rotation.started': 1,
  'key.created': count,
  'key.promoted': count,
  'rotation.project_swept': count,
  'rotation.project_completed': count,
  'rotation.completed': 1,
  'signing_key.created': 1,
});

test('many small projects take about as many statements as one', async () => {
  let sent = 0;
  const id = await rotateAll(
    await opened(
      ({ text }) => {
        // Those of its heart are as many as it takes time.
        if (!text.includes('set runner = $2')) sent += 1;
      },
      { sweepBatchSize: 500 },
    ),
  );
  // One project alone takes some sixty.
  expect(sent).toBeLessThan(120);

  const detail = await detailOf(keyring, id);
  expect(detail.projects).toEqual({ total: projects.length, completed: projects.length });
  const rows = projects.reduce((sum, { secrets, webhooks }) => sum + secrets.size + webhooks.size, 0);
  expect(detail.rows).toEqual({ total: rows, moved: rows, verified: rows, quarantined: 0 });
  await expectEverySecretFresh(installation, keyring, projects);
  for (const project of projects) await expectOneHistory(installation, project, 2);
  expect(await auditSince(installation, audited)).toEqual(ofEach(projects.length));
  await expectHealthy(keyring);
});

test('each of many projects has a receipt, an entry and a retention of its own', async () => {
  const [strict] = projects;
  await installation.sql(`insert into keyring.rotation_policies (project_id, retention) values ($1, '7 days')`, [
    strict?.id,
  ]);
  const id = await rotateAll(await installation.open({ rotationSetSize: 7, sweepBatchSize: 3 }));
  const receipts = (await keyring.rotations.receipts(id)).map((receipt) => verifyReceipt(receipt).content);
  expect(receipts).toHaveLength(projects.length);
  for (const project of projects) {
    const receipt = receipts.find((one) => (one['project'] as { id: string }).id === project.id);
    const rows = project.secrets.size + project.webhooks.size;
    const [old, next] = await keyring.keys.list({ projectId: project.id });
    expect(receipt).toMatchObject({
      outcome: 'completed',
      rows: { moved: rows, verified: rows },
      key: { id: next?.id, version: 2 },
      retired: [{ id: old?.id, version: 1 }],
    });
    const columns = receipt?.['columns'] as { key: string; rows: number }[];
    expect(columns.reduce((sum, column) => sum + column.rows, 0)).toBe(rows);
    expect(columns.every((column) => column.key === next?.id)).toBe(true);
    const [kept] = await installation.sql<{ days: number; retired: string[] }>(
      `select round(extract(epoch from k.retention_until - now()) / 86400)::int as days,
         array(select jsonb_array_elements_text(a.details -> 'retired') from keyring.audit_log a
           where a.project_id = $1 and a.action = 'rotation.project_completed') as retired
       from keyring.encryption_keys k where k.id = $2`,
      [project.id, old?.id],
    );
    expect(kept).toEqual({ days: project === strict ? 7 : 30, retired: [old?.id] });
  }
});

test('whatever is in the way of one project is in the way of no other', async () => {
  const [locked, garbage, queued, held, unusable] = projects.filter(({ secrets }) => secrets.size > 0) as [
    KnownProject,
    KnownProject,
    KnownProject,
    KnownProject,
    KnownProject,
  ];
  await using rowHolder = await session(installation.test.adminUrl, 'row holder');
  await rowHolder.query('begin');
  await rowHolder.query(`update public.secrets set key = key where project_id = $1 and key = 'SECRET_1'`, [locked.id]);
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = overlay(value_encrypted placing '\\xffff'::bytea from 40)
     where project_id = $1 and key = 'SECRET_1'`,
    [garbage.id],
  );
  await using queueHolder = await session(installation.test.adminUrl, 'queue holder');
  await queueHolder.query('begin');
  await queueHolder.query('select pg_advisory_xact_lock_shared(keyring.project_lock($1))', [queued.id]);
  await using keyringHolder = await session(installation.test.adminUrl, 'keyring holder');
  await keyringHolder.query('begin');
  await keyringHolder.query('select from keyring.keyrings where project_id = $1 for update', [held.id]);
  await installation.behindTheFence(
    `update keyring.encryption_keys set fingerprint = sha256('wrong') where project_id = $1`,
    [unusable.id],
  );

  const rotator = await installation.open({ lockPatienceMs: 100 });
  const { id } = await rotator.rotations.request({ projects: 'all' });
  // Of one not even the trouble can be written down.
  expect(await codeOf(rotator.rotations.run(id))).toBe('contended');
  const detail = await detailOf(keyring, id);
  const inTheWay = new Map(
    detail.projectDetails.filter((one) => one.state !== 'completed').map((one) => [one.projectId, one.errorCode]),
  );
  expect(inTheWay).toEqual(
    new Map([
      [locked.id, 'rows_locked'],
      [garbage.id, 'rows_quarantined'],
      [queued.id, 'keyring_locked'],
      [held.id, undefined],
      [unusable.id, 'rows_quarantined'],
    ]),
  );
  await expectEverySecretFresh(
    installation,
    keyring,
    projects.filter(({ id }) => !inTheWay.has(id)),
  );

  for (const holder of [rowHolder, queueHolder, keyringHolder]) await holder.query('rollback');
  expect((await rotator.rotations.run(id)).state).toBe('blocked');
  await rotator.rotations.resume(id);
  expect((await rotator.rotations.run(id)).projects).toMatchObject({ blocked: 2 });
  await expectEverySecretFresh(installation, keyring, [locked, queued, held]);
});

test('an edit between the read and the write of a batch of many projects wins, and moves later', async () => {
  const edited = projects.filter(({ secrets }) => secrets.size > 1).slice(0, 3);
  let done = false;
  const rotator = await opened(
    async ({ text }) => {
      if (done || !text.includes('with moved as')) return;
      done = true;
      for (const project of edited) {
        await keyring.secrets.put(project.id, 'SECRET_1', 'edited meanwhile');
        project.secrets.set('SECRET_1', 'edited meanwhile');
        await keyring.secrets.remove(project.id, 'SECRET_2');
        project.secrets.delete('SECRET_2');
      }
    },
    { sweepBatchSize: 500 },
  );
  const id = await rotateAll(rotator);
  expect((await detailOf(keyring, id)).state).toBe('completed');
  expect(done).toBe(true);
  await expectEverySecretFresh(installation, keyring, projects);
  await expectHealthy(keyring);
});

test('a rollback part-way turns back what moved, cancels what had not begun, and leaves what was finalized', async () => {
  let ends = 0;
  const stop = new AbortController();
  const stopping = await opened(
    ({ text }) => {
      // The first set has ended, the second is swept in part, the third has not begun.
      if (text.includes('set state = $2, finished_at')) ends += 1;
      if (ends > 0 && text.includes('with moved as')) stop.abort();
    },
    { rotationConcurrency: 1, rotationSetSize: 13, sweepBatchSize: 5 },
  );
  const { id } = await stopping.rotations.request({ projects: 'all', pace: 'full' });
  expect(await codeOf(stopping.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  await keyring.rotations.rollback(id);
  const end = await keyring.rotations.run(id);
  expect(end.state).toBe('rolled_back');
  expect(end.projects).toEqual({
    total: projects.length,
    completed: 13,
    rolled_back: 13,
    canceled: projects.length - 26,
  });
  await expectEverySecretFresh(installation, keyring, projects);
  const audit = await auditSince(installation, audited);
  expect(audit).toMatchObject({ 'key.rolled_back': 13, 'rotation.project_rolled_back': 13 });
  // What was left is never used again: the next rotation makes another version.
  await keyring.rotations.run((await keyring.rotations.request({ projects: 'all' })).id);
  await expectEverySecretFresh(installation, keyring, projects);
  await expectHealthy(keyring);
});

test('an emergency overtakes its project out of the middle of a set', async () => {
  const victim = projects.find(({ secrets }) => secrets.size > 1) as KnownProject;
  let compromised: Promise<unknown> | undefined;
  const rotator = await opened(
    async ({ text }) => {
      if (!text.includes('with moved as')) return;
      compromised ??= keyring.keys
        .list({ projectId: victim.id })
        .then((keys) => keyring.rotations.compromise(keys.find((key) => key.active)?.id ?? '', { reason: 'leaked' }));
      await compromised;
    },
    { sweepBatchSize: 500 },
  );
  const id = await rotateAll(rotator);
  const detail = await detailOf(keyring, id);
  expect(detail.projects).toEqual({ total: projects.length, completed: projects.length - 1, canceled: 1 });
  const [emergency] = await keyring.rotations.list({ limit: 1 });
  expect((await keyring.rotations.run(emergency?.id ?? '')).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, projects);
  const keys = await keyring.keys.list({ projectId: victim.id });
  expect(keys.map((key) => key.status)).toEqual(['deactivated', 'compromised', 'active']);
  await expectHealthy(keyring);
});

test('two processes that drive the same set do it once', async () => {
  const drivers = await Promise.all([installation.open(), installation.open()]);
  const request = await drivers[0].rotations.request({ projects: 'all' });
  // Both at once, past the lease: as when the first was thought dead.
  await installation.sql(`update keyring.rotations set state = 'running', started_at = now() where id = $1`, [
    request.id,
  ]);
  const unit = {
    kind: 'projects' as const,
    rotationId: request.id,
    projectIds: projects.map((project) => project.id).sort(),
    attempt: 1,
  };
  await Promise.all(drivers.map((driver) => driver.rotations.work(unit)));
  await keyring.rotations.run(request.id);
  expect((await detailOf(keyring, request.id)).projects).toEqual({
    total: projects.length,
    completed: projects.length,
  });
  await expectEverySecretFresh(installation, keyring, projects);
  for (const project of projects) await expectOneHistory(installation, project, 2);
  expect(await auditSince(installation, audited)).toEqual({
    ...ofEach(projects.length),
    'rotation.started': undefined,
  });
});

test('canceling part-way takes out what is not promoted, and the rest goes on to its end', async () => {
  let batches = 0;
  const stop = new AbortController();
  const stopping = await opened(
    ({ text }) => {
      if (text.includes('with moved as')) batches += 1;
      if (batches === 2) stop.abort();
    },
    { rotationConcurrency: 1, rotationSetSize: 13, sweepBatchSize: 5 },
  );
  const { id } = await stopping.rotations.request({ projects: 'all', pace: 'full' });
  expect(await codeOf(stopping.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  expect(await keyring.rotations.cancel(id)).toMatchObject({
    state: 'running',
    projects: { canceled: MANY - 10 - 13 },
  });
  expect(await codeOf(keyring.rotations.cancel(id))).toBe('illegal_state');
  const end = await keyring.rotations.run(id);
  expect(end).toMatchObject({ state: 'completed', projects: { completed: 13, canceled: projects.length - 13 } });
  expect(await codeOf(keyring.rotations.cancel(id))).toBe('rotation_not_open');
  await expectEverySecretFresh(installation, keyring, projects);
  const audit = await auditSince(installation, audited);
  expect(audit).toMatchObject({
    'rotation.cancel_requested': 1,
    'rotation.project_canceled': projects.length - 13,
    'rotation.completed': 1,
  });
  await expectHealthy(keyring);
});

test('a rotation that is canceled before anything is promoted is over, and its staged versions are never used', async () => {
  const stop = new AbortController();
  const stopping = await opened(
    ({ text }) => {
      if (text.includes('insert into keyring.encryption_keys')) stop.abort();
    },
    { rotationConcurrency: 1, rotationSetSize: 13 },
  );
  const { id } = await stopping.rotations.request({ projects: 'all' });
  await codeOf(stopping.rotations.run(id, { signal: stop.signal }));
  const staged = `select count(*)::int as staged, count(k.rolled_back_at)::int as left from keyring.encryption_keys k
     join keyring.rotation_projects p on p.target_key_id = k.id`;
  expect(await installation.sql(staged)).toEqual([{ staged: 13, left: 0 }]);
  expect((await keyring.rotations.cancel(id)).state).toBe('canceled');
  expect(await installation.sql(staged)).toEqual([{ staged: 13, left: 13 }]);
  const fresh = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.cancel(fresh.id)).state).toBe('canceled');
  await keyring.rotations.run((await keyring.rotations.request({ projects: 'all' })).id);
  await expectEverySecretFresh(installation, keyring, projects);
});

test('a delete of one project that stays open holds up none of the others, nor whoever wants to stop', async () => {
  const stop = new AbortController();
  const stopping = await opened(
    ({ text }) => {
      if (text.includes('octet_length')) stop.abort();
    },
    { rotationConcurrency: 1 },
  );
  const { id } = await stopping.rotations.request({ projects: 'all', pace: 'full' });
  expect(await codeOf(stopping.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  await forgetRunners(installation);
  const [leaving, ...staying] = projects.filter(({ secrets }) => secrets.size > 0) as [KnownProject, ...KnownProject[]];
  await using holder = await session(installation.test.adminUrl, 'holder');
  await holder.query('begin');
  await holder.query('delete from public.projects where id = $1', [leaving.id]);
  // Another process: it has reserved nothing yet, and the rows that say so go with the project.
  const next = await installation.open({ lockPatienceMs: 2_000 });
  expect(await codeOf(next.rotations.run(id))).toBe('contended');
  await expectEverySecretFresh(installation, keyring, staying);
  await holder.query('commit');
  expect((await next.rotations.run(id)).projects).toMatchObject({ canceled: 1, completed: projects.length - 1 });
  await expectHealthy(keyring);
});

test('a column that appears unregistered in the middle blocks every project that is not through, by name', async () => {
  let appeared = false;
  const rotator = await opened(async ({ text }) => {
    if (appeared || !text.includes('octet_length')) return;
    appeared = true;
    await installation.asOwner(
      `create table public.forgotten (
         id uuid primary key, project_id uuid not null, secret bytea, secret_key uuid,
         foreign key (project_id, secret_key) references keyring.encryption_keys (project_id, id))`,
    );
  }, {});
  const id = await rotateAll(rotator);
  await installation.asOwner('drop table public.forgotten');
  const { projectDetails, state } = await detailOf(keyring, id);
  expect(state).toBe('blocked');
  expect(new Set(projectDetails.map(({ errorCode }) => errorCode))).toEqual(new Set(['unregistered_column']));
  await keyring.rotations.resume(id);
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, projects);
});

test('a capped rotation of several projects moves no more rows at once than its cap allows', async () => {
  const two = projects.filter(({ secrets }) => secrets.size === 3).slice(0, 2);
  for (const project of two) await fillProject(installation, project, 60);
  const sizes: number[] = [];
  const rotator = await opened(({ text, values }) => {
    if (text.includes('keyring.move_')) sizes.push((values?.[3] as Buffer).readInt32BE(12));
  }, {});
  // Four batches a second.
  const { id } = await rotator.rotations.request({ projects: two.map((project) => project.id), maxRate: 80 });
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  expect(Math.max(...sizes)).toBeLessThanOrEqual(20);
  await expectEverySecretFresh(installation, keyring, two);
});

test('the progress of many projects counts what is left of them', async () => {
  const rows = projects.reduce((sum, { secrets, webhooks }) => sum + secrets.size + webhooks.size, 0);
  let seen: { total: number; moved: number } | undefined;
  const rotator = await opened(
    async ({ text }) => {
      if (seen !== undefined || !text.includes('with moved as')) return;
      const [rotation] = await keyring.rotations.list({ limit: 1 });
      seen = rotation?.rows;
    },
    { sweepBatchSize: 5 },
  );
  await rotateAll(rotator);
  expect(seen?.total).toBe(rows);
  expect(seen?.moved).toBeLessThan(rows);
});

test('small projects are looked up by their index, in a table that one large project has nearly for itself', async () => {
  // As when one has nearly all of a million rows: the statistics know of no other.
  await clearProjects(installation);
  await fillProject(installation, await makeProject(installation, keyring, { secrets: 1 }), 20_000);
  await installation.sql('vacuum analyze public.secrets');
  const small: KnownProject[] = [];
  for (let number = 0; number < 5; number++) small.push(await makeProject(installation, keyring, { secrets: 3 }));
  const counted = async (): Promise<{ read: number; updates: number }> => {
    const [row] = await installation.sql<{ read: number; updates: number }>(
      `select seq_tup_read::int as read, n_tup_upd::int as updates from pg_stat_user_tables
       where schemaname = 'public' and relname = 'secrets'`,
    );
    return row ?? { read: 0, updates: 0 };
  };
  // Connections of its own: what they counted is told when they end.
  const rotate = async (chosen: readonly KnownProject[]): Promise<number> => {
    const before = await counted();
    const own = await openKeyring({ database: installation.test.serviceUrl, rootKey: installation.rootKey });
    const { id } = await own.rotations.request({ projects: chosen.map((project) => project.id), pace: 'full' });
    expect((await own.rotations.run(id)).state).toBe('completed');
    await own.close();
    const rows = chosen.reduce((sum, { secrets }) => sum + secrets.size, 0);
    // At least: what other connections changed before may be told only now.
    await expect.poll(async () => (await counted()).updates - before.updates).toBeGreaterThanOrEqual(rows);
    return (await counted()).read - before.read;
  };
  // Others may tell late of what they read while the table was small.
  expect(await rotate(small)).toBeLessThan(20_000);
  expect(await rotate(small.slice(0, 1))).toBeLessThan(20_000);
});
