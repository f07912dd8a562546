import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openKeyring } from '@meshhook/keyring';
import { openCluster, openHost } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { session } from '../../../test/support/database.ts';
import { build, cli, firstOf, temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

// Looks like a secret; is none.
const VALUE = 'sk_live_test_4eC39HqLyjWDarjtT1zdp7dc';
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { run, json, start } = cli(home);

let cluster: Awaited<ReturnType<typeof openCluster>> | undefined;

beforeAll(build);
afterAll(async () => {
  await cluster?.close();
  folder.remove();
});

describe('the session of the README, with nothing there before', () => {
  test('the first command makes everything, and says what and where', async () => {
    const { code, stdout, stderr } = await run(['project', 'create', 'acme']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining(`made: root key, ${home}/root.key`) });
    expect(stderr).toContain('made: PostgreSQL database, ');
    expect(stderr).toContain('whoever loses that file loses every secret');
    expect(stdout).toMatch(/^Made the project acme: [0-9a-f-]{36}\n$/);
  });

  test('a value goes in through standard input and comes out as it was, to the byte', async () => {
    const set = await run(['secrets', 'set', 'STRIPE_KEY', '--project', 'acme'], { input: VALUE });
    expect(set).toEqual({ code: 0, stdout: 'Stored STRIPE_KEY in acme.\n', stderr: '' });
    const get = await run(['secrets', 'get', 'STRIPE_KEY', '--project', 'acme']);
    expect(get).toEqual({ code: 0, stdout: VALUE, stderr: '' });
    // Each of these started PostgreSQL and stopped it. Those that follow find it held by this process.
    cluster = await openCluster({ home });
  });

  test('status shows the project, its version, the NIST status and how many secrets are under it', async () => {
    const { stdout } = await run(['status']);
    expect(stdout).toMatch(/^PROJECT +VERSION +STATUS/);
    expect(stdout).toMatch(/^acme +1 +active +(?:< 1|\d+) min +1 +\d{4}-\d\d-\d\d +-$/m);
  });

  test('a rotation of one project tells its phases, then what it came to', async () => {
    const { code, stdout, stderr } = await run(['rotate', '--project', 'acme', '--reason', 'quarterly']);
    expect(code).toBe(0);
    expect(stderr).toContain('completed: 1/1 row');
    expect(stdout).toMatch(/^Rotation [0-9a-f-]{36}: completed in /);
    expect(stdout).toContain('acme: version 1 → 2, completed');
    expect(stdout).toContain('1 of 1 row re-encrypted, 1 read back');
  });

  test('rotate --all --json is one document, and no more than that', async () => {
    const { code, stdout, stderr } = await run(['rotate', '--all', '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout).rotation).toMatchObject({
      scope: 'all',
      state: 'completed',
      rows: { total: 1, moved: 1, verified: 1, quarantined: 0 },
      projectDetails: [
        { projectName: 'acme', sourceVersion: 2, targetVersion: 3, state: 'completed', errorCode: null },
      ],
    });
  });

  test('rotations has both, and one in full with its phases', async () => {
    const { rotations } = await json(['rotations']);
    expect(rotations.map(({ state }) => state)).toEqual(['completed', 'completed']);
    const first = rotations[1]?.id ?? '';
    const { stdout } = await run(['rotations', first]);
    for (const text of ['quarterly', 'PROMOTED', 'READ BACK', '1 → 2', '(manual)']) expect(stdout).toContain(text);
    expect((await run(['rotations', first, '--json'])).code).toBe(0);
  });

  test('audit says who did what, doctor that all is well', async () => {
    const audit = await run(['audit']);
    expect(audit.stdout).toMatch(/cli:\S+@\S+ +rotation\.completed +succeeded/);
    expect(audit.stdout).toMatch(/secret\.written +succeeded +acme/);
    const doctor = await run(['doctor']);
    expect(doctor).toMatchObject({ code: 0, stderr: '' });
    expect(doctor.stdout).toMatch(
      /^Healthy: opened 1 row, tried 3 key versions\.\n\nwarning: .*\[no_backup\]\nhint: .*\n\nwarning: .*\[single_admin\]\nhint: .*\n$/,
    );
  });

  test('every file it made is for its owner alone, and the log of PostgreSQL has neither value nor password', () => {
    const log = readFileSync(path.join(home, 'postgres.log'), 'utf8');
    const { owner, service } = JSON.parse(readFileSync(path.join(home, 'credentials.json'), 'utf8')) as Record<
      'owner' | 'service',
      { password: string }
    >;
    for (const secret of [VALUE, owner.password, service.password, 'SCRAM-SHA-256']) expect(log).not.toContain(secret);
  });
});

