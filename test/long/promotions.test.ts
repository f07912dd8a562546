import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Keyring } from '@meshhook/keyring';
import type { ScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { checkpointKeeper, readCheckpointFile, Sealing } from '@meshhook/keyring-worker/sealing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { halfSwept } from '../../packages/keyring/test/engine/support/half-swept.ts';
import { startInstallation, type Installation } from '../../packages/keyring/test/engine/support/installation.ts';
import { startOwnCluster } from '../../packages/keyring/test/engine/support/own-cluster.ts';
import {
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  expectValues,
  makeProject,
  type KnownProject,
} from '../../packages/keyring/test/engine/support/world.ts';
import type { TestDatabase } from '../support/database.ts';
import { canRun } from '../support/required.ts';
import { hasPostgres15, lose, POSTGRES_15, startStandby, type Standby } from './support/copies.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

const found = canRun('pg15', hasPostgres15, 'standbys need the programs of PostgreSQL 15 (Debian: postgresql-15)');

let cluster: ScratchCluster;
let primary: TestDatabase;
let live: Installation;
let keyring: Keyring;
let standby: Standby | undefined;
let folder: string;
/** Where whoever seals keeps the last checkpoint: a disk of another machine. */
let outside: string;

const sealed = (by: Keyring): Promise<number> =>
  new Sealing(
    by.audit,
    checkpointKeeper(outside, () => undefined, by.audit),
  ).round();
const kept = async (): Promise<string> => (await readCheckpointFile(outside)) ?? '';

/** The same database, where the standby answers. */
function promoted({ urlOf }: Standby): TestDatabase {
  const { adminUrl, ownerUrl, serviceUrl } = primary;
  return { ...primary, adminUrl: urlOf(adminUrl), ownerUrl: urlOf(ownerUrl), serviceUrl: urlOf(serviceUrl) };
}

/** As its machine is gone. */
async function losePrimary(): Promise<void> {
  const { uid, gid } = await stat(cluster.dataDirectory);
  await lose(cluster, primary.adminUrl, { uid, gid });
}

async function inPromoted(work: (there: Installation, next: Keyring) => Promise<void>): Promise<void> {
  const there = await startInstallation({ test: promoted(standby!), rootKey: live.rootKey });
  try {
    const next = await there.open();
    await work(there, next);
    await next.close();
  } finally {
    await there.release();
  }
}

/** No row names a version that is not there, or that has no bytes. */
async function expectEveryVersionThere({ sql }: Installation): Promise<void> {
  expect(
    await sql(`select s.id from public.secrets s left join keyring.encryption_keys k
                 on k.id = s.encryption_key_id and k.project_id = s.project_id
               where k.id is null or k.state = 'destroyed'`),
  ).toEqual([]);
  expect(
    await sql(`select r.project_id from keyring.keyrings r left join keyring.encryption_keys k on k.id = r.primary_key_id
               where r.primary_key_id is not null and k.id is null`),
  ).toEqual([]);
}

describeLong('a standby that takes over (MESHHOOK_LONG=1)', () => {
  let projects: KnownProject[];
  beforeEach(async () => {
    if (!found) return;
    folder = await mkdtemp(path.join(tmpdir(), 'keyring-promotions-'));
    outside = path.join(folder, 'audit-checkpoint');
    const settings = { wal_level: 'replica', full_page_writes: 'on' };
    ({ cluster, test: primary } = await startOwnCluster({ binDirectory: POSTGRES_15, settings }));
    live = await startInstallation({ test: primary });
    keyring = await live.open();
    projects = [];
    for (let number = 0; number < 3; number++) projects.push(await makeProject(live, keyring, { secrets: 20 }));
    const { id } = await keyring.rotations.request({ projects: 'all' });
    expect((await keyring.rotations.run(id)).state).toBe('completed');
  });
  afterEach(async () => {
    if (!found) return;
    await standby?.stop();
    standby = undefined;
    await cluster.stop();
    await rm(folder, { recursive: true });
  });

  test.skipIf(!found)(
    'one that is synchronous has all that was acknowledged: values, the half of a rotation, and the trail',
    async () => {
      standby = await startStandby(cluster, { synchronous: true });
      await sealed(keyring);
      const rotation = await halfSwept(live);
      const [project] = projects;
      await keyring.secrets.put(project!.id, 'LAST', 'acknowledged at last');
      project!.secrets.set('LAST', 'acknowledged at last');
      await sealed(keyring);
      await losePrimary();
      await keyring.close();
      await live.release();
      await standby.promote();
      await inPromoted(async (there, next) => {
        for (const one of projects) await expectValues(there, next, one);
        await expectEveryVersionThere(there);
        expect(await next.audit.verify({ checkpoint: await kept() })).toMatchObject({ intact: true, given: 'matches' });
        expect((await next.rotations.run(rotation)).state).toBe('completed');
        await expectEverySecretFresh(there, next, projects);
        await sealed(next);
        expect(await next.audit.verify({ checkpoint: await kept() })).toMatchObject({ intact: true, given: 'matches' });
        await expectHealthy(next);
      });
    },
    LONG_MS,
  );

  test.skipIf(!found)(
    'one that is behind loses no secret and no version that it names; the trail says what is missing',
    async () => {
      standby = await startStandby(cluster, { synchronous: false });
      await sealed(keyring);
      const rotation = await halfSwept(live);
      await sealed(keyring);
      await standby.cutOff();
      // All this was acknowledged, and is on the lost machine alone.
      expect((await keyring.rotations.run(rotation)).state).toBe('completed');
      const another = await keyring.rotations.request({ projects: 'all' });
      expect((await keyring.rotations.run(another.id)).state).toBe('completed');
      await keyring.secrets.put(projects[0]!.id, 'LOST', 'acknowledged, and lost');
      await sealed(keyring);
      await losePrimary();
      await keyring.close();
      await live.release();
      await standby.promote();
      const before = await kept();
      await inPromoted(async (there, next) => {
        for (const one of projects) await expectValues(there, next, one);
        await expectEveryVersionThere(there);
        expect(await next.audit.verify({ checkpoint: before })).toMatchObject({
          intact: false,
          problem: { kind: 'truncated' },
        });
        expect(await next.audit.verify()).toMatchObject({ intact: true });
        // A worker that begins here says so by itself, and whoever seals does not write over what was kept.
        const checkpoint = (): Promise<string> => Promise.resolve(before);
        const look = await next.audit.verifyDue('whole', { everyMs: 0, share: 100, checkpoint });
        expect(look).toMatchObject({ problem: { kind: 'truncated' } });
        expect(await codeOf(sealed(next))).toBe('audit_broken');
        expect(await kept()).toBe(before);
        expect((await next.monitoring.facts()).process.auditBroken).toBe(true);
        // The rotation is where it was when the line was cut, and goes on.
        expect((await next.rotations.run(rotation)).state).toBe('completed');
        await expectEverySecretFresh(there, next, projects);
        while ((await next.audit.seal()).more);
        expect(await next.audit.verify({ checkpoint: before })).toMatchObject({ problem: { kind: 'forked' } });
      });
    },
    LONG_MS,
  );

  test.skipIf(!found)(
    'a process that outlives it writes under no version that the standby never had, and takes what it knows from there',
    async () => {
      standby = await startStandby(cluster, { synchronous: false });
      await sealed(keyring);
      await standby.cutOff();
      // From here on the process knows versions, pointers, and a longer trail than there are.
      const { id } = await keyring.rotations.request({ projects: 'all' });
      expect((await keyring.rotations.run(id)).state).toBe('completed');
      for (const { id: projectId } of projects) await keyring.secrets.put(projectId, 'LOST', 'acknowledged, and lost');
      await sealed(keyring);
      const { port } = cluster;
      await losePrimary();
      await standby.promote();
      await standby.moveTo(port);
      const values = new Map(projects.map((project) => [project.id, `written by a survivor to ${project.name}`]));
      for (const project of projects) {
        const value = values.get(project.id)!;
        await expect.poll(() => codeOf(keyring.secrets.put(project.id, 'AFTER', value))).toBe('nothing');
        project.secrets.set('AFTER', value);
      }
      // The chain is shorter than the one it signed.
      expect(await codeOf(keyring.audit.seal())).toBe('audit_broken');
      const next = await keyring.rotations.request({ projects: 'all' });
      expect((await keyring.rotations.run(next.id)).state).toBe('completed');
      await keyring.close();
      await live.release();
      await inPromoted(async (there, other) => {
        await expectEverySecretFresh(there, other, projects);
        await expectEveryVersionThere(there);
        expect(await other.audit.verify({ checkpoint: await kept() })).toMatchObject({ intact: false });
      });
    },
    LONG_MS,
  );

  test.skipIf(!found)(
    'a process that outlives it goes on though the keys that it signs with, and wraps with, are on the lost machine alone',
    async () => {
      for (const table of ['receipts', 'signing_keys']) await live.behindTheFence(`delete from keyring.${table}`);
      const survivor = await live.open();
      standby = await startStandby(cluster, { synchronous: false });
      await standby.cutOff();
      const { id } = await survivor.rotations.request({ projects: 'all' });
      expect((await survivor.rotations.run(id)).state).toBe('completed');
      const wrapping = await survivor.wrappingKeys.request({ reason: 'of the lost machine' });
      await survivor.wrappingKeys.run(wrapping.id);
      const { port } = cluster;
      await losePrimary();
      await standby.promote();
      await standby.moveTo(port);
      for (const project of projects) {
        const value = `written by a survivor to ${project.name}`;
        await expect.poll(() => codeOf(survivor.secrets.put(project.id, 'AFTER', value))).toBe('nothing');
        project.secrets.set('AFTER', value);
      }
      const next = await survivor.rotations.request({ projects: 'all' });
      expect((await survivor.rotations.run(next.id)).state).toBe('completed');
      expect(await codeOf(survivor.audit.seal())).toBe('nothing');
      await survivor.close();
      await keyring.close();
      await live.release();
      await inPromoted(async (there, other) => {
        await expectEverySecretFresh(there, other, projects);
        await expectEveryVersionThere(there);
        expect(await other.audit.verify()).toMatchObject({ intact: true });
      });
    },
    LONG_MS,
  );
});
