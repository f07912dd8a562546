import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Keyring } from '@meshhook/keyring';
import { startScratchCluster, type ScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { halfSwept } from '../../packages/keyring/test/engine/support/half-swept.ts';
import { startInstallation, type Installation } from '../../packages/keyring/test/engine/support/installation.ts';
import { startOwnCluster } from '../../packages/keyring/test/engine/support/own-cluster.ts';
import {
  addWebhooksTable,
  expectEverySecretFresh,
  expectHealthy,
  expectValues,
  makeProject,
  type KnownProject,
} from '../../packages/keyring/test/engine/support/world.ts';
import { query, type TestDatabase } from '../support/database.ts';
import { canRun } from '../support/required.ts';
import { hasPostgres15, POSTGRES_15, run } from './support/copies.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

const found = canRun('pg15', hasPostgres15, 'restores need the programs of PostgreSQL 15 (Debian: postgresql-15)');

let cluster: ScratchCluster;
let test15: TestDatabase;
let live: Installation;
let keyring: Keyring;
let elsewhere: ScratchCluster | undefined;
let folder: string;

async function sealAll({ audit }: Keyring): Promise<string> {
  while ((await audit.seal()).more);
  return (await audit.checkpoint())!.note;
}

/** Several versions behind them, and the trail sealed twice. */
async function withHistory(): Promise<KnownProject[]> {
  await addWebhooksTable(live);
  const projects = [];
  for (let number = 0; number < 3; number++)
    projects.push(await makeProject(live, keyring, { secrets: 20, webhooks: 5 }));
  for (let rotation = 0; rotation < 2; rotation++) {
    const { id } = await keyring.rotations.request({ projects: 'all', pace: 'full' });
    expect((await keyring.rotations.run(id)).state).toBe('completed');
    await sealAll(keyring);
  }
  return projects;
}

/** A dump of the database, and its roles, as the runbook has them made and brought back, in another cluster. */
async function restored(from: TestDatabase, target: ScratchCluster): Promise<TestDatabase> {
  const [roles, dump] = [path.join(folder, 'roles.sql'), path.join(folder, 'database.dump')];
  await run('pg_dumpall', ['--roles-only', '--no-role-passwords', `--file=${roles}`], { url: from.adminUrl });
  await run('pg_dump', ['--format=custom', `--file=${dump}`, '--dbname=crashing'], { url: from.adminUrl });
  const url = target.adminUrl();
  // It complains of the superuser, who is there.
  await run('psql', ['-X', '-q', '-d', 'postgres', '-f', roles], { url });
  for (const login of ['crash_owner', 'crash_app']) await query(url, `alter role ${login} password 'test'`);
  await query(url, 'create database crashing owner crash_owner template template0');
  await run('pg_restore', ['--exit-on-error', '--dbname=crashing', dump], { url });
  const moved = (there: string): string => {
    const made = new URL(there);
    made.port = new URL(url).port;
    return made.href;
  };
  return {
    ...from,
    adminUrl: target.adminUrl('crashing'),
    ownerUrl: moved(from.ownerUrl),
    serviceUrl: moved(from.serviceUrl),
  };
}

describeLong('a vault that is restored (MESHHOOK_LONG=1)', () => {
  beforeEach(async () => {
    if (!found) return;
    folder = await mkdtemp(path.join(tmpdir(), 'keyring-restores-'));
    ({ cluster, test: test15 } = await startOwnCluster({ binDirectory: POSTGRES_15 }));
    live = await startInstallation({ test: test15 });
    keyring = await live.open();
  });
  afterEach(async () => {
    if (!found) return;
    await cluster.stop();
    await elsewhere?.stop();
    elsewhere = undefined;
    await rm(folder, { recursive: true });
  });

  test.skipIf(!found).each([
    ['a new cluster, whose transactions count from the beginning', 0],
    ['a cluster that has counted further', 2_000],
  ])(
    'in %s opens every secret, ends its rotation, verifies by the old checkpoint, and is sealed on',
    async (_, transactions) => {
      const projects = await withHistory();
      const rotation = await halfSwept(live);
      const checkpoint = await sealAll(keyring);
      // What has no place yet when the dump is made gets one where it is restored.
      await live.sql(
        `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', 'a:1')`,
      );
      elsewhere = await startScratchCluster({ binDirectory: POSTGRES_15 });
      await query(
        elsewhere.adminUrl(),
        `do $$ begin for n in 1..${String(transactions)} loop perform pg_current_xact_id(); commit; end loop; end $$`,
      );
      const copy = await restored(test15, elsewhere);
      await keyring.close();
      await live.release();

      const there = await startInstallation({ test: copy, rootKey: live.rootKey });
      const next = await there.open();
      try {
        for (const project of projects) await expectValues(there, next, project);
        expect(await next.audit.verify({ checkpoint })).toMatchObject({ intact: true, given: 'matches' });
        expect((await next.audit.seal()).sealed).toBeGreaterThan(0);
        expect((await next.rotations.run(rotation)).state).toBe('completed');
        await expectEverySecretFresh(there, next, projects);
        await sealAll(next);
        const verified = await next.audit.verify({ checkpoint });
        expect(verified).toMatchObject({ intact: true, given: 'matches' });
        // All of it, that of the other cluster's last moment among it: nothing waits below a floor that rises no more.
        await expect
          .poll(async () => {
            await sealAll(next);
            return (await next.audit.verify()).unsealed.entries;
          })
          .toBe(0);
        await expectHealthy(next);
        // It goes on as if nothing had been.
        const { id } = await next.rotations.request({ projects: 'all' });
        expect((await next.rotations.run(id)).state).toBe('completed');
        await expectEverySecretFresh(there, next, projects);
        await next.close();
      } finally {
        await there.release();
      }
    },
    LONG_MS,
  );
});
