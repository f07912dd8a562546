import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, openRootKey, pgDatabase, type Keyring, type RootKeyProvider } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { wrappingKeyAad } from '../../src/envelope/aad.ts';
import { insecureExportKey } from '../../src/secret-bytes.ts';
import { memoryRootKey, startInstallation, type Installation } from './support/installation.ts';
import { connectionLost, interceptDatabase } from './support/intercept.ts';
import { flakyRootKey, addWrappingKey, primaryWrappingKey, rewrapBehindTheFence } from './support/upper-keys.ts';
import { codeOf, makeProject } from './support/world.ts';

const root = flakyRootKey();
const opened: Keyring[] = [];
let installation: Installation;
let folder: string;
beforeEach(async () => {
  Object.assign(root, { down: false, slowMs: 0 });
  installation = await startInstallation({ rootKey: root });
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-instances-'));
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((keyring) => keyring.close()));
  await installation.end();
  await rm(folder, { recursive: true });
});

/** Closed at the end of the test, so that no heartbeat goes on. */
async function open(options: Parameters<Installation['open']>[0] = {}): Promise<Keyring> {
  const keyring = await installation.open({ heartbeatMs: 50, ...options });
  opened.push(keyring);
  return keyring;
}

const fingerprintOf = async (provider: { status(): Promise<{ fingerprint: string }> }): Promise<string> =>
  (await provider.status()).fingerprint;

test('a process is in the list with what it can use, from its opening to its end', async () => {
  const keyring = await open({ actor: 'first' });
  const other = await installation.open({ actor: 'second' });
  const { id: wrappingKey } = await primaryWrappingKey(installation, root);
  const listed = await keyring.instances.list();
  expect(listed).toMatchObject([
    { actor: 'first', pid: process.pid, version: '0.1.0', alive: true, troubles: [] },
    { actor: 'second', alive: true, usableRoots: [await fingerprintOf(root)], wrappingKeys: [wrappingKey] },
  ]);
  await other.close();
  expect((await keyring.instances.list()).map(({ actor }) => actor)).toEqual(['first']);
});

test('a process that falls silent is shown so after fifteen seconds, and forgotten after an hour', async () => {
  const keyring = await open({ actor: 'alive' });
  await installation.open({ actor: 'silent' });
  const age = (interval: string): Promise<unknown> =>
    installation.sql(`update keyring.instances set seen_at = now() - $1::interval where actor = 'silent'`, [interval]);
  const states = async (): Promise<Record<string, boolean>> =>
    Object.fromEntries((await keyring.instances.list()).map(({ actor, alive }) => [actor, alive]));
  // Of one of fourteen seconds ago that is so for one second more: again, until the machine is quick enough to see it.
  await expect
    .poll(async () => {
      await age('14 seconds');
      return states();
    })
    .toEqual({ alive: true, silent: true });
  await age('16 seconds');
  expect(await states()).toEqual({ alive: true, silent: false });
  await age('61 minutes');
  await expect.poll(states).toEqual({ alive: true });
});

test('heartbeats that fail are no failure of the process, and it is back in the list after them', async () => {
  let broken = false;
  let failed = 0;
  const keyring = await open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send, cut }) => {
        if (!broken || !statement.text.includes('keyring.instances')) return send();
        failed += 1;
        cut();
        throw connectionLost();
      }),
  });
  const project = await makeProject(installation, keyring, { secrets: 1 });
  broken = true;
  await expect.poll(() => failed).toBeGreaterThan(2);
  expect((await keyring.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
  await installation.sql('delete from keyring.instances');
  broken = false;
  await expect.poll(async () => (await keyring.instances.list()).length).toBe(1);
});

