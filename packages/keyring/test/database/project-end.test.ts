import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { query } from '../../../../test/support/database.ts';
import {
  envelope,
  makeProject,
  outcome,
  promote,
  putSecret,
  useDatabase,
  type Project,
  type Session,
} from './support.ts';

const on = useDatabase();

const countIn = (by: Session, table: string, project: { id: string }) =>
  by.value<number>(`select count(*)::int from ${table} where project_id = $1`, [project.id]);

const remove = (by: Session, project: { id: string }) =>
  outcome(by.run('delete from public.projects where id = $1', [project.id]));

/** A rotation of this project, in this state, as the engine records it. */
async function rotation(by: Session, project: Project, states: readonly string[]): Promise<string> {
  const id = randomUUID();
  await by.run(
    `insert into keyring.rotations (id, scope, trigger, requested_by) values ($1, 'projects', 'manual', 'test')`,
    [id],
  );
  await by.run(
    `insert into keyring.rotation_projects (rotation_id, project_id, project_name) values ($1, $2, 'named')`,
    [id, project.id],
  );
  for (const state of states)
    await by.run('update keyring.rotation_projects set state = $2 where rotation_id = $1', [id, state]);
  return id;
}

describe('deleting a project', () => {
  test('takes its secrets, versions, keyring, policy and quarantine with it', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const [project, other] = [await makeProject(service, 3), await makeProject(service)];
    for (const one of [project, other]) {
      await putSecret(service, one, one.keys[0]);
      const id = await rotation(service, one, []);
      await service.run(
        `insert into keyring.quarantine (rotation_id, project_id, label, row_id, reason)
         values ($1, $2, 'secrets.value', $3, 'does_not_open')`,
        [id, one.id, randomUUID()],
      );
      await service.run('insert into keyring.rotation_policies (project_id) values ($1)', [one.id]);
    }
    await promote(service, project, project.keys[0], project.keys[1]);
    await putSecret(service, project, project.keys[1]);
    expect(await remove(admin, project)).toBe('done');
    const tables = [
      'public.secrets',
      'keyring.encryption_keys',
      'keyring.keyrings',
      'keyring.quarantine',
      'keyring.rotation_policies',
    ];
    for (const table of tables) {
      expect(await countIn(admin, table, project), table).toBe(0);
      expect(await countIn(admin, table, other), table).toBeGreaterThan(0);
    }
  });

  test('leaves its trail, with an entry that says so', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await makeProject(service);
    await service.run(
      `insert into keyring.audit_log (actor, action, outcome, project_id, subject)
       values ('test', 'key.made', 'succeeded', $1, 'key:1')`,
      [project.id],
    );
    await remove(admin, project);
    const trail = await admin.run(
      'select action, subject, principal_kind as kind from keyring.audit_log where project_id = $1 order by id',
      [project.id],
    );
    expect(trail).toEqual([
      { action: 'key.made', subject: 'key:1', kind: null },
      { action: 'project.deleted', subject: `project:${project.id}`, kind: 'system' },
    ]);
  });

  test.each([
    [[], 'canceled'],
    [['staged'], 'canceled'],
    [['staged', 'sweeping'], 'canceled'],
    [['staged', 'sweeping', 'verifying'], 'canceled'],
    [['staged', 'sweeping', 'blocked'], 'canceled'],
    [['staged', 'sweeping', 'rolling_back'], 'canceled'],
    [['staged', 'sweeping', 'verifying', 'completed'], 'completed'],
  ])('during a rotation that went through %j leaves it %s', async (states, end) => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await makeProject(service);
    const id = await rotation(service, project, states);
    expect(await remove(admin, project)).toBe('done');
    const [row] = await admin.run(
      'select state, project_name, error_code from keyring.rotation_projects where rotation_id = $1',
      [id],
    );
    const error_code = end === 'canceled' ? 'project_deleted' : null;
    expect(row).toEqual({ state: end, project_name: 'named', error_code });
  });

  test('leaves nothing done when it is rolled back', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await admin.run('begin');
    await remove(admin, project);
    await admin.run('rollback');
    expect(await outcome(putSecret(service, project, project.keys[0]))).toBe('done');
    expect(await countIn(admin, 'keyring.audit_log', project)).toBe(0);
  });
});

// An encrypted column in a table that hangs below another, whose rows go with that one's: the keys go before them.
describe('deleting a project with a table of the second level', () => {
  beforeAll(async () => {
    const { ownerUrl } = on.database;
    await query(
      ownerUrl,
      `create table public.hooks (id uuid primary key default gen_random_uuid(),
         project_id uuid not null references public.projects on delete cascade)`,
    );
    await query(
      ownerUrl,
      `create table public.hook_tokens (id uuid primary key default gen_random_uuid(), project_id uuid not null,
         hook_id uuid not null references public.hooks on delete cascade, token bytea not null, key_id uuid)`,
    );
    await query(
      ownerUrl,
      `select keyring.register_encrypted_column('hook_tokens.token', 'public.hook_tokens', 'token', 'key_id')`,
    );
  });
  afterAll(async () => {
    await query(on.database.ownerUrl, `delete from keyring.encrypted_columns where label = 'hook_tokens.token'`);
    await query(on.database.ownerUrl, 'drop table public.hook_tokens, public.hooks');
  });

  test('takes those rows too', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await makeProject(service);
    const hook = await admin.value('insert into public.hooks (project_id) values ($1) returning id', [project.id]);
    await service.run('insert into public.hook_tokens (project_id, hook_id, token, key_id) values ($1, $2, $3, $4)', [
      project.id,
      hook,
      envelope(project.keys[0]),
      project.keys[0],
    ]);
    expect(await remove(admin, project)).toBe('done');
    expect(await countIn(admin, 'public.hook_tokens', project)).toBe(0);
  });
});

test('deleting a project does not read its tables through, version by version', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const project = await makeProject(service, 20);
  const crowd = await makeProject(service, 2);
  await service.run(
    `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id)
     select $1, 'crowd ' || n, $2, $3 from generate_series(1, 3000) n`,
    [crowd.id, envelope(crowd.keys[0]), crowd.keys[0]],
  );
  await putSecret(service, project, project.keys[0]);
  await admin.run('analyze public.secrets');
  const scanned = `select pg_stat_get_xact_tuples_returned('public.secrets'::regclass)::int`;
  await admin.run('begin');
  expect(await remove(admin, project)).toBe('done');
  expect(await admin.value<number>(scanned)).toBeLessThan(100);
  await admin.run('commit');
});
