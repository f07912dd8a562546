import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, pgDatabase, type Keyring, type RootKeyProvider } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { wrappingKeyAad } from '../../src/envelope/aad.ts';
import { decryptionFailed } from '../../src/errors.ts';
import { noteForced } from '../../src/upper-keys/rotation-store.ts';
import { insecureExportKey } from '../../src/secret-bytes.ts';
import { memoryRootKey, startInstallation, type Installation, type OpenOptions } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { flakyRootKey, forgetInstances, keysByWrappingVersion, primaryWrappingKey } from './support/upper-keys.ts';
import {
  auditPosition,
  auditSince,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './support/world.ts';

const old = flakyRootKey('memory:old');
const next = flakyRootKey('memory:new');
let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
const opened: Keyring[] = [];
beforeEach(async () => {
  Object.assign(old, { down: false, slowMs: 0 });
  Object.assign(next, { down: false, slowMs: 0 });
  installation = await startInstallation({ rootKey: old });
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 2 });
  await forgetInstances(installation);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
  await installation.end();
});

async function beating(options: OpenOptions = {}): Promise<Keyring> {
  const made = await installation.open({ heartbeatMs: 50, ...options });
  opened.push(made);
  return made;
}

const fingerprintOf = async (root: RootKeyProvider): Promise<string> => (await root.status()).fingerprint;

async function moveTo(to: RootKeyProvider | string, by = keyring): Promise<string> {
  const { id } = await by.rootKeys.request({ to, reason: 'test' });
  expect((await by.rootKeys.run(id)).state).toBe('completed');
  return id;
}

/** By a process that has nothing but this root key. */
async function expectOpens(rootKey: RootKeyProvider | string): Promise<void> {
  const fresh = await installation.open({ rootKey });
  await expectEverySecretFresh(installation, fresh, [project]);
  await expectHealthy(fresh);
  await fresh.close();
}

const copies = () =>
  installation.sql<{ version: number; fingerprint: string }>(
    `select w.version, r.fingerprint from keyring.wrapped_wrapping_keys c join keyring.wrapping_keys w on w.id = c.wrapping_key_id
     join keyring.root_keys r on r.id = c.root_key_id order by 1, r.created_at`,
  );

test('everything moves to the new root key, disabled wrapping keys too; a process with the old one alone is told which', async () => {
  const { id: wrapping } = await keyring.wrappingKeys.request();
  await keyring.wrappingKeys.run(wrapping);
  const audited = await auditPosition(installation);
  const id = await moveTo(next);
  const fingerprint = await fingerprintOf(next);
  expect(await copies()).toEqual([
    { version: 1, fingerprint },
    { version: 2, fingerprint },
  ]);
  expect(await keyring.rootKeys.list()).toMatchObject([
    { uri: 'memory:new', fingerprint, state: 'enabled', wrappingKeys: 2, usableHere: true },
    { uri: 'memory:old', state: 'disabled', wrappingKeys: 0 },
  ]);
  expect(await auditSince(installation, audited)).toEqual({
    'root_key.rotation_requested': 1,
    'root_key.wrapped': 1,
    'root_key.rotation_prepared': 1,
    'root_key.rotation_completed': 1,
  });
  await expectOpens(next);
  await expect(installation.open()).rejects.toMatchObject({
    code: 'wrong_root_key',
    message: expect.stringContaining('memory:old') as string,
    remedy: expect.stringContaining(`${fingerprint} (memory:new)`) as string,
  });
  expect(await keyring.rootKeys.get(id)).toMatchObject({ from: { uri: 'memory:old' }, to: { uri: 'memory:new' } });
});

