import { randomUUID } from 'node:crypto';
import { KeyringError, pgDatabase, type Database, type Keyring } from '@meshhook/keyring';
import { keepSchedule, listWorkers, sharing, startWorker } from '@meshhook/keyring-worker';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Jobs } from '../src/jobs.ts';
import { QueueExecutor } from '../src/queue-executor.ts';
import { startInstallation, type Installation } from '../../keyring/test/engine/support/installation.ts';
import { interceptDatabase } from '../../keyring/test/engine/support/intercept.ts';
import { codeOf, detailOf, expectEverySecretFresh } from '../../keyring/test/engine/support/world.ts';
import { makeProjects } from './support/fleet.ts';
import { hang, startHere } from './support/in-process.ts';

let installation: Installation;
let keyring: Keyring;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
});
afterEach(() => installation.end());

const stateOf = async (id: string): Promise<string> => (await detailOf(keyring, id)).state;
const toBe = (id: string, state: string) => expect.poll(() => stateOf(id)).toBe(state);
const jobs = () =>
  installation.sql<{ state: string; output: unknown }>(
    'select state, output from keyring_jobs.job order by created_on',
  );

async function asService(): Promise<Database & AsyncDisposable> {
  const database = pgDatabase({ connectionString: installation.test.serviceUrl, maxConnections: 1 });
  return { ...database, [Symbol.asyncDispose]: () => database.close() };
}

/** Sees to it that the workers here do not think they are alone. */
async function company(): Promise<void> {
  await installation.sql(
    `insert into keyring.workers (id, host, pid, version, concurrency, seen_at)
     values (gen_random_uuid(), 'elsewhere', 1, 'test', 1, now() + interval '1 hour')`,
  );
}

/** Of every primary version that is there now. */
async function limitOfUseReached(): Promise<void> {
  await installation.sql('update keyring.rotation_policies set max_encryptions = 5');
  await installation.behindTheFence(`update keyring.keyrings set promoted_at = now() - interval '1 hour'`);
}

test('a worker alone drives what is asked for, without a job in the queue', async () => {
  const projects = await makeProjects(keyring, 12, 2);
  await installation.sql(`
    create table public.jobs_seen (n int);
    grant insert on public.jobs_seen to public;
    create function public.note_job() returns trigger language plpgsql as
      'begin insert into public.jobs_seen values (1); return new; end';
    create trigger note_job after insert on keyring_jobs.job_common for each row execute function public.note_job()`);
  await using here = await startHere(installation);
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await toBe(id, 'completed');
  await expectEverySecretFresh(installation, keyring, projects);
  expect(await installation.sql('select n from public.jobs_seen')).toEqual([]);
  await expect
    .poll(() => here.lines)
    .toContainEqual(expect.stringMatching(`rotation ${id}: completed, 12 projects, 24 secrets`));
});

test('one project is rotated where its rotation is driven, however many workers there are', async () => {
  await makeProjects(keyring, 1, 2);
  await company();
  let units = 0;
  await using here = await startHere(installation, { work: (_, __, really) => (units++, really()) });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await toBe(id, 'completed');
  expect(units).toBe(1);
  // Nothing went through the queue.
  expect(here.worker.units).toEqual({ done: 0, failed: 0 });
});

test('a unit that fails is tried again, and a rotation outlives it', async () => {
  const projects = await makeProjects(keyring, 4, 1);
  await company();
  const failed = new Set<string>();
  await using here = await startHere(installation, {
    async work(unit, _, really) {
      const key = unit.projectIds.join();
      if (failed.has(key)) return really();
      failed.add(key);
      throw new KeyringError('contended', 'All of it is held.');
    },
  });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await toBe(id, 'completed');
  await expectEverySecretFresh(installation, keyring, projects);
  expect(here.worker.units).toEqual({ done: 4, failed: 4 });
  // In one and the same drive.
  expect(here.lines.filter((line) => line.includes('Tried again'))).toEqual([]);
  await expect.poll(jobs).toEqual([]);
});

