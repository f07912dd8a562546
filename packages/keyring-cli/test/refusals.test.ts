import { existsSync } from 'node:fs';
import { chmod, rename } from 'node:fs/promises';
import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../test/support/database.ts';
import { build, cli, firstOf, temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { run, json, refused } = here(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;

beforeAll(async () => {
  build();
  await json(['project', 'create', 'acme']);
  await run(['secrets', 'set', 'A', '--project', 'acme'], { input: 'value A' });
  // Held by this process from here on, so that commands do not each start and stop it.
  cluster = await openCluster({ home });
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

describe('a refusal names the remedy', () => {
  test('to people and to programs alike', async () => {
    // The program itself, as a shell runs it.
    const shell = cli(home);
    const { exit, code, hint, stderr } = await shell.refused(['status', '--project', 'nope']);
    const { message } = JSON.parse(stderr).error;
    const people = await shell.run(['status', '--project', 'nope']);
    expect(people).toEqual({ code: exit, stdout: '', stderr: `error: ${message} [${code}]\nhint: ${hint}\n` });
  });

  test('for what is not there', async () => {
    expect(await refused(['status', '--project', 'nope'])).toMatchObject({
      ...{ exit: 3, code: 'unknown_project', hint: expect.stringContaining('mh-keys project list') },
    });
    expect(await refused(['secrets', 'rm', 'NOPE', '--project', 'acme'])).toMatchObject({
      exit: 3,
      code: 'unknown_secret',
    });
    expect(await refused(['rotations', 'nope'])).toMatchObject({ exit: 3, code: 'unknown_rotation' });
    expect(await refused(['rotate', '--resume', 'nope'])).toMatchObject({ exit: 3, code: 'unknown_rotation' });
    expect(await refused(['keys', 'destroy', 'nope', '--reason', 'x', '--yes'])).toMatchObject({
      exit: 3,
      code: 'unknown_key',
    });
  });

  test('for a name that two projects have: the ids', async () => {
    const ids: string[] = [];
    for (const _ of [1, 2]) ids.push((await json(['project', 'create', 'twin'])).project.id);
    const { exit, code, stderr } = await refused(['secrets', 'list', '--project', 'twin']);
    expect({ exit, code }).toEqual({ exit: 3, code: 'ambiguous_project' });
    for (const id of ids) expect(stderr).toContain(id);
    expect((await run(['secrets', 'list', '--project', firstOf(ids)])).code).toBe(0);
  });

  test.each([
    ['an empty value', 'B', '', 'invalid_value'],
    ['a value that is too long', 'B', 'x'.repeat(65_537), 'invalid_value'],
    ['a value that is far too long', 'B', 'x'.repeat(2_000_000), 'invalid_value'],
    ['an empty name', '', 'value', 'invalid_name'],
    ['a name that is too long', 'x'.repeat(201), 'value', 'invalid_name'],
    ['a name with controls', 'a\u001b[2J', 'value', 'invalid_name'],
  ])('for %s', async (_, name, input, code) => {
    const refusal = await refused(['secrets', 'set', name, '--project', 'acme'], { input });
    expect(refusal).toMatchObject({ exit: 2, code, hint: expect.stringMatching(/\d bytes|characters|1 MiB|Give/) });
    expect(refusal.stderr).not.toContain('xxxxxxxx');
  });

  test('for a file that is not there, and an empty project name', async () => {
    const args = ['secrets', 'set', 'B', '--project', 'acme', '--from-file', path.join(folder.path, 'nope')];
    expect(await refused(args)).toMatchObject({ exit: 2, code: 'invalid_argument' });
    expect(await refused(['project', 'create', ''])).toMatchObject({ exit: 2, code: 'invalid_name' });
  });

  test('for a key that cannot be destroyed, or not without being asked', async () => {
    const { keys } = await json(['keys', 'list', '--project', 'acme']);
    const destroy = ['keys', 'destroy', firstOf(keys).id, '--reason', 'test'];
    expect(await refused(destroy)).toMatchObject({ exit: 2, code: 'invalid_argument', hint: 'Add --yes.' });
    expect(await refused([...destroy, '--yes'])).toMatchObject({ exit: 4, code: 'key_is_primary' });
  });
});

describe('the root key', () => {
  const file = path.join(home, 'root.key');

  test('that is gone is never made anew while there are keys', async () => {
    await rename(file, `${file}.away`);
    try {
      const refusal = await refused(['status']);
      expect(refusal).toMatchObject({
        exit: 6,
        code: 'root_key_missing',
        hint: expect.stringContaining('Restore the file'),
      });
      expect(existsSync(file)).toBe(false);
    } finally {
      await rename(`${file}.away`, file);
    }
  });

  test('that others can read is refused', async () => {
    await chmod(file, 0o644);
    try {
      expect(await refused(['status'])).toMatchObject({
        exit: 6,
        code: 'root_key_permissions',
        hint: expect.stringContaining('chmod 600'),
      });
    } finally {
      await chmod(file, 0o600);
    }
  });

  test('that is another one is told from the right one, by fingerprint', async () => {
    const uri = `file:${path.join(folder.path, 'other.key')}`;
    const { rootKey } = await json(['root-key', 'create', uri]);
    expect(await refused(['root-key', 'create', uri])).toMatchObject({ exit: 4, code: 'root_key_exists' });
    const { rootKey: right } = await json(['root-key', 'status']);
    const refusal = await refused(['status'], { env: { MESHHOOK_ROOT_KEY: uri } });
    expect(refusal).toMatchObject({
      exit: 6,
      code: 'wrong_root_key',
      hint: expect.stringContaining(right.fingerprint),
    });
    expect(refusal.stderr).toContain(rootKey.fingerprint);
    expect(await refused(['status'], { env: { MESHHOOK_ROOT_KEY: 'vault:x' } })).toMatchObject({
      exit: 2,
      code: 'unsupported_root_key',
    });
  });
});

describe('a database of somebody’s own', () => {
  let database: TestDatabase;
  let env: Record<string, string>;

  beforeAll(async () => {
    database = await createTestDatabase({ template: 'empty' });
    env = { DATABASE_URL: database.ownerUrl, MESHHOOK_ROOT_KEY: `file:${path.join(folder.path, 'own.key')}` };
    await json(['root-key', 'create', env['MESHHOOK_ROOT_KEY'] ?? '']);
  });
  afterAll(() => database.drop());

  test('needs a root key that is named, and a URL that is one', async () => {
    const { MESHHOOK_ROOT_KEY: _, ...without } = env;
    expect(await refused(['status'], { env: without })).toMatchObject({
      exit: 6,
      code: 'root_key_missing',
      hint: expect.stringContaining('MESHHOOK_ROOT_KEY'),
    });
    expect(await refused(['status'], { env: { ...env, DATABASE_URL: 'acme' } })).toMatchObject({
      exit: 2,
      code: 'invalid_argument',
    });
  });

  test('that is not there is told, without the password', async () => {
    const refusal = await refused(['status'], {
      env: { ...env, DATABASE_URL: 'postgres://ada:hunter2@127.0.0.1:1/x' },
    });
    expect(refusal).toMatchObject({
      exit: 7,
      code: 'database_unreachable',
      hint: expect.stringContaining('DATABASE_URL'),
    });
    expect(refusal.stderr).not.toContain('hunter2');
  });

  test('is migrated when asked to, and not before', async () => {
    expect(await refused(['status'], { env })).toMatchObject({
      exit: 7,
      code: 'not_migrated',
      hint: 'Run `mh-keys migrate`.',
    });
    expect(await refused(['migrate', '--status'], { env })).toMatchObject({ exit: 7, code: 'not_migrated' });
    const { MESHHOOK_ROOT_KEY: _, ...without } = env;
    const migrated = await Promise.all([1, 2, 3].map(() => json(['migrate'], { env: without })));
    const names = migrated.flatMap(({ applied }) => applied);
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names).size).toBe(names.length);
    expect((await run(['migrate', '--status'], { env })).code).toBe(0);
  });

  test('works like the embedded one, by the login of the service', async () => {
    const service = { ...env, DATABASE_URL: database.serviceUrl };
    await query(database.adminUrl, `grant keyring_service to keyring_app`);
    await json(['project', 'create', 'own'], { env: service });
    await run(['secrets', 'set', 'A', '--project', 'own'], { env: service, input: 'v' });
    expect((await run(['rotate', '--project', 'own'], { env: service })).code).toBe(0);
    expect((await run(['secrets', 'get', 'A', '--project', 'own'], { env: service })).stdout).toBe('v');
  });

  test('whose schema is newer is left alone', async () => {
    const [row] = await query<{ body: string }>(
      database.adminUrl,
      `select pg_get_functiondef('keyring.schema_version()'::regprocedure) as body`,
    );
    await query(database.adminUrl, (row?.body ?? '').replace(/'\d{14}'/, "'99990101000000'"));
    expect(await refused(['status'], { env })).toMatchObject({
      exit: 7,
      code: 'schema_too_new',
      hint: expect.stringContaining('Upgrade'),
    });
    expect(await refused(['migrate'], { env })).toMatchObject({ exit: 7, code: 'schema_too_new' });
    expect(await refused(['migrate', '--status'], { env })).toMatchObject({ exit: 7, code: 'schema_too_new' });
  });
});
