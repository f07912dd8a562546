import { afterEach, beforeEach, expect, test } from 'vitest';
import { runChaos } from './support/chaos.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { expectEverySecretFresh, expectHealthy, makeProject } from './support/world.ts';

let installation: Installation;
beforeEach(async () => {
  installation = await startInstallation();
});
afterEach(() => installation.end());

/** As an application does it: again, when PostgreSQL chose it as the one to give up in a deadlock. */
async function deleteProject(id: string): Promise<void> {
  for (;;) {
    const state = await installation.sql('delete from public.projects where id = $1', [id]).then(
      () => 'deleted',
      (error: unknown) => (error as { code: string }).code,
    );
    if (state === 'deleted') return;
    expect(state).toBe('40P01');
  }
}

test('eight writers and eight readers lose nothing and never fail while rotations come, pause and turn back', async () => {
  console.log(await runChaos(installation, { seed: 20261123, operations: 250 }));
});

test('a value that changes between the sweep’s read and its write stays as it was changed', async () => {
  const service = await installation.open();
  const project = await makeProject(installation, service, { secrets: 4 });
  let changed = 0;
  const rotator = await installation.open({
    sweepBatchSize: 1,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('keyring.move_')) {
          const ids = statement.values?.[2] as string;
          for (const { id, name } of await service.secrets.list(project.id)) {
            if (!ids.includes(id) || name === 'SECRET_4') continue;
            if (name === 'SECRET_3') {
              await service.secrets.remove(project.id, name);
              project.secrets.delete(name);
            } else {
              project.secrets.set(name, `changed ${name}`);
              await service.secrets.put(project.id, name, `changed ${name}`);
            }
            changed += 1;
          }
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: [project.id] });
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  expect(changed).toBe(3);
  await expectEverySecretFresh(installation, service, [project]);
  await expectHealthy(service);
});

test('a version that comes back under the same row does not let an older read win', async () => {
  // Key ids alone do not tell: between read and write the row goes to the new version and, by a rollback, back again.
  const service = await installation.open();
  const project = await makeProject(installation, service, { secrets: 1 });
  const [first] = await service.keys.list({ projectId: project.id });
  let turned = false;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!turned && statement.text.includes('keyring.move_')) {
          turned = true;
          const [open] = await service.rotations.list({ limit: 1 });
          await service.secrets.put(project.id, 'SECRET_1', 'under the new version');
          await service.rotations.rollback(open?.id ?? '');
          await installation.sql(`update keyring.rotations set runner_until = now() - interval '1 second'`);
          expect((await service.rotations.run(open?.id ?? '')).state).toBe('rolled_back');
          expect((await service.secrets.get(project.id, 'SECRET_1'))?.keyId).toBe(first?.id);
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: [project.id] });
  expect((await rotator.rotations.run(id)).state).toBe('rolled_back');
  project.secrets.set('SECRET_1', 'under the new version');
  await expectEverySecretFresh(installation, service, [project]);
  await expectHealthy(service);
});

test.each(['together', 'alone'] as const)(
  'a project that is deleted at any statement of its rotation ends it, and the other project completes (%s)',
  async (way) => {
    let points = 0;
    for (let at = 1; ; at += 3) {
      const keyring = await installation.open();
      const staying = await makeProject(installation, keyring, { secrets: 1 });
      const leaving = await makeProject(installation, keyring, { secrets: 2 });
      let sent = Number.NEGATIVE_INFINITY;
      let deleting: Promise<unknown> | undefined;
      const rotator = await installation.open({
        sweepBatchSize: 1,
        rotationConcurrency: 1,
        rotationSetSize: way === 'together' ? 100 : 1,
        wrap: (database) =>
          interceptDatabase(database, async ({ send }) => {
            // Not waited for: it may have to wait for a transaction of the rotation itself.
            if (++sent === at) deleting = deleteProject(leaving.id);
            return send();
          }),
      });
      const { id } = await keyring.rotations.request({ projects: [staying.id, leaving.id] });
      sent = 0;
      const end = await rotator.rotations.run(id);
      await deleting;
      expect(end.state).toBe('completed');
      expect(end.projects).toMatchObject(
        end.projects.canceled === 1 ? { completed: 1, canceled: 1 } : { completed: 2 },
      );
      await expectEverySecretFresh(installation, keyring, [staying]);
      const trail = await keyring.audit.list({ projectId: leaving.id });
      expect(trail.some((entry) => entry.action === 'key.created')).toBe(true);
      if (deleting === undefined) break;
      expect(trail.filter((entry) => entry.action === 'project.deleted')).toHaveLength(1);
      points += 1;
      await installation.sql('delete from public.projects where id = $1', [staying.id]);
    }
    console.log(`deleting a project, ${way}: ${String(points)} points`);
    expect(points).toBeGreaterThan(14);
  },
);
