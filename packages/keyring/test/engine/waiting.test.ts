import { pgDatabase, type Keyring, type Rotation } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { transaction } from '../../src/db/port.ts';
import { movePrimary } from '../../src/keyring/store.ts';
import { startInstallation, type Installation, type OpenOptions } from './support/installation.ts';
import { connectionLost, interceptDatabase, type Passing } from './support/intercept.ts';
import {
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  expectOneHistory,
  forgetRunners,
  makeProject,
  type KnownProject,
} from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let held: KnownProject;
let free: KnownProject;
let audited: string;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open({ sweepBatchSize: 2 });
  // The one that gets stuck comes first, so that whoever waits for it is seen to.
  [held, free] = (
    [
      await makeProject(installation, keyring, { secrets: 4 }),
      await makeProject(installation, keyring, { secrets: 4 }),
    ] as [KnownProject, KnownProject]
  ).sort((a, b) => (a.id < b.id ? -1 : 1));
  audited = await auditPosition(installation);
});
afterAll(() => installation.end());

/** Opens a keyring that calls `on` before each statement that it sends; what `on` waits for, the statement waits for. */
function watching(
  on: (statement: Passing['statement']) => Promise<void> | void,
  options: OpenOptions = {},
): Promise<Keyring> {
  return installation.open({
    ...options,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        await on(statement);
        return send();
      }),
  });
}

/** Resolves when the project has come to this state. */
async function reached(projectId: string, state: string): Promise<void> {
  for (;;) {
    const rows = await installation.sql(
      'select 1 from keyring.rotation_projects where project_id = $1 and state = $2',
      [projectId, state],
    );
    if (rows.length > 0) return;
  }
}

const completedOnce = {
  'rotation.requested': 1,
  'rotation.started': 1,
  'key.created': 2,
  'key.promoted': 2,
  'rotation.project_swept': 2,
  'rotation.project_completed': 2,
  'rotation.completed': 1,
  'signing_key.created': 1,
};

test.each([1, 4])(
  'a row that somebody holds delays its own project only (working on %i at once)',
  async (concurrency) => {
    const rotator = await installation.open({ sweepBatchSize: 2, rotationConcurrency: concurrency });
    const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
    await using holder = await session(installation.test.adminUrl, 'holder');
    await holder.query('begin');
    await holder.query(`update public.secrets set key = key where project_id = $1 and key = 'SECRET_2'`, [held.id]);
    const running = rotator.rotations.run(id);
    // Comes to its end while the row is still held.
    await reached(free.id, 'completed');
    expect((await detailOf(keyring, id)).projectDetails.find((one) => one.projectId === held.id)?.state).toBe(
      'sweeping',
    );
    await holder.query('commit');
    expect((await running).state).toBe('completed');
    await expectEverySecretFresh(installation, keyring, [held, free]);
    expect(await auditSince(installation, audited)).toEqual(completedOnce);
    await expectHealthy(keyring);
  },
);

test('a row that is held for longer than the patience blocks its project, and resuming completes it', async () => {
  const rotator = await installation.open({ lockPatienceMs: 40 });
  const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
  await using holder = await session(installation.test.adminUrl, 'holder');
  await holder.query('begin');
  await holder.query(`select 1 from public.secrets where project_id = $1 and key = 'SECRET_2' for update`, [held.id]);
  expect((await rotator.rotations.run(id)).projects).toEqual({ total: 2, blocked: 1, completed: 1 });
  expect((await detailOf(keyring, id)).projectDetails[0]).toMatchObject({
    projectId: held.id,
    errorCode: 'rows_locked',
    errorDetail: '1 row is held by other transactions',
  });
  expect(await codeOf(keyring.rotations.request({ projects: [held.id] }))).toBe('rotation_in_progress');
  await holder.query('rollback');
  await rotator.rotations.resume(id);
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  await expectHealthy(keyring);
});