test('a unit that always fails ends the drive with its code, and the worker tries again later', async () => {
  await makeProjects(keyring, 3, 1);
  await company();
  let broken = true;
  await using here = await startHere(installation, {
    work: (_, __, really) => (broken ? Promise.reject(new KeyringError('wrong_root_key', 'Not this key.')) : really()),
  });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await expect
    .poll(() => here.lines)
    .toContainEqual(`error: rotation ${id}: Not this key. (wrong_root_key) Tried again in 0.1 s.`);
  expect(await stateOf(id)).toBe('running');
  broken = false;
  await toBe(id, 'completed');
});

test('a unit that fails elsewhere fails with its code, message and remedy', async () => {
  await using database = await asService();
  const queue = new Jobs(database, () => undefined);
  await queue.open();
  const unit = { kind: 'projects', rotationId: randomUUID(), projectIds: [], attempt: 1 } as const;
  const failures = [
    new KeyringError('wrong_root_key', 'Not this key.', { remedy: 'Take the other one.', details: { of: 'no use' } }),
    new KeyringError('contended', 'Held.'),
  ];
  for (const failure of failures) {
    const [sent] = await queue.send([{ unit, priority: 0 }]);
    await queue.claim(1);
    await queue.fail(sent?.id ?? '', failure);
    const { code, message, remedy } = failure;
    expect(await sent?.outcome).toEqual({ kind: 'failed', code, message, remedy });
  }
  await queue.close();
});

test('a job that is sent in the moment in which the last one before it is done is watched, too', async () => {
  await using database = await asService();
  const held = new Map<'delete' | 'insert', { there: () => void; go: Promise<unknown> }>();
  const queue = new Jobs(
    {
      ...database,
      async query(statement) {
        const result = await database.query<never>(statement);
        const kind = (['delete', 'insert'] as const).find((one) => statement.text.toLowerCase().includes(`${one} `));
        const hold = kind && held.get(kind);
        hold?.there();
        await hold?.go;
        return result;
      },
    },
    () => undefined,
  );
  const elsewhere = new Jobs(database, () => undefined);
  await Promise.all([queue.open(), elsewhere.open()]);
  const unit = { kind: 'projects', rotationId: randomUUID(), projectIds: [], attempt: 1 } as const;
  const result = { waiting: [], held: [], parts: [] };
  const done = async () => {
    const [job] = await elsewhere.claim(1);
    await elsewhere.complete(job?.id ?? '', result);
  };
  const hold = (kind: 'delete' | 'insert') => {
    const there = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    held.set(kind, { there: there.resolve, go: go.promise });
    return { there: there.promise, go: go.resolve };
  };
  // So many turns later is the one heard of than the other.
  for (let turns = 0; turns < 24; turns++) {
    const [first] = await queue.send([{ unit, priority: 0 }]);
    const deleted = hold('delete');
    await done();
    await first?.outcome;
    await deleted.there;
    const inserted = hold('insert');
    const sending = queue.send([{ unit, priority: 0 }]);
    await inserted.there;
    held.clear();
    deleted.go();
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    inserted.go();
    const [second] = await sending;
    await done();
    expect(await second?.outcome).toEqual({ kind: 'done', result });
  }
  await Promise.all([queue.close(), elsewhere.close()]);
});

test('what a foreign error says is never stored', async () => {
  await makeProjects(keyring, 2, 1);
  await company();
  // It stays where it is put: nobody collects it.
  await installation.sql(`
    create table public.outputs (output jsonb);
    grant insert on public.outputs to public;
    create function public.note_output() returns trigger language plpgsql as
      'begin if new.state = ''failed'' then insert into public.outputs values (new.output); end if; return new; end';
    create trigger note_output after insert on keyring_jobs.job_common for each row execute function public.note_output()`);
  await using here = await startHere(installation, { work: () => Promise.reject(new Error('sk_live_value')) });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await expect.poll(() => here.lines).toContainEqual(expect.stringMatching(`rotation ${id}: .*\\(internal\\)`));
  await keyring.rotations.pause(id);
  const outputs = await installation.sql<{ output: object }>('select distinct output from public.outputs');
  expect(outputs).toEqual([
    { output: { code: 'internal', message: 'A worker failed unexpectedly; its own log says how.' } },
  ]);
});

