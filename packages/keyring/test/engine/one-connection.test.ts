import { openKeyring, pgDatabase, type Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { openTheDoor } from './support/scenarios.ts';
import {
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './support/world.ts';

// What holds a connection and asks for another would wait for itself: after ten seconds, that is `contended`.
let installation: Installation;
let keyring: Keyring;
let projects: KnownProject[];
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await openKeyring({
    database: pgDatabase({ connectionString: installation.test.serviceUrl, maxConnections: 1 }),
    rootKey: installation.rootKey,
    heartbeatMs: 50,
    lockPatienceMs: 3_600_000,
    // No key is remembered: each is read when it is needed.
    keyCacheMs: 0,
    // Three go together, in batches; the largest alone.
    sweepBatchSize: 4,
  });
  projects = [];
  for (const secrets of [1, 2, 3, 9]) projects.push(await makeProject(installation, keyring, { secrets }));
});
afterEach(async () => {
  await keyring.close();
  await installation.end();
});

const names = ({ secrets }: KnownProject): string[] => [...secrets.keys()];

async function rotate(): Promise<string> {
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  return id;
}

test('one connection is enough to put and get while a rotation is driven', async () => {
  await Promise.all([
    rotate(),
    ...projects.flatMap((project) =>
      names(project).map(async (name) => {
        await keyring.secrets.put(project.id, name, `anew: ${name}`);
        project.secrets.set(name, `anew: ${name}`);
        expect((await keyring.secrets.get(project.id, name))?.value).toBe(`anew: ${name}`);
      }),
    ),
  ]);
  await expectEverySecretFresh(installation, keyring, projects);
});

test('one connection is enough to pause, resume, roll back, and replace a version that leaked', async () => {
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect(await codeOf(keyring.rotations.request({ projects: 'all' }))).toBe('rotation_in_progress');
  await keyring.rotations.pause(id);
  expect((await keyring.rotations.run(id)).state).toBe('paused');
  await keyring.rotations.resume(id);
  // One row that somebody holds keeps it from completing.
  await using holder = await session(installation.test.adminUrl, 'holder');
  await holder.query('begin');
  await holder.query('select from public.secrets where project_id = $1 limit 1 for update', [projects[3]?.id]);
  const stop = new AbortController();
  const driven = keyring.rotations.run(id, { signal: stop.signal });
  await expect.poll(async () => (await detailOf(keyring, id)).rows.moved).toBe(14);
  stop.abort();
  expect(await codeOf(driven)).toBe('interrupted');
  await holder.query('rollback');
  await keyring.rotations.rollback(id);
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 4, completed: 3, rolled_back: 1 });
  const project = projects[3];
  const primary = (await keyring.keys.list({ projectId: project?.id ?? '' })).find((key) => key.status === 'active');
  const { rotation } = await keyring.rotations.compromise(primary?.id ?? '', { reason: 'test' });
  expect((await keyring.rotations.run(rotation?.id ?? '')).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, projects);
});

test('one connection is enough for what stands above the data keys, for the trail, and for whoever looks on', async () => {
  const { id } = await keyring.wrappingKeys.request({ reason: 'test' });
  expect((await keyring.wrappingKeys.run(id)).state).toBe('completed');
  await rotate();
  const [sealed, doctor] = await Promise.all([keyring.audit.seal(), keyring.doctor(), keyring.overview()]);
  expect(sealed.sealed).toBeGreaterThan(0);
  expect(doctor.healthy).toBe(true);
  await Promise.all([keyring.audit.verify(), keyring.monitoring.facts(), keyring.audit.seal()]);
  await expectHealthy(keyring);
  // A standby took over that never had the key of the last checkpoint: whose it is, is looked up in between.
  await installation.behindTheFence(`delete from keyring.signing_keys where purpose = 'audit'`);
  await keyring.projects.create({ name: 'one more' });
  expect(await codeOf(keyring.audit.seal())).toBe('audit_broken');
});

test('one connection is enough to adopt what is not encrypted, and to destroy what nobody needs', async () => {
  await openTheDoor(installation);
  const [project] = projects;
  await installation.asOwner(
    `insert into public.secrets (project_id, key, value_encrypted)
     values ('${project?.id ?? ''}', 'OLD', convert_to('old value', 'utf8'))`,
  );
  project?.secrets.set('OLD', 'old value');
  expect((await keyring.secrets.adopt()).adopted).toBe(1);
  const rotation = await rotate();
  await expectEverySecretFresh(installation, keyring, projects);
  await installation.behindTheFence(
    'update keyring.encryption_keys set retention_until = now() where retention_until is not null',
  );
  for (const { sourceKeyId = '' } of (await detailOf(keyring, rotation)).projectDetails) {
    expect((await keyring.keys.destroy(sourceKeyId, { reason: 'test' })).status).toBe('destroyed');
  }
});