test('a transaction that wrote and stays open delays its own project’s promote only', async () => {
  const rotator = await installation.open({ rotationConcurrency: 1 });
  const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
  const sealed = await installation.seal(
    { projectId: held.id, label: 'secrets.value', rowId: await rowId('SECRET_1') },
    'held',
  );
  await using holder = await session(installation.test.serviceUrl, 'holder');
  await holder.query('begin');
  await holder.query(`update public.secrets set value_encrypted = $2 where project_id = $1 and key = 'SECRET_1'`, [
    held.id,
    sealed.envelope,
  ]);
  const running = rotator.rotations.run(id);
  await reached(free.id, 'completed');
  expect((await detailOf(keyring, id)).projectDetails.find((one) => one.projectId === held.id)?.state).toBe('staged');
  await holder.query('commit');
  held.secrets.set('SECRET_1', 'held');
  expect((await running).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  expect(await auditSince(installation, audited)).toEqual(completedOnce);
});

test('a transaction that stays open for longer than the patience blocks its project before the promote', async () => {
  const rotator = await installation.open({ lockPatienceMs: 40 });
  const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
  const sealed = await installation.seal(
    { projectId: held.id, label: 'secrets.value', rowId: await rowId('SECRET_1') },
    'held',
  );
  await using holder = await session(installation.test.serviceUrl, 'holder');
  await holder.query('begin');
  await holder.query(`update public.secrets set value_encrypted = $2 where project_id = $1 and key = 'SECRET_1'`, [
    held.id,
    sealed.envelope,
  ]);
  expect((await rotator.rotations.run(id)).projects).toEqual({ total: 2, blocked: 1, completed: 1 });
  expect((await detailOf(keyring, id)).projectDetails[0]).toMatchObject({
    projectId: held.id,
    errorCode: 'keyring_locked',
  });
  // Its writers never stopped: the pointer is where it was.
  await keyring.secrets.put(held.id, 'SECRET_2', 'written meanwhile');
  held.secrets.set('SECRET_2', 'written meanwhile');
  await holder.query('rollback');
  await rotator.rotations.resume(id);
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  await expectOneHistory(installation, held, 2);
});

test('a rollback of a project whose keyring is held waits, is blocked, and is carried out when it is resumed', async () => {
  const id = await stopAfterPromoteOf(held);
  const rotator = await installation.open({ lockPatienceMs: 40 });
  const sealed = await installation.seal(
    { projectId: held.id, label: 'secrets.value', rowId: await rowId('SECRET_1') },
    'held',
  );
  await using holder = await session(installation.test.serviceUrl, 'holder');
  await holder.query('begin');
  await holder.query(
    `update public.secrets set value_encrypted = $2, encryption_key_id = $3 where project_id = $1 and key = 'SECRET_1'`,
    [held.id, sealed.envelope, sealed.keyId],
  );
  await rotator.rotations.rollback(id);
  expect((await rotator.rotations.run(id)).projects).toMatchObject({ blocked: 1 });
  await holder.query('commit');
  held.secrets.set('SECRET_1', 'held');
  expect((await rotator.rotations.resume(id)).state).toBe('rolling_back');
  expect((await rotator.rotations.run(id)).state).toBe('rolled_back');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  await expectHealthy(keyring);
});

test('a rotation that another process pauses stops in the middle, takes writes, and goes on when it is resumed', async () => {
  const rotator = await disturbed(SWEEPING, () => keyring.rotations.pause(id));
  const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
  expect((await rotator.rotations.run(id)).state).toBe('paused');
  expect(await rotator.rotations.waiting()).toEqual([]);
  expect((await rotator.rotations.run(id)).state).toBe('paused');
  await keyring.secrets.put(held.id, 'SECRET_1', 'written while paused');
  held.secrets.set('SECRET_1', 'written while paused');
  expect((await keyring.rotations.pause(id)).state).toBe('paused');
  expect((await keyring.rotations.resume(id)).state).toBe('running');
  expect((await keyring.rotations.resume(id)).state).toBe('running');
  await forgetRunners(installation);
  expect(await rotator.rotations.waiting()).toEqual([id]);
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  expect(await auditSince(installation, audited)).toEqual({
    ...completedOnce,
    'rotation.paused': 1,
    'rotation.resumed': 1,
    'secret.written': 1,
  });
});

test('a rollback can be paused, and resuming goes on backwards', async () => {
  const id = await stopAfterPromoteOf(held);
  await keyring.rotations.rollback(id);
  const rotator = await disturbed('set_config', () => keyring.rotations.pause(id));
  expect((await rotator.rotations.run(id)).state).toBe('paused');
  expect((await keyring.rotations.resume(id)).state).toBe('rolling_back');
  expect((await keyring.rotations.run(id)).state).toBe('rolled_back');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  await expectHealthy(keyring);
});

test('a rollback can be asked for while another process drives forward, and that one turns around', async () => {
  const rotator = await disturbed(SWEEPING, () => keyring.rotations.rollback(id));
  const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
  const end = await rotator.rotations.run(id);
  expect(end.state).toBe('rolled_back');
  expect(end.projects).toEqual({ total: 2, rolled_back: 1, canceled: 1 });
  await expectEverySecretFresh(installation, keyring, [held, free]);
  await expectHealthy(keyring);
});

test('a rotation that is over can be neither paused, resumed nor rolled back', async () => {
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  for (const verb of ['pause', 'resume', 'rollback'] as const) {
    expect(await codeOf(keyring.rotations[verb](id)), verb).toBe('rotation_not_open');
  }
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  expect(await auditSince(installation, audited)).toEqual(completedOnce);
});

test('a rotation that nobody ran yet can be rolled back: nothing was made', async () => {
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await keyring.rotations.rollback(id);
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 2, canceled: 2 });
  await expectOneHistory(installation, held, 1);
  await expectEverySecretFresh(installation, keyring, [held, free]);
});