test('a rotation that is paused takes its jobs back, and goes on when it is resumed', async () => {
  const projects = await makeProjects(keyring, 6, 1);
  await company();
  const held = Promise.withResolvers<undefined>();
  await using _here = await startHere(installation, {
    concurrency: 1,
    work: async (_, __, really) => {
      await held.promise;
      return really();
    },
  });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await expect
    .poll(async () => (await jobs()).map(({ state }) => state).sort())
    .toEqual(['active', ...Array<string>(5).fill('created')]);
  await keyring.rotations.pause(id);
  // That one, too, which is still being done.
  await expect.poll(jobs).toEqual([]);
  held.resolve(undefined);
  await keyring.rotations.resume(id);
  await toBe(id, 'completed');
  await expectEverySecretFresh(installation, keyring, projects);
});

test('what a former drive left in the queue is cleared away', async () => {
  const projects = await makeProjects(keyring, 4, 1);
  const { id } = await keyring.rotations.request({ projects: 'all' });
  const left = (state: string, unit: object) =>
    installation.sql(
      `insert into keyring_jobs.job_common (name, data, state, singleton_key, policy, heartbeat_on)
       values ('units', $1, $2::keyring_jobs.job_state, $3, 'standard', now())`,
      [JSON.stringify(unit), state, id],
    );
  await left('active', { kind: 'projects', rotationId: id, projectIds: [projects[0]?.id], attempt: 1 });
  await left('completed', { kind: 'projects', rotationId: id, projectIds: [projects[1]?.id], attempt: 1 });
  await using _here = await startHere(installation);
  await toBe(id, 'completed');
  await expect.poll(jobs).toEqual([]);
});

test('what nobody collects goes in time, and what somebody still does stays, however old it is', async () => {
  const leave = (output: string, state: string, ages: { created?: string; heartbeat?: string; completed?: string }) =>
    installation.sql(
      `insert into keyring_jobs.job_common (name, data, output, state, policy, created_on, heartbeat_on, completed_on)
       values ('units', '{}', to_jsonb($1::text), $2::keyring_jobs.job_state, 'standard', now() - coalesce($3, '0')::interval,
         now() - $4::interval, now() - $5::interval)`,
      [output, state, ages.created ?? null, ages.heartbeat ?? null, ages.completed ?? null],
    );
  await leave('being done for two days', 'active', { created: '2 days', heartbeat: '1 second' });
  await leave('its worker died', 'active', { created: '1 hour', heartbeat: '11 minutes' });
  await leave('waits', 'created', { created: '23 hours' });
  await leave('has waited for a day', 'created', { created: '25 hours' });
  await leave('done', 'completed', { created: '1 hour', completed: '9 minutes' });
  await leave('done a while ago', 'completed', { created: '1 hour', completed: '11 minutes' });
  await using database = await asService();
  await new Jobs(database, () => undefined).sweep();
  expect((await jobs()).map(({ output }) => output)).toEqual(['being done for two days', 'waits', 'done']);
});

test('a worker that comes later gets what is left', async () => {
  const projects = await makeProjects(keyring, 8, 1);
  let alone = 0;
  await using first = await startHere(installation, {
    concurrency: 1,
    work: async (_, options, really) => (alone++ === 0 ? hang(options?.signal) : really()),
  });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await expect.poll(() => alone).toBe(1);
  await using second = await startHere(installation);
  await expect.poll(() => second.worker.units.done).toBe(7);
  expect(await stateOf(id)).toBe('running');
  expect((await detailOf(keyring, id)).projects.completed).toBe(7);
  await first.worker.stop();
  await toBe(id, 'completed');
  await expectEverySecretFresh(installation, keyring, projects);
});