describe('while another process holds the database', () => {
  // What a command answers is the same in this process; those that are processes of their own say so.
  const { run, json } = here(home);
  const own = cli(home);
  let host: Awaited<ReturnType<typeof openHost>>;
  let keyring: Awaited<ReturnType<typeof openKeyring>>;

  beforeAll(async () => {
    host = await openHost({ home });
    keyring = await openKeyring({ database: host.databaseUrl, rootKey: host.rootKeyUri });
  });
  afterAll(async () => {
    await keyring.close();
    await host.close();
  });

  test('commands work beside it, and leave the database running', async () => {
    const { projects } = await own.json(['project', 'list']);
    expect(projects).toMatchObject([{ name: 'acme' }]);
    const secret = await keyring.secrets.get(firstOf(projects).id, 'STRIPE_KEY');
    expect(secret?.value).toBe(VALUE);
  });

  test('eight commands at once do no harm', async () => {
    const sets = Array.from({ length: 8 }, (_, n) =>
      own.run(['secrets', 'set', `MANY_${String(n)}`, '--project', 'acme'], { input: `value ${String(n)}` }),
    );
    for (const { code, stderr } of await Promise.all(sets)) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { secrets } = await json(['secrets', 'list', '--project', 'acme']);
    expect(secrets.filter(({ name }) => name.startsWith('MANY_'))).toHaveLength(8);
  });

  test('a value is in no argument and no environment of the process that stores it', async () => {
    const { child, outcome } = start(['secrets', 'set', 'SEEN', '--project', 'acme']);
    child.stdin?.write(VALUE);
    for (const file of ['cmdline', 'environ']) {
      expect(readFileSync(`/proc/${String(child.pid)}/${file}`, 'utf8')).not.toContain(VALUE);
    }
    child.stdin?.end();
    expect((await outcome).code).toBe(0);
  });

  test('bytes that are no text survive, from a file and into --json', async () => {
    const bytes = Buffer.from([0, 255, 10, 13, 0]);
    const file = path.join(folder.path, 'value.bin');
    await writeFile(file, bytes);
    expect((await own.run(['secrets', 'set', 'BYTES', '--project', 'acme', '--from-file', file])).code).toBe(0);
    const { secret } = await own.json(['secrets', 'get', 'BYTES', '--project', 'acme']);
    expect(Buffer.from(secret.valueBase64, 'base64')).toEqual(bytes);
    const { secret: text } = await json(['secrets', 'get', 'STRIPE_KEY', '--project', 'acme']);
    expect(text).toMatchObject({ name: 'STRIPE_KEY', value: VALUE, stale: false });
  });

  test('a line end from echo is stored, and noted', async () => {
    const { stderr } = await run(['secrets', 'set', 'ECHOED', '--project', 'acme'], { input: 'abc\n' });
    expect(stderr).toContain('ends with a line end, which is stored with it');
    expect((await run(['secrets', 'get', 'ECHOED', '--project', 'acme'])).stdout).toBe('abc\n');
  });

  test('a project goes by its id; a removed secret is gone', async () => {
    const { projects } = await json(['project', 'list']);
    expect((await run(['secrets', 'rm', 'ECHOED', '--project', firstOf(projects).id])).code).toBe(0);
    const { code, stderr } = await run(['secrets', 'get', 'ECHOED', '--project', 'acme']);
    expect(code).toBe(3);
    expect(stderr).toBe(
      'error: The project "acme" has no secret "ECHOED". [unknown_secret]\n' +
        'hint: Run `mh-keys secrets list --project acme` to see them.\n',
    );
  });

  test('every list answers with one JSON document', async () => {
    expect(await json(['status'])).toMatchObject({ projects: [{}], keys: [{}, {}, {}], openRotations: [] });
    expect(await json(['keys', 'list', '--project', 'acme'])).toMatchObject({
      keys: [
        { version: 1, status: 'deactivated' },
        { version: 2 },
        { version: 3, active: true, nextDueAt: expect.any(String) },
      ],
    });
    expect(await json(['audit', '--limit', '2', '--project', 'acme'])).toMatchObject({ entries: [{}, {}] });
    expect(await json(['doctor'])).toMatchObject({
      report: { healthy: true, findings: [{ code: 'no_backup' }, { code: 'single_admin' }] },
    });
    expect(await json(['migrate', '--status'])).toMatchObject({ schema: { state: 'current' } });
    expect(await json(['migrate'])).toMatchObject({ applied: [] });
    expect(await json(['root-key', 'status'])).toMatchObject({ rootKey: { healthy: true } });
    expect(await json(['rotate', '--all', '--dry-run'])).toMatchObject({ preview: { projects: 1, unreadable: [] } });
  });

  test('inspect explains what is stored, and opens nothing', async () => {
    await using admin = await session(host.migrationUrl, 'the owner');
    await admin.query('set role keyring_service');
    const { rows } = await admin.query<{ value: string; key: string }>(
      `select value_encrypted::text as value, encryption_key_id as key from public.secrets where key = 'STRIPE_KEY'`,
    );
    const { envelope } = await json(['inspect'], { input: `${rows[0]?.value}\n` });
    expect(envelope).toMatchObject({
      ...{ formatVersion: 1, algorithm: 'AES-256-GCM', keyId: rows[0]?.key, encoding: 'hex' },
      plaintextBytes: VALUE.length,
    });
    expect((await run(['inspect'], { input: 'hello' })).code).toBe(6);
  });

  test('a rotation that nobody waits for is there for whoever resumes it; its receipts follow', async () => {
    const { rotation } = await json(['rotate', '--project', 'acme', '--no-wait']);
    expect(rotation).toMatchObject({ state: 'requested', id: expect.stringMatching(UUID) });
    expect((await run(['rotations', 'pause', rotation.id])).stdout).toContain('Paused.');
    const { rotations } = await json(['rotate', '--resume']);
    expect(rotations).toMatchObject([{ id: rotation.id, state: 'completed' }]);
    expect((await run(['rotate', '--resume'])).stdout).toBe('No rotation is waiting, paused or blocked.\n');
    const receipts = await run(['rotations', 'receipts', rotation.id]);
    expect(JSON.parse(receipts.stdout)).toMatchObject({ payload: expect.stringContaining(rotation.id) });
  });

  test('a rotation that was not begun is turned back', async () => {
    const { rotation } = await json(['rotate', '--project', 'acme', '--no-wait']);
    const { code, stdout } = await run(['rotations', 'rollback', rotation.id]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('canceled') });
  });

  test('a reader that goes away early is no failure', async () => {
    const { child, outcome } = start(['audit', '--limit', '1000']);
    child.stdout?.destroy();
    expect(await outcome).toMatchObject({ code: 0, stderr: '' });
  });
});