test('it moves from file to file, to a provider, and back again', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'keyring-roots-'));
  try {
    const file = `file:${path.join(folder, 'one.key')}`;
    await createRootKeyFile(file);
    await moveTo(file);
    await expectOpens(file);
    const other = `file:${path.join(folder, 'two.key')}`;
    await createRootKeyFile(other);
    await moveTo(other);
    await expectOpens(other);
    await moveTo(old);
    await expectOpens(old);
    expect(await codeOf(installation.open({ rootKey: file }))).toBe('wrong_root_key');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('while it is prepared either root key will do, whoever starts or waits; the laggard is named', async () => {
  const other = await beating({ actor: 'old alone' });
  const { id } = await keyring.rootKeys.request({ to: next });
  const seen: string[] = [];
  const left = await keyring.rootKeys.run(id, {
    whenLagging: 'leave',
    onProgress: (_, waitingFor) => seen.push(...waitingFor.map((one) => one.actor)),
  });
  expect(left.state).toBe('prepared');
  expect(seen).toEqual(['old alone']);
  await expectOpens(old);
  await expectOpens(next);

  const running = keyring.rootKeys.run(id);
  // What a restart with it would do.
  await other.rootKeys.use(next);
  expect((await running).state).toBe('completed');
  await expectOpens(next);
});

test('a process that was started with both reports the new one by itself, and works on when the old one is gone', async () => {
  const server = await beating({ rootKey: [old, next] });
  await moveTo(next);
  old.down = true;
  const { id } = await keyring.wrappingKeys.request();
  expect((await keyring.wrappingKeys.run(id)).state).toBe('completed');
  const { id: projectId } = await server.projects.create({ name: 'new' });
  await server.secrets.put(projectId, 'A', 'a');
  expect((await server.secrets.get(projectId, 'A'))?.value).toBe('a');
});

test('it can be forced past one that hangs, on the record; that one is not opened by the old root key again', async () => {
  const hanging = await installation.open();
  const [laggard] = await keyring.instances.list();
  const audited = await auditPosition(installation);
  const { id } = await keyring.rootKeys.request({ to: next });
  const rotation = await keyring.rootKeys.run(id, { forcePast: [laggard?.id ?? ''] });
  expect(rotation).toMatchObject({ state: 'completed', forced: [laggard?.id] });
  expect((await auditSince(installation, audited))['instance.forced_past']).toBe(1);
  // It has what it has unwrapped.
  expect((await hanging.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
});

test('who forces it past one that has just followed finds it over, and no error', async () => {
  const id = await moveTo(next);
  const database = pgDatabase({ connectionString: installation.test.serviceUrl });
  expect(await noteForced(database, id, randomUUID())).toBe(false);
  await database.close();
});

test('a process that comes with the old root key between the look and the end is waited for, too', async () => {
  let looks = 0;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('not (i.usable_roots @> array') && ++looks === 2) {
          await installation.sql(
            `insert into keyring.instances (id, host, pid, actor, version, seen_at)
             values (gen_random_uuid(), 'h', 1, 'late', '1', now() + interval '1 hour')`,
          );
        }
        return send();
      }),
  });
  await forgetInstances(installation);
  const { id } = await rotator.rootKeys.request({ to: next });
  const seen: string[] = [];
  const running = rotator.rootKeys.run(id, {
    onProgress: (_, waitingFor) => seen.push(...waitingFor.map((one) => one.actor)),
  });
  await expect.poll(() => seen).toContain('late');
  expect((await rotator.rootKeys.get(id))?.state).toBe('prepared');
  await installation.sql(`delete from keyring.instances where actor = 'late'`);
  expect((await running).state).toBe('completed');
});

test('canceled, it leaves nothing behind; and it can be asked for again', async () => {
  await installation.open();
  const before = await copies();
  const { id } = await keyring.rootKeys.request({ to: next });
  await keyring.rootKeys.run(id, { whenLagging: 'leave' });
  expect((await keyring.rootKeys.cancel(id)).state).toBe('canceled');
  expect(await copies()).toEqual(before);
  expect(await codeOf(installation.open({ rootKey: next }))).toBe('wrong_root_key');
  expect(await codeOf(keyring.rootKeys.cancel(id))).toBe('rotation_not_open');
  await expectOpens(old);
  await forgetInstances(installation);
  await moveTo(next);
});

test.each(['canceled', 'failed'] as const)(
  'to a root key that is a way in already, as after a recovery, it takes that way away from nobody when it is %s',
  async (end) => {
    const { id } = await keyring.wrappingKeys.request();
    await keyring.wrappingKeys.run(id);
    await recoverTo(next);
    expect(await copies()).toHaveLength(3);
    const lying: RootKeyProvider = { ...next, unwrap: () => Promise.reject(decryptionFailed()) };
    const by = end === 'failed' ? await installation.open({ rootKey: [old, lying] }) : keyring;
    await forgetInstances(installation);
    await installation.open();
    const root = await by.rootKeys.request({ to: end === 'failed' ? lying : next });
    const { state } = await by.rootKeys.run(root.id, { whenLagging: 'leave' });
    if (end === 'failed') expect(state).toBe('failed');
    else expect((await by.rootKeys.cancel(root.id)).state).toBe('canceled');
    // What the rotation added is gone; what was there is there.
    expect(await copies()).toHaveLength(3);
    old.down = true;
    const recovered = await installation.open({ rootKey: next });
    await recovered.close();
  },
);

