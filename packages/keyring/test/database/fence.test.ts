import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  copyIn,
  envelope,
  isolations,
  makeProject,
  outcome,
  promote,
  putSecret,
  reencrypt,
  rowsUnder,
  useDatabase,
  type Isolation,
  type Project,
  type Session,
} from './support.ts';

const on = useDatabase();

/** Every way to put a ciphertext into a row. `row` is a secret under version 1; `key` is what to write under. */
const writes: Record<string, (by: Session, project: Project, key: string, row: string) => Promise<unknown>> = {
  insert: (by, project, key) => putSecret(by, project, key),
  update: (by, _, key, row) => reencrypt(by, row, key),
  'update of the ciphertext alone': (by, _, key, row) =>
    by.run('update public.secrets set value_encrypted = $2 where id = $1', [row, envelope(key)]),
  'insert of many rows': (by, project, key) =>
    by.run(
      `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id)
       select $1, 'many ' || n, $2, $3 from generate_series(1, 50) n`,
      [project.id, envelope(key), key],
    ),
  'update of many rows': (by, project, key) =>
    by.run('update public.secrets set value_encrypted = $2, encryption_key_id = $3 where project_id = $1', [
      project.id,
      envelope(key),
      key,
    ]),
  'update from another table': (by, project, key, row) =>
    by.run(
      `update public.secrets s set value_encrypted = $2, encryption_key_id = k.id
       from keyring.encryption_keys k where k.id = $3 and k.project_id = $4 and s.id = $1`,
      [row, envelope(key), key, project.id],
    ),
  'merge that inserts': (by, project, key) => merge(by, project, key, randomUUID()),
  'merge that updates': (by, project, key, row) => merge(by, project, key, row),
  'insert on conflict do update, inserting': (by, project, key) => upsert(by, project, key, 'a new name'),
  'insert on conflict do update, updating': (by, project, key) => upsert(by, project, key, 'row'),
  'writable common table expression': (by, project, key, row) =>
    by.run(
      `with changed as (update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1 returning id),
         made as (insert into public.secrets (project_id, key, value_encrypted, encryption_key_id)
           values ($4, 'from a cte', $2, $3) returning id)
       select * from changed union all select * from made`,
      [row, envelope(key), key, project.id],
    ),
  copy: (by, project, key) =>
    copyIn(by, 'public.secrets (project_id, key, value_encrypted, encryption_key_id)', [
      project.id,
      'copied',
      `\\\\x${envelope(key).toString('hex')}`,
      key,
    ]),
  'insert in a function': (by, project, key) =>
    by.run(`do $$ begin insert into public.secrets (project_id, key, value_encrypted, encryption_key_id)
      values ('${project.id}', 'from a block', '\\x${envelope(key).toString('hex')}', '${key}'); end $$`),
};

function merge(by: Session, project: Project, key: string, row: string): Promise<unknown> {
  return by.run(
    `merge into public.secrets s using (select $1::uuid as id) w on s.id = w.id
     when matched then update set value_encrypted = $2, encryption_key_id = $3
     when not matched then insert (id, project_id, key, value_encrypted, encryption_key_id)
       values (w.id, $4, 'merged', $2, $3)`,
    [row, envelope(key), key, project.id],
  );
}

function upsert(by: Session, project: Project, key: string, name: string): Promise<unknown> {
  return by.run(
    `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id) values ($1, $2, $3, $4)
     on conflict (project_id, key) do update set value_encrypted = excluded.value_encrypted,
       encryption_key_id = excluded.encryption_key_id`,
    [project.id, name, envelope(key), key],
  );
}

// PostgreSQL has no COPY into a table under row-level security: only who bypasses that can try.
const writerFor = (way: string): Promise<Session> => (way === 'copy' ? on.admin() : on.service());

// Under the stricter levels it is PostgreSQL that refuses first, because the pointer moved after the snapshot.
const refusalUnder: Record<Isolation, string> = {
  'read committed': 'MK001',
  'repeatable read': '40001',
  serializable: '40001',
};

