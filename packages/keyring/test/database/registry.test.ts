import { beforeEach, describe, expect, test } from 'vitest';
import { query } from '../../../../test/support/database.ts';
import { envelope, makeProject, outcome, promote, rewrite, useDatabase, type Session } from './support.ts';

const on = useDatabase();

const problems = (by: Session) =>
  by.run<{ code: string; relation: string; column_name: string | null }>(
    'select code, relation, column_name from keyring.catalog_problems() order by relation, column_name, code',
  );

const register = (
  by: Session,
  label: string,
  table: string,
  ciphertext: string,
  keyId: string,
  project = 'project_id',
) =>
  by.run('select keyring.register_encrypted_column($1, $2, $3, $4, $5, $6)', [
    label,
    table,
    ciphertext,
    keyId,
    'id',
    project,
  ]);

/** `public.webhooks`, as an application adds it, with its signing secret registered. */
beforeEach(async () => {
  const { ownerUrl } = on.database;
  await query(ownerUrl, `delete from keyring.encrypted_columns where label <> 'secrets.value'`);
  await query(ownerUrl, 'drop table if exists public.webhooks, public.hooks cascade');
  await query(
    ownerUrl,
    `create table public.webhooks (id uuid primary key default gen_random_uuid(),
       project_id uuid not null references public.projects on delete cascade, url text, secret bytea not null, key_id uuid)`,
  );
  await query(
    ownerUrl,
    `select keyring.register_encrypted_column('webhooks.secret', 'public.webhooks', 'secret', 'key_id')`,
  );
});

async function put(by: Session, project: { id: string }, key: string): Promise<void> {
  await by.run('insert into public.webhooks (project_id, secret, key_id) values ($1, $2, $3)', [
    project.id,
    envelope(key),
    key,
  ]);
}

test('a registered column is behind the fence and in the count', async () => {
  const [service, owner] = await Promise.all([on.service(), on.owner()]);
  expect(await problems(owner)).toEqual([]);
  const project = await makeProject(service);
  await put(service, project, project.keys[0]);
  await promote(service, project, ...project.keys);
  expect(await outcome(put(service, project, project.keys[0]))).toBe('MK001');
  expect(await service.run('select label, row_count::int from keyring.reference_counts($1)', [project.id])).toEqual([
    { label: 'webhooks.secret', row_count: 1 },
  ]);
});

