/**
 * The provider is away, slow or another one: a process that starts says so, one that runs does not notice (invariant 12).
 */
import { randomUUID } from 'node:crypto';
import { openKeyring, openRootKey, type Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { rejected } from '../support/thrown.ts';
import { expectNoSecrets } from './contract.ts';
import { patience } from './remote-contract.ts';
import { leastPolicy, newKey, startTransitServer, type TransitServer } from './support/transit-server.ts';

const token = 'hvs.a-token-of-the-tests-that-opens-nothing-anywhere';
let server: TransitServer;
let database: TestDatabase;
let rootKey: string;

beforeEach(async () => {
  database = await createTestDatabase();
  server = await startTransitServer();
  server.mounts.set('transit', { uuid: randomUUID(), type: 'transit' });
  server.keys.set('transit/root', newKey());
  server.tokens.set(token, leastPolicy('transit', 'root'));
  rootKey = `hashivault://127.0.0.1:${String(server.port)}/transit/root?tls=off`;
});
afterEach(async () => {
  await server.stop().catch(() => undefined);
  // Fails when a connection is left: a keyring that could not open has closed its own.
  await database.drop();
});

const open = (): Promise<Keyring> =>
  openKeyring({ database: database.serviceUrl, rootKey, env: { VAULT_TOKEN: token }, actor: 'test' });

test('down at the start: it is tried four times, then told, with the remedy; the next start works', async () => {
  await server.stop();
  const error = await rejected(open());
  expect(error).toMatchObject({
    ...{ code: 'root_key_unreachable', details: { attempts: 4, failure: 'network' } },
    ...{ message: expect.stringContaining(rootKey), remedy: expect.stringContaining('network') },
  });
  expectNoSecrets([token], error);
  await server.start();
  await (await open()).close();
});

test('back within the attempts: the start waits for it', async () => {
  await (await open()).close();
  server.misbehave('failing', 3);
  await (await open()).close();
  expect(server.misbehaved()).toBe(3);
});

test('slow at the start: the attempt that is not answered is left behind', async () => {
  const remote = { ...patience, attemptTimeoutMs: 1_000 };
  server.misbehave('silent', 1);
  const provider = await openRootKey(rootKey, { cwd: '/', env: { VAULT_TOKEN: token }, remote });
  server.misbehave('silent', 1);
  await (await openKeyring({ database: database.serviceUrl, rootKey: provider })).close();
  expect(server.misbehaved()).toBe(1);
});

test('another key under the same name at the start: it is told, and no wrapping key is made for it', async () => {
  await (await open()).close();
  const former = server.keys.get('transit/root') ?? newKey();
  server.keys.set('transit/root', newKey());
  expect(await rejected(open())).toMatchObject({
    ...{ code: 'decryption_failed', message: expect.stringContaining(rootKey) },
    remedy: expect.stringContaining('another key under that name'),
  });
  server.keys.set('transit/root', former);
  await (await open()).close();
});

test('down while running: secrets, new projects, a rotation and an emergency go on; only a new process cannot start', async () => {
  const keyring = await open();
  try {
    const before = await keyring.projects.create({ name: 'before' });
    await keyring.secrets.put(before.id, 'A', 'value A');
    await server.stop();
    server.requests.length = 0;

    expect((await keyring.secrets.get(before.id, 'A'))?.value.toString()).toBe('value A');
    await keyring.secrets.put(before.id, 'B', 'value B');
    const during = await keyring.projects.create({ name: 'during' });
    await keyring.secrets.put(during.id, 'C', 'value C');

    const rotation = await keyring.rotations.request({ projects: [before.id, during.id], reason: 'outage' });
    expect((await keyring.rotations.run(rotation.id)).state).toBe('completed');

    const leaked = (await keyring.keys.list({ projectId: before.id })).find(({ active }) => active)?.id ?? '';
    const emergency = await keyring.rotations.compromise(leaked, { reason: 'outage' });
    expect((await keyring.rotations.run(emergency.rotation?.id ?? '')).state).toBe('completed');

    for (const [project, name] of [
      [before.id, 'A'],
      [before.id, 'B'],
      [during.id, 'C'],
    ] as const) {
      expect(await keyring.secrets.get(project, name)).toMatchObject({ stale: false });
      expect((await keyring.secrets.get(project, name))?.value.toString()).toBe(`value ${name}`);
    }

    expect(await rejected(open())).toMatchObject({ code: 'root_key_unreachable' });
    expect(server.requests).toEqual([]);

    await server.start();
    const later = await open();
    expect((await later.secrets.get(before.id, 'B'))?.value.toString()).toBe('value B');
    await later.close();
  } finally {
    await keyring.close();
  }
});