test('a database that takes no entry, as a replica, is used all the same', async () => {
  const project = await makeProject(installation, await installation.open(), { secrets: 1 });
  const url = new URL(installation.test.serviceUrl);
  url.searchParams.set('options', '-c default_transaction_read_only=on');
  const readOnly = pgDatabase({ connectionString: url.href });
  const keyring = await open({ wrap: () => readOnly });
  expect((await keyring.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
  expect(await keyring.instances.list()).toHaveLength(1);
});

test('of several root keys any one that opens the wrapping keys will do; the others are reported', async () => {
  const project = await makeProject(installation, await installation.open(), { secrets: 1 });
  const missing = `file:${path.join(folder, 'none.key')}`;
  for (const rootKey of [
    [missing, root],
    [root, missing],
    [memoryRootKey(), root],
  ]) {
    const keyring = await open({ rootKey, actor: 'several' });
    expect((await keyring.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
    const self = (await keyring.instances.list()).find(({ actor }) => actor === 'several');
    expect(self?.usableRoots).toEqual([await fingerprintOf(root)]);
    expect(self?.troubles).toEqual(
      (rootKey as readonly unknown[]).includes(missing) ? [`${missing}: root_key_missing`] : [],
    );
    await keyring.close();
  }
});

test('when none of several opens them, the error names the one that is wanted, and those that could not be looked at', async () => {
  await installation.open();
  const missing = `file:${path.join(folder, 'none.key')}`;
  await expect(installation.open({ rootKey: [memoryRootKey(), missing] })).rejects.toMatchObject({
    code: 'wrong_root_key',
    message: expect.stringContaining('none.key') as string,
    remedy: expect.stringContaining(`${await fingerprintOf(root)} (memory:flaky)`) as string,
  });
  expect(await codeOf(installation.open({ rootKey: [missing, missing] }))).toBe('root_key_missing');
  root.down = true;
  expect(await codeOf(installation.open({ rootKey: [memoryRootKey(), root] }))).toBe('root_key_unreachable');
  expect(await codeOf(installation.open())).toBe('root_key_unreachable');
});

test('a new installation is under the root key that is named first, or not made', async () => {
  const missing = `file:${path.join(folder, 'root.key')}`;
  expect(await codeOf(installation.open({ rootKey: [missing, root] }))).toBe('root_key_missing');
  expect(await installation.sql('select 1 from keyring.wrapping_keys')).toEqual([]);
  const { fingerprint } = await createRootKeyFile(missing);
  await open({ rootKey: [missing, root] });
  expect(await installation.sql('select fingerprint from keyring.root_keys')).toEqual([{ fingerprint }]);
});

test('where the database says that a root key is, is never looked at', async () => {
  const file = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(file);
  await installation.open({ rootKey: file });
  await installation.sql('update keyring.root_keys set uri = $1', [file]);
  expect(await codeOf(installation.open({ rootKey: root }))).toBe('wrong_root_key');
});

test('a root key that could not be used at the start is used as soon as it can be', async () => {
  const file = `file:${path.join(folder, 'next.key')}`;
  const keyring = await open({ rootKey: [root, file] });
  const own = async () => (await keyring.instances.list())[0];
  expect((await own())?.troubles).toEqual([`${file}: root_key_missing`]);
  await createRootKeyFile(file);
  const next = await openRootKey(file, { cwd: '/' });
  await expect.poll(async () => (await own())?.troubles).toEqual([]);
  expect((await own())?.usableRoots).toEqual([await fingerprintOf(root)]);

  // Nothing was under it, so nobody could say. Now the wrapping key is.
  const { id, key } = await primaryWrappingKey(installation, root);
  await wrapUnder(next, id, key);
  await expect
    .poll(async () => (await own())?.usableRoots)
    .toEqual([await fingerprintOf(root), await fingerprintOf(next)]);
});

async function wrapUnder(
  next: Awaited<ReturnType<typeof openRootKey>>,
  ...[id, key]: [string, Parameters<typeof insecureExportKey>[0]]
): Promise<void> {
  const { wrapped, fingerprint } = await next.wrap(
    insecureExportKey(key),
    wrappingKeyAad({ version: 1, wrappingKeyId: id }),
  );
  await installation.sql('insert into keyring.root_keys (uri, fingerprint) values ($1, $2)', [next.uri, fingerprint]);
  await installation.sql(
    `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
     select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3`,
    [id, wrapped, fingerprint],
  );
}

/** A copy by a root key in memory, which is not asked through its silence. Gives its fingerprint. */
async function memoryCopy(
  next: ReturnType<typeof flakyRootKey>,
  ...[id, key]: [string, Parameters<typeof insecureExportKey>[0]]
): Promise<string> {
  const { silence } = next;
  next.silence = Promise.resolve();
  const wrapping = next.wrap(insecureExportKey(key), wrappingKeyAad({ version: 1, wrappingKeyId: id }));
  next.silence = silence;
  const { wrapped, fingerprint } = await wrapping;
  await installation.sql('insert into keyring.root_keys (uri, fingerprint) values ($1, $2)', [next.uri, fingerprint]);
  await installation.sql(
    `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
     select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3`,
    [id, wrapped, fingerprint],
  );
  return fingerprint;
}

test('a heartbeat loads a wrapping key that is new, and asks the provider only then', async () => {
  const keyring = await open();
  await expect.poll(async () => (await keyring.instances.list()).length).toBe(1);
  const before = root.asked;
  const { id } = await addWrappingKey(installation, root);
  await expect.poll(async () => (await keyring.instances.list())[0]?.wrappingKeys).toContain(id);
  const [seen] = await keyring.instances.list();
  await expect
    .poll(async () => (await keyring.instances.list())[0]?.seenAt.getTime())
    .toBeGreaterThan((seen?.seenAt.getTime() ?? 0) + 100);
  // One to wrap it, by the test; one to unwrap it.
  expect(root.asked - before).toBe(2);
});

test('a provider that is down is asked now and then, not at every heartbeat', async () => {
  let beats = 0;
  await open({
    wrap: (database) =>
      interceptDatabase(database, ({ statement, send }) => {
        if (statement.text.includes('insert into keyring.instances')) beats += 1;
        return send();
      }),
  });
  await addWrappingKey(installation, root);
  root.down = true;
  const [asked, from, began] = [root.asked, beats, performance.now()];
  await expect.poll(() => beats - from).toBeGreaterThan(20);
  expect(root.asked - asked).toBeGreaterThan(0);
  // Once a second, however few heartbeats a busy machine has in one.
  expect(root.asked - asked).toBeLessThanOrEqual(1 + (performance.now() - began) / 1_000);
});

test('a process whose other root key does not answer stays alive in the list, and makes keys meanwhile', async () => {
  const next = flakyRootKey('memory:next');
  const silence = Promise.withResolvers<undefined>();
  const keyring = await open({ rootKey: [root, next] });
  const self = async () => (await keyring.instances.list())[0];
  next.silence = silence.promise;
  try {
    const { id, key } = await primaryWrappingKey(installation, root);
    const asked = next.asked;
    const copy = await memoryCopy(next, id, key);
    await expect.poll(() => next.asked).toBeGreaterThan(asked);
    const seen = (await self())?.seenAt.getTime() ?? 0;
    // Fifteen seconds of this, and a rotation of the root key would no longer wait for it.
    await expect.poll(async () => (await self())?.seenAt.getTime()).toBeGreaterThan(seen + 200);
    expect((await self())?.usableRoots).toEqual([await fingerprintOf(root)]);
    const project = await makeProject(installation, keyring, { secrets: 1 });
    expect(project.secrets.size).toBe(1);
    silence.resolve(undefined);
    await expect.poll(async () => (await self())?.usableRoots).toContain(copy);
  } finally {
    silence.resolve(undefined);
  }
});

test('a root key that is slow to open, once it was not there, holds nobody up', async () => {
  const next = flakyRootKey('memory:next');
  const silence = Promise.withResolvers<never>();
  let asked = 0;
  const slowToOpen: RootKeyProvider = {
    ...next,
    status: () => (++asked === 1 ? Promise.reject(new Error('not there')) : silence.promise),
  };
  const keyring = await open({ rootKey: [root, slowToOpen] });
  try {
    await expect.poll(() => asked).toBe(2);
    expect((await makeProject(installation, keyring, { secrets: 1 })).secrets.size).toBe(1);
    const { id } = await addWrappingKey(installation, root);
    await installation.sql('update keyring.installation set wrapping_key_id = $1', [id]);
    expect((await makeProject(installation, keyring, { secrets: 1 })).secrets.size).toBe(1);
  } finally {
    silence.reject(new Error('still not there'));
  }
});

test('a wrapping key that another process destroyed is let go of at the next heartbeat', async () => {
  const keyring = await open();
  const { id } = await addWrappingKey(installation, root);
  const held = async () => (await keyring.instances.list())[0]?.wrappingKeys;
  await expect.poll(held).toContain(id);
  await (await installation.open()).wrappingKeys.destroy(id, { reason: 'test' });
  await expect.poll(held).not.toContain(id);
  expect(await held()).toHaveLength(1);
});

test('a data key that another process wrapped anew is opened by loading its wrapping key, once for all who ask', async () => {
  const writer = await installation.open();
  const reader = await installation.open({ keyCacheMs: 0 });
  const lucky = await installation.open({ keyCacheMs: 0 });
  const project = await makeProject(installation, writer, { secrets: 5 });
  const from = await primaryWrappingKey(installation, root);
  const to = await addWrappingKey(installation, root);
  await rewrapBehindTheFence(installation, project.id, from, to);

  root.slowMs = 20;
  const before = root.asked;
  const names = [...project.secrets.keys()];
  const values = await Promise.all(names.map(async (name) => (await lucky.secrets.get(project.id, name))?.value));
  expect(values).toEqual([...project.secrets.values()]);
  expect(root.asked - before).toBe(1);

  root.down = true;
  const get = (name: string) => reader.secrets.get(project.id, name);
  const asked = root.asked;
  // For a second everybody is told the same; on a busy machine it would be over before all of them have asked.
  const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now());
  onTestFinished(() => clock.mockRestore());
  const refusals = await Promise.all(names.map((name) => codeOf(get(name))));
  expect(new Set(refusals)).toEqual(new Set(['root_key_unreachable']));
  expect(await codeOf(get('SECRET_1'))).toBe('root_key_unreachable');
  expect(root.asked - asked).toBe(1);

  clock.mockRestore();
  root.down = false;
  await expect.poll(() => codeOf(get('SECRET_1'))).toBe('nothing');
  const after = root.asked;
  for (const [name, value] of project.secrets) expect((await get(name))?.value).toBe(value);
  expect(root.asked).toBe(after);
});
