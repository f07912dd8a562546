import type { Keyring, RootKeyProvider } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { FaultScenario, FaultWay } from './faults.ts';
import { memoryRootKey, type Installation } from './installation.ts';
import { madeOnce } from './snapshot.ts';
import { clearUpperRotations, forgetInstances } from './upper-keys.ts';
import {
  auditSince,
  clearProjects,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './world.ts';

interface RootWorld {
  readonly project: KnownProject;
  readonly from: RootKeyProvider;
  readonly to: RootKeyProvider;
  readonly audited: string;
}

const impatient = { sweepBatchSize: 1, lockPatienceMs: 0 };

/** Where everything is after a point, which moves it on. */
export interface RootPlace {
  root: RootKeyProvider;
}

async function prepareRoots(installation: Installation, place: RootPlace): Promise<Omit<RootWorld, 'audited'>> {
  const keyring = await installation.open({ rootKey: place.root });
  await clearProjects(installation);
  await clearUpperRotations(installation);
  await installation.behindTheFence(
    'delete from keyring.root_keys where id not in (select root_key_id from keyring.wrapped_wrapping_keys)',
  );
  const project = await makeProject(installation, keyring, { secrets: 1 });
  // A second wrapping key: what is not primary moves as well.
  await forgetInstances(installation);
  const { id } = await keyring.wrappingKeys.request();
  expect((await keyring.wrappingKeys.run(id)).state).toBe('completed');
  await forgetInstances(installation);
  return { project, from: place.root, to: memoryRootKey() };
}

/** Made once, and brought back for each point, where everything is under the same root key again. */
function rootsOnce<World extends Omit<RootWorld, 'audited'>>(
  installation: Installation,
  place: RootPlace,
  make: () => Promise<World>,
): () => Promise<World & { readonly audited: string }> {
  const standing = madeOnce(installation, make);
  return async () => {
    const world = await standing();
    place.root = world.from;
    return world;
  };
}

async function expectOnly(installation: Installation, root: RootKeyProvider, project: KnownProject): Promise<void> {
  const { fingerprint } = await root.status();
  const copies = await installation.sql(
    `select w.version, r.fingerprint, r.state from keyring.wrapping_keys w
     join keyring.wrapped_wrapping_keys c on c.wrapping_key_id = w.id join keyring.root_keys r on r.id = c.root_key_id
     where w.state <> 'destroyed' order by 1`,
  );
  expect(copies.map((copy) => copy['fingerprint'])).toEqual(copies.map(() => fingerprint));
  expect(new Set(copies.map((copy) => copy['version'])).size).toBe(copies.length);
  const fresh = await installation.open({ rootKey: root });
  await expectEverySecretFresh(installation, fresh, [project]);
  await expectHealthy(fresh);
}

/** The whole move, or with `leaked` the whole job: a new root key, then a new wrapping key. */
export function rootScenario(
  installation: Installation,
  place: RootPlace,
  plans: readonly FaultWay[],
  leaked = false,
): FaultScenario<RootWorld> {
  const drive = async (keyring: Keyring, to: RootKeyProvider): Promise<void> => {
    const open = async () => (await keyring.rootKeys.rotations())[0];
    const { id } = (await open()) ?? (await keyring.rootKeys.request({ to, leaked }));
    expect((await keyring.rootKeys.run(id)).state).toBe('completed');
    if (!leaked) return;
    const [second] = await keyring.wrappingKeys.rotations();
    if (second?.leaked === true) expect((await keyring.wrappingKeys.run(second.id)).state).toBe('completed');
  };
  return {
    plans,
    prepare: rootsOnce(installation, place, () => prepareRoots(installation, place)),
    async act({ from, to }, fault) {
      const struck = await installation.open({
        ...impatient,
        rootKey: [from, to],
        wrap: (database) => fault.wrap(database),
      });
      fault.arm();
      await drive(struck, to);
    },
    async recover({ project, from, to, audited }) {
      await forgetInstances(installation);
      const next = await installation.open({ rootKey: [from, to] });
      await drive(next, to);
      place.root = to;
      await expectOnly(installation, to, project);
      expect(await auditSince(installation, audited)).toEqual({
        'root_key.rotation_requested': 1,
        'root_key.wrapped': 1,
        'root_key.rotation_prepared': 1,
        'root_key.rotation_completed': 1,
        ...(leaked
          ? {
              'root_key.compromised': 1,
              'wrapping_key.rotation_requested': 1,
              'wrapping_key.created': 1,
              'wrapping_key.rotation_prepared': 1,
              'wrapping_key.promoted': 1,
              'wrapping_key.compromised': 1,
              'wrapping_key.rewrapped': 1,
              'wrapping_key.rotation_completed': 1,
            }
          : {}),
      });
      const old = (await next.rootKeys.list()).find(({ state }) => state !== 'enabled');
      expect(old).toMatchObject({ state: leaked ? 'compromised' : 'disabled', wrappingKeys: 0 });
    },
  };
}

/** A move that is prepared, taken back. */
export function rootCancelScenario(
  installation: Installation,
  place: RootPlace,
  plans: readonly FaultWay[],
): FaultScenario<RootWorld & { readonly rotationId: string }> {
  return {
    plans,
    prepare: rootsOnce(installation, place, async () => {
      const world = await prepareRoots(installation, place);
      await installation.open({ rootKey: world.from });
      const waiting = await installation.open({ rootKey: world.from });
      const { id } = await waiting.rootKeys.request({ to: world.to });
      expect((await waiting.rootKeys.run(id, { whenLagging: 'leave' })).state).toBe('prepared');
      await forgetInstances(installation);
      return { ...world, rotationId: id };
    }),
    async act({ from, rotationId }, fault) {
      const struck = await installation.open({ ...impatient, rootKey: from, wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.rootKeys.cancel(rotationId);
    },
    async recover({ project, from, rotationId, audited }) {
      await forgetInstances(installation);
      const next = await installation.open({ rootKey: from });
      if ((await next.rootKeys.get(rotationId))?.state !== 'canceled') await next.rootKeys.cancel(rotationId);
      await expectOnly(installation, from, project);
      expect(await auditSince(installation, audited)).toEqual({ 'root_key.rotation_canceled': 1 });
    },
  };
}