test('a version that was rolled back is never promoted again: the next rotation makes another', async () => {
  const id = await stopAfterPromoteOf(held);
  await keyring.rotations.rollback(id);
  await keyring.rotations.run(id);
  const next = await keyring.rotations.request({ projects: [held.id] });
  expect((await keyring.rotations.run(next.id)).state).toBe('completed');
  const versions = await keyring.keys.list({ projectId: held.id });
  expect(versions.map((key) => [key.version, key.status])).toEqual([
    [1, 'deactivated'],
    [2, 'deactivated'],
    [3, 'active'],
  ]);
  await expectEverySecretFresh(installation, keyring, [held, free]);
});

test('two runners that drive the same rotation at once do no harm, and each step is written once', async () => {
  // Both are told that they hold it, as when a lease ran out under a process that only slept.
  const believing = (): Promise<Keyring> =>
    installation.open({
      sweepBatchSize: 1,
      wrap: (database) =>
        interceptDatabase(database, async ({ statement, send }) => {
          if (statement.text.includes('set runner = $2')) {
            return database.query({
              text: 'select state from keyring.rotations where id = $1',
              values: [statement.values?.[0]],
            });
          }
          return send();
        }),
    });
  const runners = await Promise.all([believing(), believing(), believing()]);
  const { id } = await keyring.rotations.request({ projects: [held.id, free.id] });
  const ends = await Promise.all(runners.map((runner) => runner.rotations.run(id)));
  expect(ends.map((end) => end.state)).toEqual(['completed', 'completed', 'completed']);
  await expectEverySecretFresh(installation, keyring, [held, free]);
  await expectOneHistory(installation, held, 2);
  await expectOneHistory(installation, free, 2);
  const { 'signing_key.created': signing, ...audit } = await auditSince(installation, audited);
  expect(signing).toBe(1);
  expect(audit).toEqual(
    Object.fromEntries(Object.entries(completedOnce).filter(([action]) => action !== 'signing_key.created')),
  );
  await expectHealthy(keyring);
});

