import type { Keyring } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { FaultScenario, FaultWay } from './faults.ts';
import type { Installation } from './installation.ts';
import { interceptDatabase } from './intercept.ts';
import { madeOnce } from './snapshot.ts';
import {
  auditSince,
  clearProjects,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  forgetRunners,
  makeProject,
  retire,
  type KnownProject,
} from './world.ts';

interface EmergencyWorld {
  readonly leaking: KnownProject;
  readonly other: KnownProject;
  readonly keyId: string;
  readonly openRotation: string;
  readonly audited: string;
}

/**
 * A compromise of the primary version while a rotation to it is half way through, then the emergency that moves the rows; whoever is
 * not answered asks again.
 */
export function emergencyScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<EmergencyWorld> {
  return {
    plans,
    prepare: madeOnce(installation, async () => {
      await clearProjects(installation);
      const leaking = await makeProject(installation, keyring, { secrets: 3, webhooks: 1 });
      const other = await makeProject(installation, keyring, { secrets: 1 });
      const openRotation = await halfWay(installation, [leaking, other]);
      const keys = await keyring.keys.list({ projectId: leaking.id });
      const keyId = keys.find((key) => key.active)?.id ?? '';
      return { leaking, other, keyId, openRotation };
    }),
    async act({ keyId }, fault) {
      const struck = await installation.open({
        sweepBatchSize: 1,
        rotationConcurrency: 1,
        lockPatienceMs: 0,
        wrap: (database) => fault.wrap(database),
      });
      fault.arm();
      const { rotation } = await struck.rotations.compromise(keyId, { reason: 'leaked' });
      await struck.rotations.run(rotation?.id ?? '');
    },
    async recover({ leaking, other, keyId, openRotation, audited }) {
      await forgetRunners(installation);
      const next = await installation.open();
      const { key, rotation } = await next.rotations.compromise(keyId, { reason: 'leaked' });
      expect(key.status).toBe('compromised');
      if (rotation !== undefined) expect((await next.rotations.run(rotation.id)).state).toBe('completed');
      // The rotation that was overtaken goes on for the project that leaked nothing.
      expect((await next.rotations.run(openRotation)).projects).toEqual({ total: 2, completed: 1, canceled: 1 });

      await expectEverySecretFresh(installation, next, [leaking, other]);
      const keys = await next.keys.list({ projectId: leaking.id });
      expect(keys.filter((one) => one.status === 'compromised').map((one) => one.id)).toEqual([keyId]);
      expect(keys.filter((one) => one.active)).toHaveLength(1);
      expect((await next.rotations.list()).filter((one) => one.trigger === 'compromise')).toHaveLength(1);
      expect(await auditSince(installation, audited)).toMatchObject({
        'key.compromised': 1,
        // Of the leaking project one more; and the other's, which had not begun.
        'key.promoted': 2,
        'rotation.project_overtaken': 1,
        'rotation.requested': 1,
        'rotation.project_completed': 2,
      });
      await expectHealthy(next);
    },
  };
}

/** A rotation of these, its first project promoted and its first row moved; the runner is gone. */
async function halfWay(installation: Installation, projects: readonly KnownProject[]): Promise<string> {
  const [first] = projects;
  const stop = new AbortController();
  const stopping = await installation.open({
    sweepBatchSize: 1,
    rotationConcurrency: 1,
    rotationSetSize: 1,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        if (statement.text.includes('keyring.move_')) stop.abort();
        return answer;
      }),
  });
  // The one that leaks is the first: the other is asked for by a rotation that finds it waiting.
  const { id } = await stopping.rotations.request({ projects: projects.map((project) => project.id) });
  await installation.sql(
    `update keyring.rotation_projects set state = 'blocked', error_code = 'test' where rotation_id = $1 and project_id <> $2`,
    [id, first?.id],
  );
  expect(await codeOf(stopping.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  await installation.sql(
    `update keyring.rotation_projects set state = 'requested', error_code = null where rotation_id = $1 and project_id <> $2`,
    [id, first?.id],
  );
  await forgetRunners(installation);
  return id;
}

interface SuspensionWorld {
  readonly project: KnownProject;
  readonly keyId: string;
  readonly audited: string;
}

/** A retired version suspended, and brought back within its window. */
export function suspensionScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<SuspensionWorld> {
  return {
    plans,
    prepare: madeOnce(installation, async () => {
      await clearProjects(installation);
      const project = await makeProject(installation, keyring, { secrets: 1, webhooks: 1 });
      return { project, keyId: await retire(installation, keyring, project) };
    }),
    async act({ keyId }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.keys.disable(keyId, { reason: 'test' });
      await struck.keys.restore(keyId, { reason: 'test' });
    },
    async recover({ project, keyId, audited }) {
      const next = await installation.open();
      await next.keys.disable(keyId, { reason: 'again' });
      expect((await next.keys.restore(keyId, { reason: 'again' })).status).toBe('deactivated');
      const audit = await auditSince(installation, audited);
      // Suspended once or, where that had gone through and been taken back, twice; and each has its end.
      expect(audit['key.disabled']).toBe(audit['key.restored']);
      expect(audit['key.disabled']).toBeLessThanOrEqual(2);
      expect(Object.keys(audit).sort()).toEqual(['key.disabled', 'key.restored']);
      await expectEverySecretFresh(installation, next, [project]);
      await expectHealthy(next);
    },
  };
}
