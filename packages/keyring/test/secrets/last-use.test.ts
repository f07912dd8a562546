import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase } from '../engine/support/intercept.ts';
import { clearProjects, retire } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
let projectId: string;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  await keyring.secrets.put(projectId, 'A', 'a');
});
afterAll(() => installation.end());

const versions = () => keyring.keys.list({ projectId });
const ago = (interval: string): Promise<unknown> =>
  installation.behindTheFence(`update keyring.key_usage set last_used_at = now() - interval '${interval}'`);

/** Another process, until it ends. */
async function meanwhile(work: (other: Keyring) => Promise<unknown>): Promise<void> {
  const other = await installation.open();
  await work(other);
  await other.close();
}

async function hoursSinceUse(): Promise<number[]> {
  return (await versions()).map(({ lastUsedAt }) =>
    Math.round((Date.now() - (lastUsedAt?.getTime() ?? 0)) / 3_600_000),
  );
}

test('a version says when it was last used: to encrypt, and to open a value', async () => {
  expect(await hoursSinceUse()).toEqual([0]);
  await ago('5 hours');
  expect(await hoursSinceUse()).toEqual([5]);
  await meanwhile((other) => other.secrets.list(projectId));
  expect(await hoursSinceUse()).toEqual([5]);
  await meanwhile((other) => other.secrets.get(projectId, 'A'));
  expect(await hoursSinceUse()).toEqual([0]);
  await ago('5 hours');
  await meanwhile((other) => other.secrets.reveal(projectId, 'A', { reason: 'a look' }));
  expect(await hoursSinceUse()).toEqual([0]);
});

test('a put is a use, also where nothing has to be reserved for it', async () => {
  const other = await installation.open();
  await other.secrets.put(projectId, 'B', 'b');
  await ago('5 hours');
  await other.close();
  expect(await hoursSinceUse()).toEqual([0]);
});

test('a rotation is no use of the version that it comes from, and a read of what was restored is', async () => {
  const [before] = await installation.sql<{ envelope: Buffer; key: string }>(
    `select value_encrypted as envelope, encryption_key_id as key from public.secrets where key = 'A'`,
  );
  await ago('30 hours');
  await retire(installation, keyring, { id: projectId });
  expect(await hoursSinceUse()).toEqual([30, 0]);
  await meanwhile((other) => other.secrets.get(projectId, 'A'));
  expect(await hoursSinceUse()).toEqual([30, 0]);

  await installation.behindTheFence(
    `update public.secrets set value_encrypted = $1, encryption_key_id = $2 where key = 'A'`,
    [before?.envelope, before?.key],
  );
  await meanwhile((other) => other.secrets.get(projectId, 'A'));
  expect(await hoursSinceUse()).toEqual([0, 0]);
});

test('uses are written together, once an hour for each version, and again when they could not be', async () => {
  let written = 0;
  let refused = true;
  const other = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send, cut }) => {
        if (!statement.text.includes(`interval '30 minutes'`)) return send();
        written += 1;
        if (!refused) return send();
        cut();
        throw new Error('gone');
      }),
  });
  await ago('5 hours');
  for (let reads = 0; reads < 50; reads++) await other.secrets.get(projectId, 'A');
  expect(written).toBe(0);
  await other.close();
  expect(written).toBe(1);
  expect(await hoursSinceUse()).toEqual([5]);

  refused = false;
  await meanwhile((one) => one.secrets.get(projectId, 'A'));
  expect(await hoursSinceUse()).toEqual([0]);
});

test('of a project that is gone by then, nothing is written and nothing fails', async () => {
  const other = await installation.open();
  await other.secrets.get(projectId, 'A');
  await installation.sql('delete from public.projects where id = $1', [projectId]);
  await other.close();
  expect(await installation.sql('select from keyring.key_usage where project_id = $1', [projectId])).toEqual([]);
});

test('the time of a use never goes back', async () => {
  for (const change of [`last_used_at - interval '1 hour'`, 'null']) {
    await expect(installation.sql(`update keyring.key_usage set last_used_at = ${change}`)).rejects.toMatchObject({
      code: 'MK005',
    });
  }
});
