import type { Keyring } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { Fault, FaultScenario, FaultWay } from './faults.ts';
import type { Installation } from './installation.ts';
import { interceptDatabase } from './intercept.ts';
import { madeOnce } from './snapshot.ts';
import {
  addStagedVersions,
  clearUpperRotations,
  forgetInstances,
  keysByWrappingVersion,
  primaryWrappingKey,
} from './upper-keys.ts';
import {
  auditSince,
  clearProjects,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './world.ts';

interface WrappingWorld {
  readonly project: KnownProject;
  /** Keys of either kind that have their bytes. */
  readonly keys: number;
  readonly before: { readonly id: string };
  readonly audited: string;
}

// A heap block of data keys to a statement, and no patience, so that a lost connection is told at once.
const impatient = { sweepBatchSize: 1, lockPatienceMs: 0 };

// More than two heap blocks hold.
const VERSIONS = 60;

/** A project that has been rotated (so that there is a signing key), with a suspended and a destroyed version, and many more. */
async function prepareKeys(installation: Installation, keyring: Keyring): Promise<Omit<WrappingWorld, 'audited'>> {
  await clearProjects(installation);
  await clearUpperRotations(installation);
  const project = await makeProject(installation, keyring, { secrets: 2 });
  await installation.sql(`insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [
    project.id,
  ]);
  const rotating = await installation.open();
  for (let count = 0; count < 2; count++) {
    await rotating.rotations.run((await rotating.rotations.request({ projects: [project.id] })).id);
  }
  const [first, second] = await keyring.keys.list({ projectId: project.id });
  await keyring.keys.destroy(first?.id ?? '', { reason: 'test' });
  await keyring.keys.disable(second?.id ?? '', { reason: 'test' });
  await addStagedVersions(installation, project.id, VERSIONS);
  await tidy(installation);
  await forgetInstances(installation);
  return {
    project,
    // A signing key, the suspended version and the primary.
    keys: VERSIONS + 3,
    before: await primaryWrappingKey(installation, installation.rootKey),
  };
}

/** What earlier points left behind would make more blocks, and more statements, of it. */
async function tidy({ sql }: Installation): Promise<void> {
  await sql('vacuum full keyring.encryption_keys');
}

/** A next wrapping key: made, waited for, promoted, everything wrapped anew and read back. */
export function wrappingScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<WrappingWorld> {
  return {
    plans,
    prepare: madeOnce(installation, () => prepareKeys(installation, keyring), tidy),
    async act(_world, fault) {
      const struck = await installation.open({ ...impatient, wrap: (database) => fault.wrap(database) });
      fault.arm();
      const { id } = await struck.wrappingKeys.request({ reason: 'test' });
      await struck.wrappingKeys.run(id);
    },
    async recover({ project, keys, before, audited }, fault) {
      await forgetInstances(installation);
      const next = await installation.open();
      const [found] = await next.wrappingKeys.rotations();
      const { id } = found ?? (await next.wrappingKeys.request({ reason: 'test' }));
      expect((await next.wrappingKeys.run(id)).state).toBe('completed');

      const [rotation, ...others] = await next.wrappingKeys.rotations();
      expect(others).toEqual([]);
      expect(rotation).toMatchObject({ fromKeyId: before.id, keys: { total: keys, moved: keys, verified: keys } });
      await expectAllUnder(installation, rotation?.toKeyId, keys);
      expect(await next.wrappingKeys.list()).toMatchObject([
        { id: rotation?.toKeyId, active: true, state: 'enabled', keys },
        { id: before.id, active: false, state: 'disabled', keys: 0 },
      ]);
      expect(await auditSince(installation, audited)).toEqual({
        'wrapping_key.rotation_requested': 1,
        'wrapping_key.created': 1,
        'wrapping_key.rotation_prepared': 1,
        'wrapping_key.promoted': 1,
        'wrapping_key.rewrapped': 1,
        'wrapping_key.rotation_completed': 1,
      });
      await expectKeysUsable(installation, project, fault);
    },
  };
}

/** The same, by a process that has patience: it meets the fault, goes on by itself, and nobody has to come after it. */
export function healingWrappingScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<WrappingWorld> {
  return {
    ...wrappingScenario(installation, keyring, plans),
    plans: plans.filter((plan) => plan.then === 'the process goes on'),
    async act(_world, fault) {
      const struck = await installation.open({
        ...impatient,
        lockPatienceMs: 10_000,
        wrap: (database) => fault.wrap(database),
      });
      const { id } = await struck.wrappingKeys.request();
      fault.arm();
      expect((await struck.wrappingKeys.run(id)).state).toBe('completed');
    },
  };
}

interface TurnedWorld extends WrappingWorld {
  readonly rotationId: string;
}

/** Turn back a rotation that stopped in the middle: the pointer moved, some of the keys wrapped anew. */
export function wrappingRollbackScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<TurnedWorld> {
  return {
    plans,
    prepare: madeOnce(
      installation,
      async () => {
        const world = await prepareKeys(installation, keyring);
        const rotationId = await stopInTheMiddle(installation);
        const under = await keysByWrappingVersion(installation);
        expect(Object.keys(under)).toHaveLength(2);
        return { ...world, rotationId };
      },
      tidy,
    ),
    async act({ rotationId }, fault) {
      const struck = await installation.open({ ...impatient, wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.wrappingKeys.rollback(rotationId);
      await struck.wrappingKeys.run(rotationId);
    },
    async recover({ project, keys, before, rotationId, audited }, fault) {
      await forgetInstances(installation);
      const next = await installation.open();
      const found = await next.wrappingKeys.get(rotationId);
      if (found?.state !== 'rolled_back') await next.wrappingKeys.rollback(rotationId);
      const rotation = await next.wrappingKeys.run(rotationId);
      expect(rotation).toMatchObject({ state: 'rolled_back', keys: { verified: keys } });
      await expectAllUnder(installation, before.id, keys);
      expect(await next.wrappingKeys.list()).toMatchObject([
        { id: rotation.toKeyId, active: false, state: 'disabled', keys: 0 },
        { id: before.id, active: true, state: 'enabled', keys },
      ]);
      expect(await auditSince(installation, audited)).toEqual({
        'wrapping_key.rolled_back': 1,
        'wrapping_key.rotation_rolled_back': 1,
      });
      await expectKeysUsable(installation, project, fault);
    },
  };
}

/** Runs a rotation until the first batch has moved, and leaves it there. */
export async function stopInTheMiddle(installation: Installation): Promise<string> {
  const stop = new AbortController();
  const stopping = await installation.open({
    ...impatient,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        if (statement.text.includes('update keyring.encryption_keys k set wrapped_key')) stop.abort();
        return answer;
      }),
  });
  const { id } = await stopping.wrappingKeys.request({ reason: 'test' });
  expect(await codeOf(stopping.wrappingKeys.run(id, { signal: stop.signal }))).toBe('interrupted');
  await forgetInstances(installation);
  return id;
}

/** Cancel a rotation that waits for somebody who cannot follow. */
export function wrappingCancelScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<TurnedWorld> {
  return {
    plans,
    prepare: madeOnce(
      installation,
      async () => {
        const world = await prepareKeys(installation, keyring);
        await installation.open();
        const waiting = await installation.open();
        const { id } = await waiting.wrappingKeys.request();
        expect((await waiting.wrappingKeys.run(id, { whenLagging: 'leave' })).state).toBe('prepared');
        await forgetInstances(installation);
        return { ...world, rotationId: id };
      },
      tidy,
    ),
    async act({ rotationId }, fault) {
      const struck = await installation.open({ ...impatient, wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.wrappingKeys.cancel(rotationId);
    },
    async recover({ project, keys, before, rotationId, audited }, fault) {
      await forgetInstances(installation);
      const next = await installation.open();
      const found = await next.wrappingKeys.get(rotationId);
      if (found?.state !== 'canceled') await next.wrappingKeys.cancel(rotationId);
      expect((await next.wrappingKeys.run(rotationId)).state).toBe('canceled');
      await expectAllUnder(installation, before.id, keys);
      expect(await next.wrappingKeys.list()).toMatchObject([
        { active: false, state: 'disabled', keys: 0 },
        { id: before.id, active: true, state: 'enabled', keys },
      ]);
      expect(await auditSince(installation, audited)).toEqual({ 'wrapping_key.rotation_canceled': 1 });
      await expectKeysUsable(installation, project, fault);
    },
  };
}

export async function expectAllUnder(
  installation: Installation,
  wrappingKeyId: string | undefined,
  keys: number,
): Promise<void> {
  const [primary] = await installation.sql<{ id: string; version: number }>(
    `select w.id, w.version from keyring.installation i join keyring.wrapping_keys w on w.id = i.wrapping_key_id`,
  );
  expect(primary?.id).toBe(wrappingKeyId);
  expect(await keysByWrappingVersion(installation)).toEqual({ [String(primary?.version)]: keys });
}

/**
 * By a process that holds nothing from before: every value, the suspended version once it is restored, and a first version of
 * another project; where nothing was struck, the next version of this one, too.
 */
async function expectKeysUsable(installation: Installation, project: KnownProject, { struck }: Fault): Promise<void> {
  const fresh = await installation.open();
  await expectEverySecretFresh(installation, fresh, [project]);
  const suspended = (await fresh.keys.list({ projectId: project.id })).find(({ status }) => status === 'suspended');
  await fresh.keys.restore(suspended?.id ?? '', { reason: 'test' });
  const other = await makeProject(installation, fresh, { secrets: 1 });
  if (struck === undefined) {
    const { id } = await fresh.rotations.request({ projects: [project.id] });
    expect((await fresh.rotations.run(id)).state).toBe('completed');
  }
  await expectEverySecretFresh(installation, fresh, [project, other]);
  await expectHealthy(fresh);
}