test('doctor names the root keys that a recovery left, until a rotation takes the old one off the list', async () => {
  const { id } = await keyring.wrappingKeys.request();
  await keyring.wrappingKeys.run(id);
  const codes = async () => (await keyring.doctor()).findings.map(({ code }) => code);
  expect(await codes()).not.toContain('root_keys_left');
  await recoverTo(next);
  expect((await keyring.doctor()).findings).toContainEqual(
    expect.objectContaining({ code: 'root_keys_left', message: expect.stringContaining('memory:old') as string }),
  );
  await forgetInstances(installation);
  const audited = await auditPosition(installation);
  const third = memoryRootKey();
  await moveTo(third);
  expect(await codes()).not.toContain('root_keys_left');
  // The trail names every root key that went, not only the one that the rotation set out from.
  const [entry] = await installation.sql<{ details: { outOfUse?: string[] } }>(
    `select details from keyring.audit_log where id > $1 and action = 'root_key.rotation_completed'`,
    [audited],
  );
  expect(entry?.details.outOfUse?.toSorted()).toEqual([await fingerprintOf(old), await fingerprintOf(next)].toSorted());
});

/** What a recovery leaves: the new root key beside one that may be gone, which nothing says yet. */
async function recoverTo(root: RootKeyProvider): Promise<void> {
  const { id, key } = await primaryWrappingKey(installation, old);
  const { wrapped, fingerprint } = await root.wrap(
    insecureExportKey(key),
    wrappingKeyAad({ version: 2, wrappingKeyId: id }),
  );
  await installation.sql('insert into keyring.root_keys (uri, fingerprint) values ($1, $2)', [root.uri, fingerprint]);
  await installation.sql(
    `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
     select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3`,
    [id, wrapped, fingerprint],
  );
}

test('one rotation is open at a time, of either kind; and a rotation goes somewhere else', async () => {
  await installation.open();
  expect(await codeOf(keyring.rootKeys.request({ to: old }))).toBe('conflict');
  const { id } = await keyring.rootKeys.request({ to: next });
  const refused = { code: 'rotation_in_progress', details: { rotationId: id, kind: 'root' } };
  await expect(keyring.rootKeys.request({ to: memoryRootKey() })).rejects.toMatchObject(refused);
  await expect(keyring.wrappingKeys.request()).rejects.toMatchObject(refused);
  expect(await codeOf(keyring.wrappingKeys.run(id))).toBe('unknown_rotation');
  await keyring.rootKeys.cancel(id);
  const { id: wrapping } = await keyring.wrappingKeys.request();
  await expect(keyring.rootKeys.request({ to: next })).rejects.toMatchObject({ details: { kind: 'wrapping' } });
  await keyring.wrappingKeys.cancel(wrapping);
});

// ── outages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

test('an outage of either root key in the middle stops it with the provider’s error, and it resumes', async () => {
  const { id } = await keyring.rootKeys.request({ to: next });
  next.down = true;
  expect(await codeOf(keyring.rootKeys.run(id))).toBe('root_key_unreachable');
  expect((await keyring.rootKeys.get(id))?.state).toBe('requested');
  // Wrapped, and not read back.
  next.down = false;
  const wraps = next.wrap.bind(next);
  const half: RootKeyProvider = {
    uri: next.uri,
    status: () => next.status(),
    wrap: wraps,
    unwrap: () => Promise.reject(Object.assign(new Error('reset'), { code: 'ECONNRESET' })),
  };
  const rotator = await installation.open({ rootKey: [old, half] });
  expect(await codeOf(rotator.rootKeys.run(id))).toBe('root_key_unreachable');
  await rotator.close();
  expect(await copies()).toHaveLength(2);
  // The old root key is not needed any more: the wrapping keys are held.
  old.down = true;
  await forgetInstances(installation);
  expect((await keyring.rootKeys.run(id)).state).toBe('completed');
  await expectOpens(next);
});

test('a process that was not given the new root key says so, and one that was brings it to its end', async () => {
  const { id } = await keyring.rootKeys.request({ to: next });
  const other = await installation.open();
  await forgetInstances(installation);
  await expect(other.rootKeys.run(id)).rejects.toMatchObject({
    code: 'wrong_root_key',
    message: expect.stringContaining('memory:new') as string,
  });
  const third = await installation.open({ rootKey: [old, next] });
  await forgetInstances(installation);
  expect((await third.rootKeys.run(id)).state).toBe('completed');
});

test('a new root key that does not unwrap what it wrapped is found out before the old one goes', async () => {
  const lying: RootKeyProvider = {
    uri: 'memory:lying',
    status: () => next.status(),
    wrap: (key, context) =>
      next.wrap(
        key.map((byte) => byte ^ 1),
        context,
      ),
    unwrap: (wrapped, context) => next.unwrap(wrapped, context),
  };
  const { id } = await keyring.rootKeys.request({ to: lying });
  expect(await keyring.rootKeys.run(id)).toMatchObject({ state: 'failed', errorCode: 'self_test_failed' });
  expect(await copies()).toHaveLength(1);
  await expectOpens(old);
});

