import type { Keyring, Rotation } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { Installation } from './installation.ts';
import { seededRandom, type Random } from './random.ts';
import { ServiceModel } from './service-model.ts';
import { codeOf, expectEverySecretFresh, expectHealthy } from './world.ts';

export interface ChaosOptions {
  readonly seed: number;
  /** Operations of each of the eight writers. */
  readonly operations: number;
}

const WRITERS = 8;
const READERS = 8;

/**
 * Eight writers and eight readers work on two projects while rotation follows rotation, some of them paused, some turned
 * back. Half of the writers are processes that learn of a promote only by being refused. Ends with a rotation in peace.
 */
export async function runChaos(installation: Installation, { seed, operations }: ChaosOptions): Promise<string> {
  const random = seededRandom(seed);
  const operator = await installation.open({ sweepBatchSize: 3 });
  const projectIds = [
    (await operator.projects.create({ name: 'first' })).id,
    (await operator.projects.create({ name: 'second' })).id,
  ];
  const names = Array.from({ length: 24 }, (_, index) => `NAME_${String(index)}`);
  const models = projectIds.map((id) => new ServiceModel(installation, id, names, random));
  for (const id of projectIds) await operator.secrets.put(id, 'UNTOUCHED', 'as it was');

  const processes: Keyring[] = [];
  for (let index = 0; index < 4; index++) processes.push(await installation.open({ keyCacheMs: 86_400_000 }));
  const some = <T>(from: readonly T[]): T => from[random(from.length)] as T;

  let writing = WRITERS;
  const writers = Array.from({ length: WRITERS }, async () => {
    for (let count = 0; count < operations; count++) await some(models).write(some(processes), some(processes));
    writing -= 1;
  });
  const readers = Array.from({ length: READERS }, async () => {
    while (writing > 0) await some(models).read(some(processes));
  });
  const rotating = rotateWhile(() => writing > 0, operator, random);
  const results = await Promise.allSettled([...writers, ...readers, rotating]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  const rotations = await rotating;

  // Everybody is done: what the model knows is what there is, before and after one more rotation.
  const last = await operator.rotations.request({ projects: 'all' });
  expect((await operator.rotations.run(last.id)).state).toBe('completed');
  const reader = await installation.open();
  const known = projectIds.map((id, index) => ({
    id,
    name: id,
    secrets: new Map([...(models[index]?.values ?? []), ['UNTOUCHED', 'as it was']]),
    webhooks: new Map<string, string>(),
  }));
  await expectEverySecretFresh(installation, reader, known);
  await expectHealthy(reader);
  return `seed ${String(seed)}: ${JSON.stringify(models.map((model) => model.counts))}, rotations ${JSON.stringify(rotations)}`;
}

const disturbances = [[], ['rollback'], ['pause'], ['pause', 'rollback'], ['rollback', 'pause']] as const;

/** One rotation after the other, disturbed in turn in every way; gives how often each end was reached. */
async function rotateWhile(wanted: () => boolean, keyring: Keyring, random: Random): Promise<Record<string, number>> {
  const ends: Record<string, number> = {};
  for (let round = 0; wanted(); round++) {
    const { id } = await keyring.rotations.request({ projects: 'all' });
    const running = keyring.rotations.run(id);
    void running.catch(() => undefined);
    for (const disturbance of disturbances[round % disturbances.length] ?? []) {
      // A number of statements of ours, so that it comes at any moment of the rotation.
      for (let steps = random(12); steps > 0; steps--) await keyring.rotations.get(id);
      const refused = await codeOf(keyring.rotations[disturbance](id));
      expect(['nothing', 'rotation_not_open']).toContain(refused);
    }
    let rotation: Rotation = await running;
    while (rotation.state === 'paused' || rotation.state === 'blocked') {
      await keyring.rotations.resume(id);
      rotation = await keyring.rotations.run(id);
    }
    ends[rotation.state] = (ends[rotation.state] ?? 0) + 1;
  }
  return ends;
}
