import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { query, session } from '../../../test/support/database.ts';
import { build, cli, firstOf, temporaryFolder, type Outcome } from './support/cli.ts';
import { here } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { start } = cli(home);
const { run, json, refused } = here(home);
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
    await query(admin, `update keyring.rotations set runner_until = now() where runner_until is not null`);
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
    expect((await run(['rotations', 'pace', firstOf(openRotations).id])).code).toBe(2);
    const pace = (...how: string[]) => json(['rotations', 'pace', firstOf(openRotations).id, ...how]);
    expect((await pace('--max-rate', '100')).rotation).toMatchObject({ pace: 'polite', maxRate: 100 });
    expect((await pace('--full-speed')).rotation).toMatchObject({ pace: 'full', maxRate: 100 });
    expect((await pace('--no-max-rate')).rotation).toMatchObject({ pace: 'full', maxRate: null });
    await json(['rotations', 'pause', firstOf(openRotations).id]);
    const { code, stderr } = await rotation.outcome;
    await holder.end();
    expect({ code, stderr }).toEqual({
      code: 4,
      stderr: expect.stringContaining(`mh-keys rotate --resume ${firstOf(openRotations).id}`),
    });
    expect((await run(['rotations', 'rollback', firstOf(openRotations).id])).stdout).toContain('rolled back');
    const projects = ['rotations', 'projects', firstOf(openRotations).id];
    expect((await run([...projects, '--state', 'rolled_back'])).stdout).toMatch(/PROJECT.*\n.*rolled_back/);
    expect((await json([...projects, '--state', 'blocked']))['projects']).toEqual([]);
    expect((await run([...projects, '--state', 'gone'])).code).toBe(2);
    expect((await run(['rotations', 'projects', randomUUID()])).code).toBe(3);
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
    // What npm sends after the terminal's own is the same Ctrl-C: both come at once, and two of a kind would be one.
    for (const signal of ['SIGSTOP', 'SIGINT', 'SIGTERM', 'SIGCONT'] as const) command.child.kill(signal);
    await command.says('Stopping');
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
      findings: [
        { severity: 'error', code: 'does_not_open' },
        { severity: 'warning', code: 'no_backup' },
        { severity: 'warning', code: 'single_admin' },
      ],
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