test('an emergency does not wait for a hand, however many units hold all of them', async () => {
  const projects = await makeProjects(keyring, 6, 1);
  const saved = Promise.withResolvers<undefined>();
  const asked = Promise.withResolvers<string>();
  let held = 0;
  await using _here = await startHere(installation, {
    work: async (unit, _, really) => {
      if (unit.rotationId === (await asked.promise)) {
        held++;
        await saved.promise;
      }
      return really();
    },
  });
  const { id: fleet } = await keyring.rotations.request({ projects: 'all' });
  asked.resolve(fleet);
  await expect.poll(() => held).toBe(2);
  const last = (await keyring.keys.list()).find(({ projectId }) => projectId === projects[5]?.id);
  const { rotation } = await keyring.rotations.compromise(last?.id ?? '', { reason: 'leaked' });
  await toBe(rotation?.id ?? '', 'completed');
  expect(held).toBe(2);
  expect(await stateOf(fleet)).toBe('running');
  saved.resolve(undefined);
  await toBe(fleet, 'completed');
});

test('a small rotation takes turns with a fleet that came before it', async () => {
  const projects = await makeProjects(keyring, 10, 1);
  const begin = Promise.withResolvers<undefined>();
  const order: string[] = [];
  await using here = await startHere(installation, {
    concurrency: 1,
    work: async (unit, _, really) => {
      order.push(unit.rotationId);
      await begin.promise;
      return really();
    },
  });
  const ids = projects.map(({ id }) => id);
  const fleet = await keyring.rotations.request({ projects: ids.slice(2) });
  await expect.poll(() => order).toEqual([fleet.id]);
  const small = await keyring.rotations.request({ projects: ids.slice(0, 2) });
  await using database = await asService();
  await expect.poll(async () => (await listWorkers(database)).flatMap(({ driving }) => driving).length).toBe(2);
  begin.resolve(undefined);
  await toBe(small.id, 'completed');
  await toBe(fleet.id, 'completed');
  // The fleet's second unit waited for a hand before the small one's first did.
  expect(order.slice(0, 5)).toEqual([fleet.id, fleet.id, small.id, fleet.id, small.id]);
  expect(here.worker.units).toEqual({ done: 0, failed: 0 });
});

test('a unit that is alone goes to another worker when no hand is free here', async () => {
  const projects = await makeProjects(keyring, 2, 1);
  const done = Promise.withResolvers<undefined>();
  let held = 0;
  await using _busy = await startHere(installation, {
    concurrency: 1,
    work: async (_, __, really) => {
      held++;
      await done.promise;
      return really();
    },
  });
  const [first, second] = await Promise.all([
    keyring.rotations.request({ projects: [projects[0]?.id ?? ''] }),
    keyring.rotations.request({ projects: [projects[1]?.id ?? ''] }),
  ]);
  await expect.poll(() => held).toBe(1);
  await using idle = await startHere(installation, { lookEveryMs: 0 });
  await expect.poll(() => idle.worker.units.done).toBe(1);
  done.resolve(undefined);
  await toBe(first.id, 'completed');
  await toBe(second.id, 'completed');
});

test('an emergency takes the first place in the queue, and every rotation a place before the second of any', async () => {
  await using database = await asService();
  const send = async (urgent: boolean, units: number): Promise<string> => {
    const rotationId = randomUUID();
    const queue = new Jobs(database, () => undefined);
    await queue.open();
    opened.push(queue);
    const hands = { free: 0, do: () => hang(undefined), onFree: () => () => undefined };
    const sent = Promise.withResolvers<void>();
    const executor = new QueueExecutor({
      jobs: queue,
      hands,
      others: () => 1,
      partRows: 1,
      urgent,
      onSent: sent.resolve,
    });
    for (let i = 0; i < units; i++) {
      const unit = { kind: 'projects', rotationId, projectIds: [randomUUID()], attempt: 1 } as const;
      executor.execute(unit, new AbortController().signal).catch(() => undefined);
    }
    await sent.promise;
    return rotationId;
  };
  const opened: Jobs[] = [];
  const fleet = await send(false, 3);
  const small = await send(false, 1);
  const emergency = await send(true, 3);
  const claimed: string[] = [];
  for (let i = 0; i < 6; i++) claimed.push(...((await opened[0]?.claim(1)) ?? []).map(({ unit }) => unit.rotationId));
  // One of the emergency's three is done where it is driven.
  expect(claimed).toEqual([emergency, emergency, fleet, small, fleet, fleet]);
  for (const queue of opened) await queue.close();
});