test('two runners that find the same garbage block the project once', async () => {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
     where project_id = $1`,
    [held.id],
  );
  const arrived: (() => void)[] = [];
  // Both come to the end of their sweep before either may say so.
  const together = (): Promise<Keyring> =>
    installation.open({
      wrap: (database) =>
        interceptDatabase(database, async ({ statement, send }) => {
          if (statement.text.includes('set runner = $2')) {
            return database.query({
              text: 'select state from keyring.rotations where id = $1',
              values: [statement.values?.[0]],
            });
          }
          const answer = await send();
          if (arrived.length < 2 && statement.text.includes('keyring.reference_counts($1)') && (await quiet())) {
            await new Promise<void>((resolve) => {
              arrived.push(resolve);
              if (arrived.length === 2) for (const go of arrived) go();
            });
          }
          return answer;
        }),
    });
  const quiet = async (): Promise<boolean> =>
    (
      await installation.sql(
        `select 1 from keyring.rotation_projects where state = 'sweeping' and rows_total is not null`,
      )
    ).length > 0;
  const runners = await Promise.all([together(), together()]);
  const { id } = await keyring.rotations.request({ projects: [held.id] });
  const ends = await Promise.all(runners.map((runner) => runner.rotations.run(id)));
  expect(ends.map((end) => end.state)).toEqual(['blocked', 'blocked']);
  const audit = await auditSince(installation, audited);
  expect(audit['rotation.project_blocked (failed)']).toBe(1);
  expect(audit['rotation.blocked (failed)']).toBe(1);
  expect((await detailOf(keyring, id)).quarantine).toHaveLength(4);
});

test('a second runner watches while the first one lives, and takes over when it falls silent', async () => {
  const died = Promise.withResolvers<void>();
  const buried = Promise.withResolvers<never>();
  let dead = false;
  const first = await watching(
    async ({ text }) => {
      // Neither alive nor gone: its statements simply stop, its heart's too.
      dead ||= text.includes('keyring.move_');
      if (!dead) return;
      died.resolve();
      await buried.promise;
    },
    // One project at a time: it must not die with another project's transaction open, which would be another test.
    { sweepBatchSize: 1, rotationConcurrency: 1, lockPatienceMs: 0 },
  );
  const { id } = await first.rotations.request({ projects: [held.id, free.id] });
  const firstRun = codeOf(first.rotations.run(id));
  await died.promise;
  expect((await keyring.rotations.get(id))?.runner).toBeDefined();
  expect(await keyring.rotations.waiting()).toEqual([]);

  const seen: Rotation['state'][] = [];
  const watched = Promise.withResolvers<void>();
  const running = keyring.rotations.run(id, {
    onProgress: (rotation) => {
      seen.push(rotation.state);
      watched.resolve();
    },
  });
  await watched.promise;
  await forgetRunners(installation);
  expect((await running).state).toBe('completed');
  expect(seen.at(-1)).toBe('completed');
  buried.reject(connectionLost());
  expect(await firstRun).toBe('database_unreachable');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  expect(await auditSince(installation, audited)).toEqual(completedOnce);
});

test('an aborted run stops between two statements, lets go of the rotation, and leaves it to whoever comes', async () => {
  const stop = new AbortController();
  let batches = 0;
  const rotator = await watching(
    ({ text }) => {
      if (text.includes('keyring.move_') && ++batches === 2) stop.abort();
    },
    { sweepBatchSize: 1 },
  );
  const { id } = await rotator.rotations.request({ projects: [held.id, free.id] });
  expect(await codeOf(rotator.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  expect(await codeOf(rotator.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  expect(await keyring.rotations.waiting()).toEqual([id]);
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [held, free]);
  expect(await auditSince(installation, audited)).toEqual(completedOnce);
});

test('of two requests for the same project one is made, and the other is told which', async () => {
  const results = await Promise.allSettled(
    Array.from({ length: 6 }, async () => keyring.rotations.request({ projects: [held.id] })),
  );
  const made = results.filter((result) => result.status === 'fulfilled').map((result) => result.value.id);
  expect(made).toHaveLength(1);
  for (const result of results) {
    if (result.status === 'rejected') {
      expect(result.reason).toMatchObject({ code: 'rotation_in_progress', details: { rotationIds: made } });
    }
  }
  const all = await keyring.rotations.request({ projects: 'all' });
  expect(all.projects.total).toBe(1);
  expect(await codeOf(keyring.rotations.request({ projects: 'all' }))).toBe('rotation_in_progress');
});

test('of two promotions that race from the same version exactly one wins', async () => {
  const database = pgDatabase({ connectionString: installation.test.serviceUrl });
  try {
    const [first] = await keyring.keys.list({ projectId: held.id });
    // Two versions that are staged and no more.
    const candidates: string[] = [];
    for (const version of [2, 3]) {
      const [made] = await installation.sql<{ id: string }>(
        `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
         select gen_random_uuid(), project_id, $2, wrapped_key, wrapping_key_id, fingerprint
         from keyring.encryption_keys where id = $1 returning id`,
        [first?.id, version],
      );
      candidates.push(made?.id ?? '');
    }
    const won = await Promise.all(
      candidates.map((to) =>
        transaction(database, (tx) =>
          movePrimary(tx, { projectId: held.id, from: first?.id ?? '', to, waitMs: 10_000 }),
        ),
      ),
    );
    expect([...won].sort()).toEqual([false, true]);
    const primary = (await keyring.keys.list({ projectId: held.id })).filter((key) => key.active);
    expect(primary.map((key) => key.id)).toEqual([candidates[won.indexOf(true)]]);
  } finally {
    await database.close();
  }
});

async function rowId(name: string): Promise<string> {
  const entry = (await keyring.secrets.list(held.id)).find((one) => one.name === name);
  return entry?.id ?? '';
}

/** A rotation of both whose runner stopped right after the promote of this project. */
async function stopAfterPromoteOf(project: KnownProject): Promise<string> {
  const stop = new AbortController();
  const stopping = await watching(
    ({ text, values }) => {
      if (text.includes('rows_total = p.rows_moved + c') && (values?.[1] as string[])[0] === project.id) stop.abort();
    },
    { rotationConcurrency: 1, rotationSetSize: 1 },
  );
  const { id } = await stopping.rotations.request({ projects: [held.id, free.id] });
  expect(await codeOf(stopping.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  return id;
}

const SWEEPING = 'keyring.move_';

/** A runner that is disturbed before its first statement of a kind, which goes on only after its next heartbeat. */
function disturbed(kind: string, disturb: () => Promise<unknown>): Promise<Keyring> {
  const told = Promise.withResolvers<void>();
  let disturbing: Promise<unknown> | undefined;
  let done = false;
  return installation.open({
    sweepBatchSize: 1,
    rotationConcurrency: 1,
    rotationSetSize: 1,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes(kind)) {
          disturbing ??= disturb().then(() => (done = true));
          await disturbing;
          await told.promise;
        }
        const answer = await send();
        if (done && statement.text.includes('set runner = $2')) told.resolve();
        return answer;
      }),
  });
}
