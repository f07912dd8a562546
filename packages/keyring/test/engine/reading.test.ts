import type { Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { makeProject, type KnownProject } from './support/world.ts';

let installation: Installation;
let service: Keyring;
let project: KnownProject;
beforeEach(async () => {
  installation = await startInstallation();
  service = await installation.open();
  project = await makeProject(installation, service, { secrets: 1 });
  await installation.sql(`update keyring.rotation_policies set retention = '0'`);
});
afterEach(() => installation.end());

/** A reader that is held up between the row and its key, for as long as `meanwhile` takes. */
function slowReader(meanwhile: () => Promise<void>): Promise<Keyring> {
  let met = false;
  return installation.open({
    keyCacheMs: 0,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.name === 'encryption_key_select' && !met) {
          met = true;
          await meanwhile();
        }
        return send();
      }),
  });
}

async function rotateAndDestroy(): Promise<void> {
  const [old] = await service.keys.list({ projectId: project.id });
  const { id } = await service.rotations.request({ projects: [project.id] });
  expect((await service.rotations.run(id)).state).toBe('completed');
  await service.keys.destroy(old?.id ?? '', { reason: 'retired' });
}

test('a get whose version is destroyed between its two reads finds the row where it has moved', async () => {
  const reader = await slowReader(rotateAndDestroy);
  const secret = await reader.secrets.get(project.id, 'SECRET_1');
  expect(secret?.value).toBe(project.secrets.get('SECRET_1'));
  expect(secret?.stale).toBe(false);
});

test('a get whose secret is removed between its two reads finds none', async () => {
  const reader = await slowReader(async () => {
    await service.secrets.remove(project.id, 'SECRET_1');
    await rotateAndDestroy();
  });
  expect(await reader.secrets.get(project.id, 'SECRET_1')).toBeUndefined();
});

test('a rotation that is paused just before it is driven leaves no lease behind', async () => {
  const { id } = await service.rotations.request({ projects: [project.id] });
  const runner = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('set runner = $2')) await service.rotations.pause(id);
        return send();
      }),
  });
  expect((await runner.rotations.run(id)).state).toBe('paused');
  await service.rotations.resume(id);
  expect(await service.rotations.waiting()).toEqual([id]);
});