test('a program that is no worker shares the rotation it drives with those who are, and is one only meanwhile', async () => {
  const projects = await makeProjects(keyring, 6, 1);
  const done = Promise.withResolvers<undefined>();
  await using database = await asService();
  let seen = 0;
  await using _here = await startHere(installation, {
    lookEveryMs: 0,
    concurrency: 1,
    async work(_, __, really) {
      const result = await really();
      seen = Math.max(seen, (await listWorkers(database)).length);
      done.resolve(undefined);
      return result;
    },
  });
  const work: Keyring['rotations']['work'] = async (unit, options) => {
    // What it takes itself has to wait until somebody else has done something.
    await done.promise;
    return keyring.rotations.work(unit, options);
  };
  const lines: string[] = [];
  const log = { info: (text: string) => lines.push(text), error: (text: string) => lines.push(text) };
  const options = { databaseUrl: installation.test.serviceUrl, log, unitSize: 1 };
  const shared = sharing({ ...keyring, rotations: { ...keyring.rotations, work } }, options);
  const { id } = await shared.rotations.request({ projects: 'all' });
  expect((await shared.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, projects);
  expect(seen).toBe(2);
  expect(await listWorkers(database)).toHaveLength(1);
  expect(lines).toEqual([]);
});

test('a program that is no worker shares one project, too, when somebody is there to share it, and only then', async () => {
  const [project] = await makeProjects(keyring, 1, 2);
  const units: { parted: boolean; workers: number }[] = [];
  await using database = await asService();
  const work: Keyring['rotations']['work'] = async (unit, options) => {
    const parted = unit.kind === 'projects' && unit.partRows !== undefined;
    units.push({ parted, workers: (await listWorkers(database)).length });
    return keyring.rotations.work(unit, options);
  };
  const log = { info: () => undefined, error: () => undefined };
  const options = { databaseUrl: installation.test.serviceUrl, log };
  const { rotations } = sharing({ ...keyring, rotations: { ...keyring.rotations, work } }, options);
  const rotate = async () => {
    const { id } = await rotations.request({ projects: [project?.id ?? ''] });
    expect((await rotations.run(id)).state).toBe('completed');
  };
  await rotate();
  // As the library does it by itself, in no worker.
  expect(units).toEqual([]);
  await company();
  await rotate();
  expect(units).toEqual([{ parted: true, workers: 2 }]);
});

test('a program that is no worker stops when it is told to, and the rotation goes on elsewhere', async () => {
  const projects = await makeProjects(keyring, 6, 1);
  const held = Promise.withResolvers<undefined>();
  const work: Keyring['rotations']['work'] = (_, options) => {
    held.resolve(undefined);
    return hang(options?.signal);
  };
  const log = { info: () => undefined, error: () => undefined };
  const options = { databaseUrl: installation.test.serviceUrl, log, unitSize: 1 };
  const shared = sharing({ ...keyring, rotations: { ...keyring.rotations, work } }, options);
  const stop = new AbortController();
  const { id } = await shared.rotations.request({ projects: 'all' });
  const run = shared.rotations.run(id, { signal: stop.signal });
  await held.promise;
  await using here = await startHere(installation);
  await expect.poll(() => here.worker.units.done).toBeGreaterThan(0);
  stop.abort();
  expect(await codeOf(run)).toBe('interrupted');
  await toBe(id, 'completed');
  await expectEverySecretFresh(installation, keyring, projects);
});

test('a key that reached its limit of use is rotated by itself, once', async () => {
  const projects = await makeProjects(keyring, 2, 3);
  await using here = await startHere(installation, { dueEveryMs: 100 });
  await limitOfUseReached();
  const list = async () =>
    (await keyring.rotations.list()).map(({ trigger, state, projects: { total } }) => ({ trigger, state, total }));
  const once = [{ trigger: 'usage', state: 'completed', total: 2 }];
  await expect.poll(list).toEqual(once);
  expect(here.lines.some((line) => line.includes('asked for, because its projects are due'))).toBe(true);
  // The new versions, too, are at the limit already.
  expect(await keepSchedule(keyring)).toMatchObject({ rotationId: undefined });
  await here.worker.stop();
  expect(await list()).toEqual(once);
  await expectEverySecretFresh(installation, keyring, projects);
});

test('what somebody canceled is asked for by no worker', async () => {
  await makeProjects(keyring, 2, 3);
  await limitOfUseReached();
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await keyring.rotations.cancel(id);
  expect(await keepSchedule(keyring)).toMatchObject({ rotationId: undefined });
});

test('two workers that ask at once for what is due make one rotation', async () => {
  await makeProjects(keyring, 3, 3);
  await limitOfUseReached();
  // The first has found what is due, and made no rotation of it yet, when the second comes.
  const found = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const first = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('insert into keyring.rotations')) {
          found.resolve();
          await go.promise;
        }
        return send();
      }),
  });
  const asked = [first.policies.requestDue()];
  await found.promise;
  asked.push(keyring.policies.requestDue());
  const waits = () =>
    installation.sql(`select from pg_stat_activity where wait_event_type = 'Lock' and query like '%schedule_turns%'`);
  await expect.poll(async () => (await waits()).length).toBe(1);
  go.resolve();
  expect((await Promise.all(asked)).map(({ projects }) => projects)).toEqual([3, 0]);
  expect(await keyring.rotations.list()).toHaveLength(1);
  expect(await keepSchedule(keyring)).toMatchObject({ rotationId: undefined });
});

