import { existsSync, readdirSync } from 'node:fs';
import { chmod, readlink, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, query, session, type TestDatabase } from '../../../test/support/database.ts';
import { build, cli, firstOf, temporaryFolder, type Outcome } from './support/cli.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { run, json, start } = cli(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;
let admin: string;

beforeAll(async () => {
  build();
  for (const project of ['acme', 'globex']) {
    await json(['project', 'create', project]);
    for (const name of ['A', 'B', 'C'])
      await run(['secrets', 'set', name, '--project', project], { input: `value ${name}` });
  }
  // Held by this process from here on, so that commands do not each start and stop it.
  cluster = await openCluster({ home });
  admin = cluster.adminUrl('meshhook');
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

/** The last thing a command that fails says with --json, and its exit code. */
async function refused(args: readonly string[], options: Parameters<typeof run>[1] = {}) {
  const { code: exit, stderr } = await run([...args, '--json'], options);
  const { error } = JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '') as {
    error: { code: string; message: string; remedy: string };
  };
  return { exit, code: error.code, hint: error.remedy, stderr };
}

describe('a refusal names the remedy', () => {
  test('to people and to programs alike', async () => {
    const { exit, code, hint, stderr } = await refused(['status', '--project', 'nope']);
    const { message } = JSON.parse(stderr).error;
    const people = await run(['status', '--project', 'nope']);
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

describe('a rotation that is interrupted', () => {
  /** While this is held, a rotation of the project can begin, and cannot end. */
  async function holdRow(name: string) {
    const holder = await session(admin, 'an idle edit');
    await holder.query('begin');
    await holder.query(
      `select from public.secrets s join public.projects p on p.id = s.project_id
                        where p.name = 'acme' and s.key = $1 for update of s`,
      [name],
    );
    return holder;
  }

  test.each(['SIGINT', 'SIGTERM'] as const)('by %s rests, says how it goes on, and goes on', async (signal) => {
    const holder = await holdRow('A');
    let outcome: Outcome;
    try {
      const rotation = start(['rotate', '--project', 'acme']);
      await rotation.says('sweeping');
      rotation.child.kill(signal);
      outcome = await rotation.outcome;
    } finally {
      await holder.end();
    }
    expect(outcome.code).toBe(130);
    expect(outcome.stderr).toContain('[interrupted]');
    const [, id = ''] = /hint: .*`mh-keys rotate --resume ([0-9a-f-]{36})`/.exec(outcome.stderr) ?? [];
    expect((await json(['status'])).openRotations).toMatchObject([{ id, state: 'running', runner: null }]);
    expect((await run(['secrets', 'get', 'A', '--project', 'acme'])).stdout).toBe('value A');

    const resumed = await run(['rotate', '--resume', id]);
    expect(resumed).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('3 of 3 rows re-encrypted, 3 read back'),
    });
  });

  test('by kill -9 goes on once its lease has run out', async () => {
    const holder = await holdRow('B');
    const rotation = start(['rotate', '--project', 'acme']);
    await rotation.says('sweeping');
    rotation.child.kill('SIGKILL');
    await rotation.outcome;
    await holder.end();
    const { openRotations } = await json(['status']);
    const { rotations } = await json(['rotate', '--resume', firstOf(openRotations).id]);
    expect(rotations).toMatchObject([{ state: 'completed', rows: { moved: 3, verified: 3 } }]);
  });

  test('is refused a second time while the first is open, by name', async () => {
    const { rotation } = await json(['rotate', '--project', 'acme', '--no-wait']);
    const refusal = await refused(['rotate', '--project', 'acme']);
    expect(refusal).toMatchObject({
      exit: 4,
      code: 'rotation_in_progress',
      hint: expect.stringContaining(rotation.id),
    });
    await json(['rotate', '--resume', rotation.id]);
  });

  test('by somebody who pauses it elsewhere ends here, with a hint', async () => {
    const holder = await holdRow('C');
    const rotation = start(['rotate', '--project', 'acme']);
    await rotation.says('sweeping');
    const { openRotations } = await json(['status']);
    await json(['rotations', 'pause', firstOf(openRotations).id]);
    const { code, stderr } = await rotation.outcome;
    await holder.end();
    expect({ code, stderr }).toEqual({
      code: 4,
      stderr: expect.stringContaining(`mh-keys rotate --resume ${firstOf(openRotations).id}`),
    });
    expect((await run(['rotations', 'rollback', firstOf(openRotations).id])).stdout).toContain('rolled back');
  });
});

/** Until the process has the file open. */
async function holds({ pid }: { pid?: number | undefined }, file: string): Promise<void> {
  const folder = `/proc/${String(pid)}/fd`;
  const target = (fd: string) => readlink(path.join(folder, fd)).catch(() => '');
  while (!(await Promise.all(readdirSync(folder).map(target))).includes(file)) await delay(20);
}

test('a second Ctrl-C ends a command that cannot rest yet', async () => {
  const other = temporaryFolder();
  const lock = path.join(other.path, 'postgres.lock');
  const starting = new DatabaseSync(lock);
  try {
    starting.exec('begin exclusive');
    const command = cli(other.path).start(['status']);
    await holds(command.child, lock);
    command.child.kill('SIGINT');
    await command.says('Stopping');
    // What npm sends after the terminal's own is the same Ctrl-C.
    command.child.kill('SIGINT');
    await delay(700);
    expect(command.child.exitCode).toBe(null);
    command.child.kill('SIGINT');
    expect((await command.outcome).code).toBe(130);
  } finally {
    starting.close();
    other.remove();
  }
});

describe('rows that do not open', () => {
  beforeAll(() =>
    query(
      admin,
      `set session_replication_role = replica;
                  update public.secrets s set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
                  from public.projects p where p.id = s.project_id and p.name = 'globex' and s.key = 'A'`,
    ),
  );

  test('are named before a rotation, and by the doctor', async () => {
    const rehearsal = await refused(['rotate', '--all', '--dry-run']);
    expect(rehearsal).toMatchObject({
      exit: 5,
      code: 'unhealthy',
      hint: expect.stringContaining('a-row-does-not-open'),
    });
    const doctor = await run(['doctor', '--json']);
    expect(doctor.code).toBe(5);
    expect(JSON.parse(doctor.stdout).report).toMatchObject({
      healthy: false,
      findings: [{ severity: 'error', code: 'does_not_open' }],
    });
    expect(await refused(['secrets', 'get', 'A', '--project', 'globex'])).toMatchObject({
      exit: 6,
      code: 'decryption_failed',
    });
  });

  test('block their project and no other; mended, it goes on', async () => {
    const { code, stdout, stderr } = await run(['rotate', '--all', '--json']);
    expect(code).toBe(5);
    const { rotation } = JSON.parse(stdout);
    expect(rotation).toMatchObject({
      state: 'blocked',
      projects: { blocked: 1 },
      quarantine: [{ label: 'secrets.value', reason: 'does_not_open' }],
    });
    expect(rotation.projects.completed).toBeGreaterThan(0);
    expect(JSON.parse(stderr).error).toMatchObject({
      code: 'rotation_blocked',
      remedy: expect.stringContaining(rotation.id),
    });
    expect((await run(['rotations', rotation.id])).stdout).toContain(rotation.quarantine[0].rowId);

    await run(['secrets', 'set', 'A', '--project', 'globex'], { input: 'value A' });
    expect((await run(['rotate', '--resume', rotation.id])).code).toBe(0);
    expect((await run(['doctor'])).code).toBe(0);
  });
});

describe('rows from before the keyring', () => {
  // Such as a restore brings back: a database of ours takes no plaintext from the start.
  const restore = async (name: string, value: Buffer) => {
    await using restorer = await session(admin, 'a restore');
    await restorer.query('set session_replication_role = replica');
    await restorer.query(
      `insert into public.secrets (project_id, key, value_encrypted)
       select id, $1, $2 from public.projects where name = 'acme'`,
      [name, value],
    );
  };

  test('are counted, adopted, and opened; the door is not closed on those that are left', async () => {
    await restore('OLD', Buffer.from('old value'));
    await restore('NOT_TEXT', Buffer.from([0, 255]));
    const rehearsal = await run(['secrets', 'adopt', '--dry-run', '--json']);
    expect({ code: rehearsal.code, ...JSON.parse(rehearsal.stdout).adoption }).toMatchObject({
      code: 5,
      found: 2,
      adopted: 0,
      failed: [{ reason: 'not_text' }],
    });
    expect(await refused(['secrets', 'get', 'OLD', '--project', 'acme'])).toMatchObject({
      exit: 4,
      hint: 'Run `mh-keys secrets adopt`.',
    });

    expect(await refused(['secrets', 'adopt'])).toMatchObject({
      exit: 5,
      code: 'unhealthy',
      hint: expect.stringContaining('--legacy-key-file'),
    });
    expect((await run(['secrets', 'get', 'OLD', '--project', 'acme'])).stdout).toBe('old value');
    expect(await refused(['secrets', 'adopt', '--finish'])).toMatchObject({ exit: 4, code: 'illegal_state' });

    await run(['secrets', 'rm', 'NOT_TEXT', '--project', 'acme']);
    expect((await run(['secrets', 'adopt', '--finish'])).stdout).toContain('plaintext cannot be stored any more');
  });

  test('are not tried with a file that holds no key', async () => {
    const file = path.join(folder.path, 'legacy.key');
    await writeFile(file, 'short');
    expect(await refused(['secrets', 'adopt', '--legacy-key-file', file])).toMatchObject({
      exit: 2,
      code: 'invalid_argument',
    });
  });
});