test('a copy that is altered between the proof and the end keeps the old root key in place', async () => {
  await installation.open();
  const { id } = await keyring.rootKeys.request({ to: next });
  expect((await keyring.rootKeys.run(id, { whenLagging: 'leave' })).state).toBe('prepared');
  await forgetInstances(installation);
  await installation.behindTheFence(
    `update keyring.wrapped_wrapping_keys set wrapped = sha256(wrapped) || sha256(wrapped) || '\\x00112233445566778899aabbccdd'
     where root_key_id = (select id from keyring.root_keys where uri = 'memory:new')`,
  );
  expect(await codeOf(keyring.rootKeys.run(id))).toBe('decryption_failed');
  await expectOpens(old);
});

test('an old dump opens with the old root key, and a program with both opens either', async () => {
  const name = `${installation.test.name}_dump`;
  const at = (url: string, database: string): string => Object.assign(new URL(url), { pathname: `/${database}` }).href;
  await installation.release();
  await using postgres = await session(at(installation.test.adminUrl, 'postgres'), 'copier');
  const copy = () =>
    postgres.query(`create database ${name} template ${installation.test.name}`).then(() => 'copied', String);
  await expect.poll(copy).toBe('copied');
  try {
    installation = await startInstallation({ test: installation.test, rootKey: old });
    keyring = await installation.open();
    await forgetInstances(installation);
    await moveTo(next);
    const dump = () => pgDatabase({ connectionString: at(installation.test.serviceUrl, name) });
    expect(await codeOf(installation.open({ rootKey: next, wrap: dump }))).toBe('wrong_root_key');
    const restored = await installation.open({ rootKey: [next, old], wrap: dump });
    expect((await restored.secrets.get(project.id, 'SECRET_1'))?.value).toBe(project.secrets.get('SECRET_1'));
    await restored.close();
  } finally {
    await postgres.query(`drop database ${name} with (force)`);
  }
});

// ── leaked ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a leaked root key is compromised, and the wrapping key that it had wrapped is left for good right after', async () => {
  const audited = await auditPosition(installation);
  const { id } = await keyring.rootKeys.request({ to: next, leaked: true, reason: 'stolen' });
  expect(await keyring.rootKeys.run(id)).toMatchObject({ state: 'completed', leaked: true });
  const [second] = await keyring.wrappingKeys.rotations();
  expect(second).toMatchObject({ state: 'requested', leaked: true, fromVersion: 1, reason: 'stolen' });
  expect((await keyring.wrappingKeys.list())[0]?.exposedAt).toBeInstanceOf(Date);
  expect((await keyring.wrappingKeys.run(second?.id ?? '')).state).toBe('completed');

  expect(await keyring.wrappingKeys.list()).toMatchObject([
    { version: 2, state: 'enabled', active: true, exposedAt: undefined },
    { version: 1, state: 'compromised', active: false },
  ]);
  expect((await keyring.rootKeys.list()).map(({ uri, state }) => [uri, state])).toEqual([
    ['memory:new', 'enabled'],
    ['memory:old', 'compromised'],
  ]);
  expect(await auditSince(installation, audited)).toMatchObject({
    'root_key.compromised': 1,
    'wrapping_key.compromised': 1,
    'wrapping_key.rotation_completed': 1,
  });
  expect(Object.keys(await keysByWrappingVersion(installation))).toEqual(['2']);
  expect(await codeOf(keyring.rootKeys.request({ to: old }))).toBe('illegal_state');
  expect(await keyring.rootKeys.rotations()).toHaveLength(1);
  await expectOpens(next);
});

test('there is no way back to a wrapping key that leaked; given up before the move, doctor tells what is left to do', async () => {
  const { id: root } = await keyring.rootKeys.request({ to: next, leaked: true });
  await keyring.rootKeys.run(root);
  const [half] = await keyring.wrappingKeys.rotations();
  await keyring.wrappingKeys.cancel(half?.id ?? '');
  expect((await keyring.doctor()).findings.map(({ code }) => code)).toEqual([
    'wrapping_key_exposed',
    'no_backup',
    'single_admin',
  ]);

  let turned: string | undefined;
  const { id } = await keyring.wrappingKeys.request({ leaked: true });
  const rotator = await installation.open({
    rootKey: next,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (turned === undefined && statement.text.includes('k.wrapped_key = w.before')) {
          turned = await codeOf(keyring.wrappingKeys.rollback(id));
        }
        return send();
      }),
  });
  await forgetInstances(installation);
  expect((await rotator.wrappingKeys.run(id)).state).toBe('completed');
  expect(turned).toBe('illegal_state');
  await expectHealthy(await installation.open({ rootKey: next }));
});
