import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRootKeyFile, openRootKey, type Keyring } from '@meshhook/keyring';
import { expect, onTestFinished } from 'vitest';
import { startInstallation, type Installation } from './installation.ts';
import { interceptDatabase } from './intercept.ts';
import { startOwnCluster } from './own-cluster.ts';
import type { Random } from './random.ts';
import {
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  expectReceipts,
  forgetRunners,
  type KnownProject,
} from './world.ts';

/** Of each project, where nothing else is said: so many that a sweep in batches of two takes a while. */
const MANY = 80;

/** Two projects with so many secrets each. */
async function fill(keyring: Keyring, count: number): Promise<KnownProject[]> {
  const projects: KnownProject[] = [];
  for (const name of ['first', 'second']) {
    const { id } = await keyring.projects.create({ name });
    const secrets = new Map<string, string>();
    for (let number = 0; number < count; number++) secrets.set(`SECRET_${String(number)}`, `${name} ${String(number)}`);
    await Promise.all([...secrets].map(([secret, value]) => keyring.secrets.put(id, secret, value)));
    projects.push({ id, name, secrets, webhooks: new Map() });
  }
  return projects;
}

/** Kills a rotating process with SIGKILL at `kills` random moments; after each, another one finishes what it left. */
export async function killRotatingProcesses(kills: number, random: Random, secrets = MANY): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'meshhook-kill-'));
  const uri = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(uri);
  const installation = await startInstallation({ rootKey: await openRootKey(uri, { cwd: folder }) });
  onTestFinished(async () => {
    await installation.end();
    await rm(folder, { recursive: true });
  });
  const states: Record<string, number> = {};
  const keyring = await installation.open();
  const projects = await fill(keyring, secrets);
  for (let kill = 1; kill <= kills; kill++) {
    const child = spawn(
      process.execPath,
      [
        '--conditions=@meshhook/source',
        path.join(import.meta.dirname, 'rotating-process.ts'),
        installation.test.serviceUrl,
        uri,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const exited = once(child, 'exit');
    // Any moment of the rotation: from its first statement to its last, and sometimes into the next one.
    await Promise.race([once(child.stdout, 'data'), exited]);
    await sleep(random(500));
    child.kill('SIGKILL');
    expect(await exited).toEqual([null, 'SIGKILL']);
    await everyConnectionGone(installation);

    const next = await installation.open();
    for (const rotation of await next.rotations.list({ limit: 1 }))
      states[rotation.state] = (states[rotation.state] ?? 0) + 1;
    await forgetRunners(installation);
    for (const id of await next.rotations.waiting()) {
      const detail = await detailOf(next, id);
      for (const { state } of detail.projectDetails) states[state] = (states[state] ?? 0) + 1;
      expect((await next.rotations.run(id)).state).toBe('completed');
      await expectReceipts(next, id, 'completed', [secrets, secrets]);
    }
    await expectEverySecretFresh(installation, next, projects);
    await expectHealthy(next);
  }
  await expectEachStepOnce(installation);
  return `${String(kills)} kills found ${JSON.stringify(states)}`;
}

/**
 * Stops PostgreSQL as a crash would, at random statements of rotations under way, a set of two and one by one in turns;
 * each goes on by itself and completes.
 */
export async function crashPostgres(crashes: number, random: Random, secrets = MANY): Promise<string> {
  const { cluster, test } = await startOwnCluster();
  onTestFinished(() => cluster.stop());
  let restarted: Promise<void> | undefined;
  let installation = await startInstallation({ test });
  const { rootKey } = installation;
  const projects = await fill(await installation.open(), secrets);
  const struck: string[] = [];

  /** Rotates both, and crashes at statement `at`, counted from the rotation's request on; gives how many there were. */
  const rotate = async (together: boolean, at = Infinity): Promise<number> => {
    let counted = -Infinity;
    const rotator = await installation.open({
      sweepBatchSize: 2,
      rotationSetSize: together ? 100 : 1,
      wrap: (database) =>
        interceptDatabase(database, async ({ statement, send }) => {
          if (++counted === at) {
            struck.push(statement.text.trim().split(/\s+/, 3).join(' '));
            restarted = cluster.restart('immediate');
          }
          return send();
        }),
    });
    const { id } = await rotator.rotations.request({ projects: 'all' });
    counted = 0;
    expect((await rotator.rotations.run(id)).state).toBe('completed');
    const all = counted;
    await restarted;
    // Its own connections are from before.
    await installation.end().catch(() => undefined);
    installation = await startInstallation({ test, rootKey });
    const next = await installation.open();
    await expectReceipts(next, id, 'completed', [secrets, secrets]);
    await expectEverySecretFresh(installation, next, projects);
    await expectHealthy(next);
    return all;
  };

  // A rotation that takes less time says less often that it is alive, and looks less often at the reads beside it.
  const fewest = { set: await rotate(true), alone: await rotate(false) };
  while (struck.length < crashes) {
    const way = struck.length % 2 === 0 ? 'set' : 'alone';
    fewest[way] = Math.min(fewest[way], await rotate(way === 'set', 1 + random(fewest[way])));
  }
  await expectEachStepOnce(installation);
  await installation.end();
  return `${String(crashes)} crashes at: ${struck.join(', ')}`;
}

/** Whatever died when: what happened is in the trail, and once. */
async function expectEachStepOnce({ sql }: Installation): Promise<void> {
  const twice = await sql(
    `select action, project_id, subject, count(*) from keyring.audit_log
     where action in ('rotation.requested', 'rotation.started', 'rotation.project_swept', 'rotation.project_completed',
       'rotation.completed', 'key.created', 'key.promoted')
     group by 1, 2, 3 having count(*) > 1`,
  );
  expect(twice).toEqual([]);
  const [counts] = await sql(
    `select (select count(*) from keyring.rotation_projects where state = 'completed') as completed,
       (select count(*) from keyring.receipts) as receipts,
       (select count(*) from keyring.audit_log where action = 'rotation.project_completed') as entries`,
  );
  expect(counts?.['receipts']).toBe(counts?.['completed']);
  expect(counts?.['entries']).toBe(counts?.['completed']);
}

/** PostgreSQL notices a killed client when it next writes to it. */
async function everyConnectionGone({ sql }: Installation): Promise<void> {
  for (;;) {
    const rows = await sql(
      `select 1 from pg_stat_activity where datname = current_database() and state <> 'idle'
         and pid <> pg_backend_pid() and backend_type = 'client backend'`,
    );
    if (rows.length === 0) return;
    await sleep(5);
  }
}