describe.each(isolations)('under %s', (isolation) => {
  test.each(Object.keys(writes))(
    'a writer that began before a promote cannot write under the old version: %s',
    async (way) => {
      const [writer, promoter, admin] = await Promise.all([writerFor(way), on.service(), on.admin()]);
      const project = await makeProject(promoter);
      const [v1, v2] = project.keys;
      const row = await putSecret(promoter, project, v1, 'row');

      await writer.run(`begin isolation level ${isolation}`);
      await writer.run('select count(*) from public.secrets');
      expect(await promote(promoter, project, v1, v2)).toBe(true);

      expect(await outcome(writes[way]!(writer, project, v1, row))).toBe(refusalUnder[isolation]);
      await writer.run('rollback');
      expect(await rowsUnder(admin, project, v1)).toBe(1);
    },
  );
});

const whole = Object.keys(writes).filter((way) => way !== 'update of the ciphertext alone');
test.each(whole)('nor can one that begins after it; the new version is welcome: %s', async (way) => {
  const [writer, admin] = await Promise.all([writerFor(way), on.admin()]);
  const project = await makeProject(admin);
  const [v1, v2] = project.keys;
  const row = await putSecret(writer, project, v1, 'row');
  expect(await promote(writer, project, v1, v2)).toBe(true);

  expect(await outcome(writes[way]!(writer, project, v1, row))).toBe('MK001');
  expect(await rowsUnder(admin, project, v2)).toBe(0);
  expect(await outcome(writes[way]!(writer, project, v2, row))).toBe('done');
  expect(await rowsUnder(admin, project, v2)).toBeGreaterThan(0);
});

test('a batch with a single stale row is refused whole', async () => {
  const [writer, admin] = await Promise.all([on.service(), on.admin()]);
  const project = await makeProject(writer);
  const [v1, v2] = project.keys;
  expect(await promote(writer, project, v1, v2)).toBe(true);
  const batch = writer.run(
    `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id)
     select $1, k::text, case k when $3 then $4::bytea else $5::bytea end, k from unnest(array[$2, $3]::uuid[]) k`,
    [project.id, v2, v1, envelope(v1), envelope(v2)],
  );
  expect(await outcome(batch)).toBe('MK001');
  expect(await rowsUnder(admin, project, v2)).toBe(0);
});

test('before its promote commits, the next version is refused', async () => {
  const [writer, promoter] = await Promise.all([on.service(), on.service()]);
  const project = await makeProject(writer);
  expect(await outcome(putSecret(writer, project, project.keys[1]))).toBe('MK001');
  await promoter.run('begin');
  await promote(promoter, project, ...project.keys);
  expect(await outcome(putSecret(writer, project, project.keys[1]))).toBe('done');
});

test('a version of another project is refused', async () => {
  const writer = await on.service();
  const [mine, theirs] = [await makeProject(writer), await makeProject(writer)];
  expect(await outcome(putSecret(writer, mine, theirs.keys[0]))).toBe('MK001');
});

test('a project without a keyring takes no ciphertext', async () => {
  const writer = await on.service();
  const other = await makeProject(writer);
  const [{ id }] = (await writer.run(
    `insert into public.projects (owner, name) values (gen_random_uuid(), 'new') returning id`,
  )) as [{ id: string }];
  expect(await outcome(putSecret(writer, { id }, other.keys[0]))).toBe('MK001');
});

test('a refused write can be retried in the same transaction under the new version', async () => {
  const [writer, promoter] = await Promise.all([on.service(), on.service()]);
  const project = await makeProject(writer);
  const [v1, v2] = project.keys;
  await writer.run('begin');
  await promote(promoter, project, v1, v2);
  await writer.run('savepoint before_write');
  expect(await outcome(putSecret(writer, project, v1))).toBe('MK001');
  await writer.run('rollback to savepoint before_write');
  await putSecret(writer, project, v2);
  expect(await outcome(writer.run('commit'))).toBe('done');
});

// "`insert … on conflict do update` keeps the old row's id under a ciphertext bound to the new one": why `put` has none.
test('an upsert keeps the row id it finds, not the one its ciphertext was bound to', async () => {
  const writer = await on.service();
  const project = await makeProject(writer);
  const kept = await putSecret(writer, project, project.keys[0], 'row');
  const boundTo = randomUUID();
  const id = await writer.value(
    `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id) values ($1, $2, 'row', $3, $4)
     on conflict (project_id, key) do update set value_encrypted = excluded.value_encrypted returning id`,
    [boundTo, project.id, envelope(project.keys[0]), project.keys[0]],
  );
  expect(id).toBe(kept);
  expect(id).not.toBe(boundTo);
});
