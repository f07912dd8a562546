import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { clearProjects, codeOf, expectHealthy, makeProject, type KnownProject } from './support/world.ts';

// What one odd row, one idle transaction or one dropped table may cost, and whom.
let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 2 });
});
afterAll(() => installation.end());

const owner = async (text: string): Promise<void> => {
  const client = await session(installation.test.ownerUrl);
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
};

test('two rows of a partitioned table that share an id keep each its own value', async () => {
  await owner(`create table public.parted (
      id uuid not null, region text not null, project_id uuid not null references public.projects (id) on delete cascade,
      token bytea, key_id uuid, primary key (id, region)) partition by list (region);
    create table public.parted_eu partition of public.parted for values in ('eu');
    create table public.parted_us partition of public.parted for values in ('us');
    select keyring.register_encrypted_column('parted.token', 'public.parted', 'token', 'key_id')`);
  const rowId = randomUUID();
  for (const region of ['eu', 'us']) {
    const { keyId, envelope } = await installation.seal(
      { projectId: project.id, label: 'parted.token', rowId },
      `value of ${region}`,
    );
    await installation.sql(
      'insert into public.parted (id, region, project_id, token, key_id) values ($1, $2, $3, $4, $5)',
      [rowId, region, project.id, envelope, keyId],
    );
  }
  const before = await installation.sql<{ token: Buffer }>('select token from public.parted order by region');
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  const after = await installation.sql<{ token: Buffer }>('select token from public.parted order by region');
  expect(after[0]?.token.equals(after[1]?.token ?? Buffer.alloc(0))).toBe(false);
  // The regions' values have the same length, so that only the bytes can tell them apart.
  expect(after.map((row) => row.token.length)).toEqual(before.map((row) => row.token.length));
  await owner(`drop table public.parted; select keyring.unregister_encrypted_column('parted.token')`);
});

test('a row id that is not unique is not registered', async () => {
  await owner(
    `create table public.loose (id bigint, project_id uuid references public.projects (id), token bytea, key_id uuid)`,
  );
  const register = `select keyring.register_encrypted_column('loose.token', 'public.loose', 'token', 'key_id')`;
  await expect(owner(register)).rejects.toThrow(/row_id_not_unique/);
  await owner('drop table public.loose');
});

test('a put that waits for a row which somebody holds gives up, and nobody else waits with it', async () => {
  const other = await makeProject(installation, keyring, { secrets: 1 });
  const holder = await session(installation.test.adminUrl, 'an idle edit');
  try {
    await holder.query('begin');
    await holder.query(`select from public.secrets where project_id = $1 and key = 'SECRET_1' for update`, [
      project.id,
    ]);
    const puts = Array.from({ length: 12 }, (_, n) =>
      codeOf(keyring.secrets.put(project.id, 'SECRET_1', `v${String(n)}`)),
    );
    expect((await keyring.secrets.get(other.id, 'SECRET_1'))?.value).toBe(other.secrets.get('SECRET_1'));
    expect((await keyring.secrets.get(project.id, 'SECRET_2'))?.value).toBe(project.secrets.get('SECRET_2'));
    await keyring.secrets.put(other.id, 'SECRET_1', 'not held up');
    expect(await Promise.race(puts)).toBe('contended');
    await holder.query('rollback');
    await Promise.all(puts);
  } finally {
    await holder.end();
  }
});

test('a project can be deleted while it is written to: the delete is never the one that is refused', async () => {
  const others = await Promise.all([installation.open(), installation.open()]);
  for (let round = 0; round < 10; round++) {
    const doomed = await makeProject(installation, keyring, { secrets: 1 });
    const writers = [keyring, ...others].flatMap((by, process) =>
      Array.from({ length: 4 }, async (_, writer) => {
        for (let n = 0; ; n++) {
          const name = `W${String(process)}_${String(writer)}_${String(n)}`;
          const code = await codeOf(by.secrets.put(doomed.id, name, 'v'));
          if (code === 'unknown_project') return code;
          expect(code).toBe('nothing');
        }
      }),
    );
    await sleep(20);
    await installation.sql('delete from public.projects where id = $1', [doomed.id]);
    expect(new Set(await Promise.all(writers))).toEqual(new Set(['unknown_project']));
  }
  await expectHealthy(keyring);
});

test('doctor names a registered table that is gone, and examines everything else all the same', async () => {
  await owner(`create table public.gone (id uuid primary key, project_id uuid references public.projects (id), token bytea, key_id uuid);
    select keyring.register_encrypted_column('gone.token', 'public.gone', 'token', 'key_id');
    drop table public.gone`);
  const report = await keyring.doctor();
  expect(report.findings.map(({ code }) => code)).toContain('missing_table');
  expect(report.rowsChecked).toBe(2);
  expect((await keyring.keys.list({ projectId: project.id }))[0]?.rows).toBe(2);
  expect(await codeOf(keyring.rotations.request({ projects: [project.id] }))).toBe('unregistered_column');
  await owner(`select keyring.unregister_encrypted_column('gone.token')`);
  await expectHealthy(keyring);
});
