import type { Keyring } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { FaultScenario, FaultWay } from './faults.ts';
import type { Installation, OpenOptions } from './installation.ts';
import { interceptDatabase } from './intercept.ts';
import { madeOnce } from './snapshot.ts';
import {
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  expectOneHistory,
  expectReceipts,
  forgetRunners,
  makeProject,
  type KnownProject,
} from './world.ts';

interface RotationWorld {
  readonly projects: readonly [KnownProject, KnownProject];
  readonly audited: string;
}

/** Whether the projects of a rotation go through its steps together, or one after the other: two sets of statements. */
export type Way = 'together' | 'alone';

/** Batches so small that a rotation is many statements; no patience, so that a lost connection is told at once. */
function impatient(way: Way): OpenOptions {
  return { sweepBatchSize: 1, rotationConcurrency: 1, lockPatienceMs: 0, rotationSetSize: way === 'alone' ? 1 : 100 };
}

async function prepareProjects(installation: Installation, keyring: Keyring): Promise<Pick<RotationWorld, 'projects'>> {
  await clearProjects(installation);
  const projects = [
    await makeProject(installation, keyring, { secrets: 2, webhooks: 1 }),
    await makeProject(installation, keyring, { secrets: 1, webhooks: 1 }),
  ] as const;
  return { projects };
}

/** Request and run a rotation of two projects and two tables. */
export function rotationScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
  way: Way,
): FaultScenario<RotationWorld> {
  return {
    plans,
    prepare: madeOnce(installation, () => prepareProjects(installation, keyring)),
    async act({ projects }, fault) {
      const struck = await installation.open({ ...impatient(way), wrap: (database) => fault.wrap(database) });
      fault.arm();
      const rotation = await struck.rotations.request({ projects: projects.map((project) => project.id) });
      await struck.rotations.run(rotation.id);
    },
    async recover({ projects, audited }) {
      await forgetRunners(installation);
      const next = await installation.open();
      const [found] = await next.rotations.list({ limit: 1 });
      const rotation = found ?? (await next.rotations.request({ projects: projects.map((project) => project.id) }));
      const waiting = await next.rotations.waiting();
      expect(waiting).toEqual(rotation.state === 'completed' ? [] : [rotation.id]);
      expect((await next.rotations.run(rotation.id)).state).toBe('completed');

      await expectEverySecretFresh(installation, next, projects);
      for (const project of projects) await expectOneHistory(installation, project, 2);
      const detail = await detailOf(next, rotation.id);
      expect(detail.projects).toEqual({ total: 2, completed: 2 });
      expect(detail.rows).toEqual({ total: 5, moved: 5, verified: 5, quarantined: 0 });
      expect(await next.rotations.list()).toHaveLength(1);
      expect(await auditSince(installation, audited)).toEqual({
        'rotation.requested': 1,
        'rotation.started': 1,
        'key.created': 2,
        'key.promoted': 2,
        'rotation.project_swept': 2,
        'rotation.project_completed': 2,
        'rotation.completed': 1,
        'signing_key.created': 1,
      });
      await expectReceipts(next, rotation.id, 'completed', [3, 2]);
      await expectHealthy(next);
    },
  };
}

/** The same, by a process that has patience: it meets the fault, goes on by itself, and nobody has to come after it. */
export function healingScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
  way: Way,
): FaultScenario<RotationWorld> {
  const scenario = rotationScenario(installation, keyring, plans, way);
  return {
    ...scenario,
    plans: plans.filter((plan) => plan.then === 'the process goes on'),
    async act({ projects }, fault) {
      const struck = await installation.open({
        ...impatient(way),
        lockPatienceMs: 10_000,
        wrap: (database) => fault.wrap(database),
      });
      const rotation = await struck.rotations.request({ projects: projects.map((project) => project.id) });
      fault.arm();
      expect((await struck.rotations.run(rotation.id)).state).toBe('completed');
    },
  };
}

interface RollbackWorld extends RotationWorld {
  readonly rotationId: string;
}

/**
 * Turn back a rotation that stopped in the middle: the first project half swept, the second not begun; or, where they went together,
 * both promoted and half of their rows swept.
 */