test('a rotation of the wrapping key whose driver is gone, or waited for others, is brought to its end by a worker', async () => {
  const { id: project } = await keyring.projects.create({ name: 'acme' });
  await keyring.secrets.put(project, 'KEY', 'a value');
  const { id } = await keyring.wrappingKeys.request();
  await using here = await startHere(installation, { wrappingEveryMs: 50 });
  await expect.poll(async () => (await keyring.wrappingKeys.get(id))?.state).toBe('completed');
  await expect.poll(() => here.lines.join('\n')).toContain(`rotation ${id} of the wrapping key: it stood still`);
  // One that somebody took back is nobody's.
  const canceled = await keyring.wrappingKeys.request();
  await keyring.wrappingKeys.cancel(canceled.id);
  expect((await keyring.secrets.get(project, 'KEY'))?.value).toBe('a value');
});

test('the list says who is there and, for an hour, who was; who stops leaves it', async () => {
  await using here = await startHere(installation, { concurrency: 3, version: '9.9.9' });
  await installation.sql(
    `insert into keyring.workers (id, host, pid, version, concurrency, seen_at)
     values (gen_random_uuid(), 'elsewhere', 1, 'test', 1, now() - interval '6 seconds')`,
  );
  await using database = await asService();
  const list = () => listWorkers(database);
  // Alive as soon as it is heard of again, however long the machine let nothing of it through.
  await expect.poll(list).toMatchObject([
    { id: here.worker.id, pid: process.pid, version: '9.9.9', concurrency: 3, alive: true, units: [], driving: [] },
    { host: 'elsewhere', alive: false },
  ]);
  await here.worker.stop();
  expect(await list()).toMatchObject([{ host: 'elsewhere' }]);
});

test('a worker that cannot reach the database says so without its password, and stops all the same', async () => {
  const url = new URL(installation.test.serviceUrl);
  url.port = '1';
  const lines: string[] = [];
  const worker = startWorker({
    keyring,
    databaseUrl: url.href,
    log: { info: (text) => lines.push(text), error: (text) => lines.push(text) },
  });
  await expect.poll(() => lines).toEqual([expect.stringMatching(/^The worker cannot start: .*database_unreachable/)]);
  expect(lines.join()).not.toContain(url.password);
  await worker.stop();
  await worker.ready;
});

test('an option that does not exist, is missing or is out of its range is misuse', () => {
  const options = { keyring, databaseUrl: 'x', log: { info: () => undefined, error: () => undefined } };
  expect(() => startWorker({ ...options, speed: 1 } as never)).toThrow('unknown option: speed');
  expect(() => startWorker({ keyring, log: options.log } as never)).toThrow('missing option: databaseUrl');
  expect(() => startWorker({ ...options, concurrency: 0 })).toThrow(
    'option concurrency takes a whole number from 1 to 64',
  );
});