describe('the catalog tells of', () => {
  test('a column that names keys and is not registered, by name', async () => {
    const owner = await on.owner();
    await owner.run(`alter table public.webhooks add column old_key_id uuid,
      add foreign key (project_id, old_key_id) references keyring.encryption_keys (project_id, id)`);
    await owner.run('create table public.hooks (id uuid primary key, key uuid, project uuid)');
    await owner.run(
      'alter table public.hooks add foreign key (key, project) references keyring.encryption_keys (id, project_id)',
    );
    expect(await problems(owner)).toEqual([
      { code: 'unregistered_column', relation: 'public.hooks', column_name: 'key' },
      { code: 'unregistered_column', relation: 'public.webhooks', column_name: 'old_key_id' },
    ]);
  });

  test.each([
    ['renamed ciphertext', 'rename column secret to sealed', 'missing_column', 'secret'],
    ['renamed key id', 'rename column key_id to sealed_by', 'missing_column', 'key_id'],
    ['renamed project', 'rename column project_id to workspace_id', 'missing_column', 'project_id'],
    ['renamed row id', 'rename column id to webhook_id', 'missing_column', 'id'],
    ['disabled fence', 'disable trigger zz_keyring_fence_update_webhooks__secret', 'missing_fence', 'secret'],
    [
      'fence for replicas only',
      'enable replica trigger zz_keyring_fence_insert_webhooks__secret',
      'missing_fence',
      'secret',
    ],
    ['lost foreign key', 'drop constraint webhooks_project_id_key_id_fkey', 'missing_foreign_key', 'key_id'],
    ['row-level security off', 'disable row level security', 'row_security_off', null],
  ])('a %s', async (_, change, code, column) => {
    const owner = await on.owner();
    await owner.run(`alter table public.webhooks ${change}`);
    expect(await problems(owner)).toContainEqual({ code, relation: 'public.webhooks', column_name: column });
  });

  test('a dropped column and a dropped table', async () => {
    const owner = await on.owner();
    await owner.run('alter table public.webhooks drop column secret cascade');
    expect(await problems(owner)).toContainEqual({
      code: 'missing_column',
      relation: 'public.webhooks',
      column_name: 'secret',
    });
    await owner.run('drop table public.webhooks');
    expect((await problems(owner)).map((problem) => problem.code)).toEqual(['missing_table']);
  });

  test('a trigger of the fence’s name that is not the fence', async () => {
    const owner = await on.owner();
    const name = 'zz_keyring_fence_insert_webhooks__secret';
    await owner.run(`drop trigger ${name} on public.webhooks`);
    await owner.run(`create trigger ${name} before insert on public.webhooks
      for each row execute function public.update_updated_at_column()`);
    expect((await problems(owner)).map((problem) => problem.code)).toContain('missing_fence');
  });

  test('a trigger that fires after the fence, which could change what it checked; not of one before or on delete', async () => {
    const owner = await on.owner();
    await owner.run(
      `create or replace function public.meddle() returns trigger language plpgsql as $$ begin return new; end $$`,
    );
    const create = (name: string, when: string) =>
      owner.run(`create trigger ${name} ${when} on public.webhooks for each row execute function public.meddle()`);
    await create('meddle', 'before insert or update');
    await create('zzz_delete', 'before delete');
    await create('zzz_after', 'after insert');
    expect(await problems(owner)).toEqual([]);
    await create('zzz_meddle', 'before update');
    expect(await problems(owner)).toEqual([
      { code: 'trigger_after_fence', relation: 'public.webhooks', column_name: 'zzz_meddle' },
    ]);
  });

  test.each([
    ['is gone', 'drop function keyring.move_webhooks__secret'],
    ['runs as its caller', 'alter function keyring.move_webhooks__secret security invoker'],
    ['runs as another', 'alter function keyring.move_webhooks__secret owner to keyring_owner'],
    ['looks at the caller’s types', `alter function keyring.move_webhooks__secret set search_path = ''`],
  ])('a move function that %s', async (_, change) => {
    const owner = await on.owner();
    await owner.run(change);
    const missing = { code: 'missing_move', relation: 'public.webhooks', column_name: 'secret' };
    expect(await problems(owner)).toEqual([missing]);
    await register(owner, 'webhooks.secret', 'public.webhooks', 'secret', 'key_id');
    expect(await problems(owner)).toEqual([]);
  });

  test('a move function that was changed', async () => {
    const [admin, owner] = await Promise.all([on.admin(), on.owner()]);
    await rewrite(admin, 'keyring.move_webhooks__secret', (source) =>
      source.replace('is not null and', 'is not null or'),
    );
    expect((await problems(owner)).map((problem) => problem.code)).toEqual(['missing_move']);
  });

  test('policies that hide rows from the count', async () => {
    const owner = await on.owner();
    const hidden = [{ code: 'hidden_rows', relation: 'public.webhooks', column_name: null }];
    await owner.run('create policy a_few on public.webhooks as restrictive for select to public using (url is null)');
    expect(await problems(owner)).toEqual(hidden);
    await owner.run('drop policy a_few on public.webhooks');
    await owner.run('create policy a_write on public.webhooks as restrictive for update to public using (false)');
    await owner.run(
      'create policy for_others on public.webhooks as restrictive for select to authenticated using (false)',
    );
    expect(await problems(owner)).toEqual([]);
    await owner.run('alter policy keyring_owner on public.webhooks using (url is null)');
    expect(await problems(owner)).toEqual(hidden);
  });
});

describe('registering again under the same label', () => {
  test('follows a rename of table and columns, and its rows stay', async () => {
    const [service, owner] = await Promise.all([on.service(), on.owner()]);
    const project = await makeProject(service);
    const [v1, v2] = project.keys;
    await put(service, project, v1);
    await owner.run('alter table public.webhooks rename to hooks');
    // The registry holds the table, not its name; what moves rows was made for the name.
    expect(await problems(owner)).toEqual([{ code: 'missing_move', relation: 'public.hooks', column_name: 'secret' }]);
    await owner.run('alter table public.hooks rename column secret to sealed');
    await owner.run('alter table public.hooks rename column key_id to sealed_by');
    const write = (key: string) =>
      outcome(
        service.run('insert into public.hooks (project_id, sealed, sealed_by) values ($1, $2, $3)', [
          project.id,
          envelope(key),
          key,
        ]),
      );
    // Until it is registered again nothing gets in: the fence misses the column it was made for.
    expect(await write(v1)).toBe('42703');
    await register(owner, 'webhooks.secret', 'public.hooks', 'sealed', 'sealed_by');
    expect(await problems(owner)).toEqual([]);
    expect(await write(v1)).toBe('done');
    await promote(service, project, v1, v2);
    expect(await write(v1)).toBe('MK001');
    expect(await service.value('select row_count::int from keyring.reference_counts($1)', [project.id])).toBe(2);
  });

  test('twice changes nothing', async () => {
    const owner = await on.owner();
    const state = () =>
      owner.run(
        `select t.tgname as name, pg_get_triggerdef(t.oid) as definition from pg_trigger t
           where t.tgrelid = 'public.webhooks'::regclass and not t.tgisinternal
         union all select p.policyname, p.roles::text || p.cmd from pg_policies p where p.tablename = 'webhooks'
         union all select c.conname, pg_get_constraintdef(c.oid) from pg_constraint c
           where c.conrelid = 'public.webhooks'::regclass
         order by 1`,
      );
    const before = await state();
    await register(owner, 'webhooks.secret', 'public.webhooks', 'secret', 'key_id');
    expect(await state()).toEqual(before);
  });

  test('replaces a foreign key that leaves the project out by one that does not', async () => {
    const owner = await on.owner();
    await owner.run('alter table public.webhooks drop constraint webhooks_project_id_key_id_fkey');
    await owner.run('alter table public.webhooks add foreign key (key_id) references keyring.encryption_keys (id)');
    expect((await problems(owner)).map((problem) => problem.code)).toEqual(['missing_foreign_key']);
    await register(owner, 'webhooks.secret', 'public.webhooks', 'secret', 'key_id');
    expect(await problems(owner)).toEqual([]);
  });
});