export function rollbackScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
  way: Way,
): FaultScenario<RollbackWorld> {
  const promoted = way === 'together' ? 2 : 1;
  return {
    plans,
    prepare: madeOnce(installation, async () => {
      const world = await prepareProjects(installation, keyring);
      const rotationId = await stopInTheMiddle(installation, world, way);
      return { ...world, rotationId };
    }),
    async act({ rotationId }, fault) {
      const struck = await installation.open({ ...impatient(way), wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.rotations.rollback(rotationId);
      await struck.rotations.run(rotationId);
    },
    async recover({ projects, audited, rotationId }) {
      await forgetRunners(installation);
      const next = await installation.open();
      const found = await detailOf(next, rotationId);
      if (found.state === 'running') await next.rotations.rollback(rotationId);
      expect((await next.rotations.run(rotationId)).state).toBe('rolled_back');

      await expectEverySecretFresh(installation, next, projects);
      const detail = await detailOf(next, rotationId);
      expect(detail.projects).toEqual(
        way === 'together' ? { total: 2, rolled_back: 2 } : { total: 2, rolled_back: 1, canceled: 1 },
      );
      const [first, second] = [...projects].sort((a, b) => (a.id < b.id ? -1 : 1)) as [KnownProject, KnownProject];
      await expectOneHistory(installation, first, 2);
      await expectOneHistory(installation, second, promoted);
      const keys = await next.keys.list({ projectId: first.id });
      expect(keys.map((key) => key.status)).toEqual(['active', 'deactivated']);
      expect(
        await installation.sql('select rolled_back_at is not null as left from keyring.encryption_keys where id = $1', [
          keys[1]?.id,
        ]),
      ).toEqual([{ left: true }]);
      expect(await auditSince(installation, audited)).toEqual({
        'rotation.rollback_requested': 1,
        'key.rolled_back': promoted,
        'rotation.project_rolled_back': promoted,
        ...(way === 'alone' ? { 'rotation.project_canceled': 1 } : {}),
        'rotation.rolled_back': 1,
        'signing_key.created': 1,
      });
      const turned = way === 'together' ? [first, second] : [first];
      const rows = turned.map(({ secrets, webhooks }) => secrets.size + webhooks.size).sort((a, b) => b - a);
      await expectReceipts(next, rotationId, 'rolled_back', rows);
      await expectHealthy(next);
    },
  };
}

/** Runs a rotation until the first batch of rows has moved, and leaves it there. */
async function stopInTheMiddle(
  installation: Installation,
  { projects }: Pick<RotationWorld, 'projects'>,
  way: Way,
): Promise<string> {
  const stop = new AbortController();
  const stopping = await installation.open({
    ...impatient(way),
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        if (statement.text.includes('keyring.move_')) stop.abort();
        return answer;
      }),
  });
  const { id } = await stopping.rotations.request({ projects: projects.map((project) => project.id) });
  expect(await codeOf(stopping.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  return id;
}

interface FirstPutWorld {
  readonly projectId: string;
  readonly audited: string;
}

/** The first put of a project, which makes its version 1; then a second put and a remove. */
export function firstPutScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<FirstPutWorld> {
  return {
    plans,
    async prepare() {
      await clearProjects(installation);
      const { id } = await keyring.projects.create({ name: 'new' });
      return { projectId: id, audited: await auditPosition(installation) };
    },
    async act({ projectId }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.secrets.put(projectId, 'FIRST', 'one');
      await struck.secrets.put(projectId, 'FIRST', 'two');
      await struck.secrets.put(projectId, 'SECOND', 'three');
      await struck.secrets.remove(projectId, 'SECOND');
    },
    async recover({ projectId, audited }) {
      const next = await installation.open();
      const before = await next.secrets.get(projectId, 'FIRST');
      expect([undefined, 'one', 'two']).toContain(before?.value);
      const { created } = await next.secrets.put(projectId, 'FIRST', 'four');
      expect(created).toBe(before === undefined);
      await next.secrets.remove(projectId, 'SECOND');

      const project = { id: projectId, name: 'new', secrets: new Map([['FIRST', 'four']]), webhooks: new Map() };
      await expectEverySecretFresh(installation, next, [project]);
      await expectOneHistory(installation, project, 1);
      const audit = await auditSince(installation, audited);
      expect(audit['key.created']).toBe(1);
      expect(audit['key.promoted']).toBe(1);
      // The trail tells each value that was ever stored, whether or not its writer was told.
      const entries = await next.audit.list({ projectId });
      const created1 = entries.filter((one) => one.action === 'secret.written' && one.details['created'] === true);
      expect(created1.map((one) => one.details['name']).sort()).toEqual(
        audit['secret.deleted'] === undefined ? ['FIRST'] : ['FIRST', 'SECOND'],
      );
      await expectHealthy(next);
    },
  };
}

interface AdoptWorld {
  readonly projects: readonly [KnownProject, KnownProject];
  readonly audited: string;
}

/** Adopt plaintext rows of two projects, one of which has no key yet, and close the door behind them. */
export function adoptScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<AdoptWorld> {
  return {
    plans,
    async prepare() {
      await clearProjects(installation);
      await openTheDoor(installation);
      const projects = [
        await makeProject(installation, keyring, { secrets: 1 }),
        await makeProject(installation, keyring, { secrets: 0 }),
      ] as const;
      for (const project of projects) {
        for (const name of ['OLD_1', 'OLD_2']) {
          project.secrets.set(name, `old ${name} of ${project.name}`);
          await installation.sql(
            `insert into public.secrets (project_id, key, value_encrypted, updated_at) values ($1, $2, $3, '2020-01-01')`,
            [project.id, name, Buffer.from(`old ${name} of ${project.name}`)],
          );
        }
      }
      return { projects, audited: await auditPosition(installation) };
    },
    async act(_world, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.secrets.adopt({ finish: true });
    },
    async recover({ projects, audited }) {
      const next = await installation.open();
      const report = await next.secrets.adopt({ finish: true });
      expect(report).toMatchObject({ failed: [], remaining: 0, finished: true });

      await expectEverySecretFresh(installation, next, projects);
      await expectOneHistory(installation, projects[1], 1);
      const adopted = await installation.sql(
        `select details ->> 'secrets' as secrets from keyring.audit_log where action = 'secret.adopted' and id > $1`,
        [audited],
      );
      expect(adopted.reduce((sum, row) => sum + Number(row['secrets']), 0)).toBe(4);
      const audit = await auditSince(installation, audited);
      expect(audit['key.created']).toBe(1);
      expect(audit['key.promoted']).toBe(1);
      expect(audit['secret.adoption_finished']).toBe(1);
      const touched = await installation.sql(
        `select key from public.secrets where key like 'OLD%' and updated_at <> '2020-01-01'`,
      );
      expect(touched).toEqual([]);
      await expectHealthy(next);
    },
  };
}

/** As it was before adoption was finished. */
export async function openTheDoor({ behindTheFence }: Installation): Promise<void> {
  await behindTheFence('update keyring.encrypted_columns set accepts_plaintext = true');
}

/** The first opening of an empty installation, which makes its wrapping key. */
export function openingScenario(
  installation: Installation,
  plans: readonly FaultWay[],
): FaultScenario<{ readonly audited: string }> {
  return {
    plans,
    async prepare() {
      await clearProjects(installation);
      for (const table of ['installation', 'wrapped_wrapping_keys', 'wrapping_keys', 'root_keys']) {
        await installation.behindTheFence(`delete from keyring.${table}`);
      }
      return { audited: await auditPosition(installation) };
    },
    async act(_world, fault) {
      fault.arm();
      await installation.open({ wrap: (database) => fault.wrap(database) });
    },
    async recover({ audited }) {
      const next = await installation.open();
      const { id } = await next.projects.create({ name: 'first' });
      await next.secrets.put(id, 'A', 'a');
      const other = await installation.open();
      expect((await other.secrets.get(id, 'A'))?.value).toBe('a');
      const [counts] = await installation.sql(
        `select (select count(*)::int from keyring.root_keys) as roots, (select count(*)::int from keyring.wrapping_keys) as keys,
           (select count(*)::int from keyring.wrapped_wrapping_keys) as wrapped,
           (select count(*)::int from keyring.installation) as pointers`,
      );
      expect(counts).toEqual({ roots: 1, keys: 1, wrapped: 1, pointers: 1 });
      expect((await auditSince(installation, audited))['wrapping_key.created']).toBe(1);
      await expectHealthy(next);
    },
  };
}