describe('a label', () => {
  test.each(['', 'Upper', '1st', 'a..b', 'a.', 'a b', 'a__b', 'a;b', 'x'.repeat(40), `${'x'.repeat(37)}.yy`])(
    'is refused where names made of it could be ambiguous: %j',
    async (label) => {
      const owner = await on.owner();
      await owner.run('alter table public.webhooks add column other bytea, add column other_key_id uuid');
      expect(await outcome(register(owner, label, 'public.webhooks', 'other', 'other_key_id'))).toBe('23514');
    },
  );

  test('at its longest still has a fence that the catalog finds', async () => {
    const owner = await on.owner();
    await owner.run('alter table public.webhooks add column other bytea, add column other_key_id uuid');
    await register(owner, `${'x'.repeat(20)}.${'y'.repeat(17)}`, 'public.webhooks', 'other', 'other_key_id');
    expect(await problems(owner)).toEqual([]);
  });
});

test('two encrypted columns of one table are fenced apart', async () => {
  const [service, owner] = await Promise.all([on.service(), on.owner()]);
  await owner.run('alter table public.webhooks add column other bytea not null, add column other_key_id uuid');
  await register(owner, 'webhooks.other', 'public.webhooks', 'other', 'other_key_id');
  expect(await problems(owner)).toEqual([]);
  const project = await makeProject(service);
  const [v1, v2] = project.keys;
  const write = (one: string, two: string) =>
    outcome(
      service.run(
        'insert into public.webhooks (project_id, secret, key_id, other, other_key_id) values ($1, $2, $3, $4, $5)',
        [project.id, envelope(one), one, envelope(two), two],
      ),
    );
  expect(await write(v1, v1)).toBe('done');
  expect(await write(v1, v2)).toBe('MK001');
  expect(await write(v2, v1)).toBe('MK001');
  await promote(service, project, v1, v2);
  expect(
    await outcome(service.run('update public.webhooks set other = $1, other_key_id = $2', [envelope(v2), v2])),
  ).toBe('done');
});

test('a column may have no value: that is stored, set, and taken away, and never passed off as one', async () => {
  const [service, owner] = await Promise.all([on.service(), on.owner()]);
  await owner.run('alter table public.webhooks alter column secret drop not null');
  const project = await makeProject(service);
  const [v1, v2] = project.keys;
  const insert = (secret: Buffer | null, key: string | null) =>
    outcome(
      service.run('insert into public.webhooks (project_id, secret, key_id) values ($1, $2, $3)', [
        project.id,
        secret,
        key,
      ]),
    );
  const update = (secret: Buffer | null, key: string | null) =>
    outcome(
      service.run('update public.webhooks set secret = $2, key_id = $3 where project_id = $1', [
        project.id,
        secret,
        key,
      ]),
    );
  expect(await insert(null, null)).toBe('done');
  expect(await insert(null, v1)).toBe('MK003');
  expect(await insert(envelope(v1), null)).toBe('MK002');
  expect(await update(envelope(v1), v1)).toBe('done');
  expect(await update(null, v1)).toBe('MK003');
  expect(await update(envelope(v1), null)).toBe('MK002');
  await promote(service, project, v1, v2);
  expect(await update(null, null)).toBe('done');
  expect(await update(envelope(v1), v1)).toBe('MK001');
  const move = outcome(service.run('update public.webhooks set project_id = $1', [(await makeProject(service)).id]));
  expect(await move).toBe('MK004');
});

test('a column that is taken out leaves nothing behind that moves its rows', async () => {
  const owner = await on.owner();
  const moves = () => owner.run(`select p.proname from pg_proc p where p.proname = 'move_webhooks__secret'`);
  expect(await moves()).toHaveLength(1);
  await owner.run(`select keyring.unregister_encrypted_column('webhooks.secret')`);
  expect(await moves()).toEqual([]);
});

test('only the owner of the table registers it', async () => {
  const service = await on.service();
  expect(await outcome(register(service, 'webhooks.other', 'public.webhooks', 'secret', 'key_id'))).toBe('42501');
});
