import { randomUUID } from 'node:crypto';
import type { Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { codeOf, detailOf, expectHealthy } from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let projectId: string;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open({ sweepBatchSize: 2 });
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  await keyring.secrets.put(projectId, 'A', 'a');
});
afterEach(() => installation.end());

/** A table with an encrypted column, its row ids of this type. */
async function addTable(name: string, idType: string, more = ''): Promise<void> {
  await installation.asOwner(
    `create table public.${name} (
       id ${idType} not null, project_id uuid not null references public.projects (id) on delete cascade,
       token bytea, token_key_id uuid, primary key (id)) ${more}`,
    `select keyring.register_encrypted_column('${name}.token', 'public.${name}', 'token', 'token_key_id')`,
  );
}

async function addRow(table: string, id: string, value: string, label = `${table}.token`): Promise<void> {
  const { keyId, envelope } = await installation.seal({ projectId, label, rowId: id }, value);
  await installation.sql(`insert into public.${table} (id, project_id, token, token_key_id) values ($1, $2, $3, $4)`, [
    id,
    projectId,
    envelope,
    keyId,
  ]);
}

/** What a table holds, opened, and whether all of it is under the primary version. */
async function contents(
  table: string,
  label = `${table}.token`,
): Promise<{ values: Record<string, string>; fresh: boolean }> {
  const rows = await installation.sql<{ id: string; envelope: Buffer; keyId: string; primary: string }>(
    `select t.id::text, t.token as envelope, t.token_key_id as "keyId", r.primary_key_id as primary
     from public.${table} t join keyring.keyrings r using (project_id) order by t.id`,
  );
  const values: Record<string, string> = {};
  for (const row of rows) values[row.id] = await installation.unseal({ projectId, label, rowId: row.id }, row);
  return { values, fresh: rows.every((row) => row.keyId === row.primary) };
}

async function rotate(): Promise<string> {
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  return id;
}

test.each([
  ['bigint', ['1', '2', '10', '9223372036854775807']],
  ['text', ['one', 'ONE', 'two words', "o'brien", 'ünï', '\\x00', 'x'.repeat(200)]],
  ['uuid', [randomUUID(), randomUUID(), randomUUID()]],
  ['numeric(10,2)', ['1.50', '2.00']],
  ['varchar(20)', ['a', 'b']],
  ['char(3)', ['a', 'bcd']],
])('a registered column is rotated with the secrets, whatever its row ids are: %s', async (type, ids) => {
  await addTable('tokens', type);
  for (const id of ids) await addRow('tokens', id, `value of ${id}`);
  const id = await rotate();
  expect(await contents('tokens')).toEqual({
    values: Object.fromEntries(ids.map((one) => [one, `value of ${one}`])),
    fresh: true,
  });
  expect((await detailOf(keyring, id)).rows).toMatchObject({ moved: ids.length + 1, verified: ids.length + 1 });
  await expectHealthy(keyring);
});

test.each([
  'timestamptz',
  'timestamp',
  'date',
  'interval',
  'float8',
  'bytea',
  'boolean',
  'numeric',
  'text collate public.caseless',
  'public.moment',
])('a column whose row ids have more than one text is not registered: %s', async (type) => {
  await installation.asOwner(
    `create collation if not exists public.caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
    `do $$ begin
       if to_regtype('public.moment') is null then create domain public.moment as timestamptz; end if;
     end $$`,
  );
  await expect(addTable('tokens', type)).rejects.toMatchObject({
    code: 'MK005',
    message: expect.stringMatching(/^row_id_type: column id of public\.tokens is of type /) as string,
    hint: expect.stringContaining('Name a unique column') as string,
  });
});

test('a row without a value is nobody’s trouble: not of a rotation, not of the doctor, who finds plaintext all the same', async () => {
  await addTable('tokens', 'bigint');
  await addRow('tokens', '1', 'value of 1');
  await installation.sql('insert into public.tokens (id, project_id) values (2, $1)', [projectId]);
  const id = await rotate();
  expect((await detailOf(keyring, id)).rows).toMatchObject({ total: 2, moved: 2, verified: 2 });
  await expectHealthy(keyring);
  await installation.behindTheFence(`update public.tokens set token = 'plain' where id = 2`);
  expect((await keyring.doctor()).findings).toContainEqual(
    expect.objectContaining({ code: 'not_encrypted', message: '1 row of tokens.token is not encrypted yet.' }),
  );
});

test('a text row whose id no associated data can hold is quarantined, and does not end the rotation of others', async () => {
  await addTable('tokens', 'text');
  await addRow('tokens', 'good', 'good');
  const other = (await keyring.projects.create({ name: 'other' })).id;
  await keyring.secrets.put(other, 'B', 'b');
  const { keyId, envelope } = await installation.seal({ projectId, label: 'tokens.token', rowId: 'good' }, 'good');
  for (const id of ['', 'x'.repeat(201)]) {
    // The fence looks at the envelope and its key, and lets this through.
    await installation.sql('insert into public.tokens (id, project_id, token, token_key_id) values ($1, $2, $3, $4)', [
      id,
      projectId,
      envelope,
      keyId,
    ]);
  }
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 2, blocked: 1, completed: 1 });
  expect((await detailOf(keyring, id)).quarantine.map((row) => row.rowId).sort()).toEqual(['', 'x'.repeat(201)]);
  expect((await keyring.doctor()).healthy).toBe(false);
  await installation.sql(`delete from public.tokens where id <> 'good'`);
  await keyring.rotations.resume(id);
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  await expectHealthy(keyring);
});

test('a column with a foreign key to the keys that nobody registered stops the request, and is named', async () => {
  await installation.asOwner(
    `create table public.forgotten (
       id bigint primary key, project_id uuid not null, secret bytea, secret_key uuid,
       foreign key (project_id, secret_key) references keyring.encryption_keys (project_id, id) on delete cascade)`,
  );
  await expect(keyring.rotations.request({ projects: 'all' })).rejects.toMatchObject({
    code: 'unregistered_column',
    message: expect.stringContaining('forgotten.secret_key') as string,
  });
  expect(await codeOf(keyring.rotations.preview({ projects: 'all' }))).toBe('unregistered_column');
  expect(await keyring.rotations.list()).toEqual([]);
  const [finding] = (await keyring.doctor()).findings;
  expect(finding).toMatchObject({ severity: 'error', code: 'unregistered_column' });
  await installation.asOwner(
    `select keyring.register_encrypted_column('forgotten.secret', 'public.forgotten', 'secret', 'secret_key')`,
  );
  await rotate();
  await expectHealthy(keyring);
});

test.each([
  ['in the sweep', 'keyring.move_'],
  ['before the last count', 'rows_verified = $3'],
])('a column that appears unregistered %s blocks the rotation by name, until it is registered', async (_when, at) => {
  await keyring.secrets.put(projectId, 'B', 'b');
  let appeared = false;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!appeared && statement.text.includes(at)) {
          appeared = true;
          await installation.asOwner(
            `create table public.forgotten (
               id bigint primary key, project_id uuid not null, secret bytea, secret_key uuid,
               foreign key (project_id, secret_key) references keyring.encryption_keys (project_id, id))`,
          );
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: 'all' });
  expect((await rotator.rotations.run(id)).state).toBe('blocked');
  const [project] = (await detailOf(keyring, id)).projectDetails;
  expect(project).toMatchObject({ state: 'blocked', errorCode: 'unregistered_column' });
  expect(project?.errorDetail).toContain('forgotten.secret_key');
  await installation.asOwner(
    `select keyring.register_encrypted_column('forgotten.secret', 'public.forgotten', 'secret', 'secret_key')`,
  );
  await keyring.rotations.resume(id);
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  await expectHealthy(keyring);
});

test.each([
  ['one project', 1],
  ['projects together', 3],
])('a column that is registered during the read-back is read back as well: %s', async (_which, count) => {
  for (let more = 1; more < count; more++) {
    const other = (await keyring.projects.create({ name: `other ${String(more)}` })).id;
    await keyring.secrets.put(other, 'A', 'a');
  }
  let registered = false;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        // The read-back: of rows under whatever version.
        const exceptKeyIds = statement.text.includes('as envelope') ? statement.values?.flat().slice(1) : [];
        if (registered || !exceptKeyIds?.includes(null)) return answer;
        registered = true;
        await installation.asOwner(
          'create table public.tokens (id bigint primary key, project_id uuid not null, token bytea, token_key_id uuid)',
        );
        const { keyId, envelope } = await installation.seal(
          { projectId, label: 'tokens.token', rowId: '1' },
          'of row 1',
        );
        await installation.sql('insert into public.tokens values (2, $1, $2, $3)', [projectId, envelope, keyId]);
        await installation.asOwner(
          `select keyring.register_encrypted_column('tokens.token', 'public.tokens', 'token', 'token_key_id')`,
        );
        return answer;
      }),
  });
  const { id } = await rotator.rotations.request({ projects: 'all' });
  expect((await rotator.rotations.run(id)).projects).toMatchObject({ blocked: 1 });
  expect(registered).toBe(true);
  const { quarantine } = await detailOf(keyring, id);
  expect(quarantine).toMatchObject([{ projectId, label: 'tokens.token', rowId: '2', reason: 'does_not_open' }]);
});

test('a table that is renamed between rotations stays readable: its label is frozen', async () => {
  await addTable('tokens', 'bigint');
  for (const id of ['1', '2', '3']) await addRow('tokens', id, `value ${id}`);
  await rotate();
  await installation.asOwner(
    'alter table public.tokens rename to credentials',
    'alter table public.credentials rename token to cipher',
  );
  expect(await codeOf(keyring.rotations.request({ projects: 'all' }))).toBe('unregistered_column');
  await installation.asOwner(
    `select keyring.register_encrypted_column('tokens.token', 'public.credentials', 'cipher', 'token_key_id')`,
  );
  await rotate();
  const rows = await installation.sql<{ id: string; envelope: Buffer; keyId: string }>(
    'select id::text, cipher as envelope, token_key_id as "keyId" from public.credentials order by id',
  );
  for (const row of rows) {
    expect(await installation.unseal({ projectId, label: 'tokens.token', rowId: row.id }, row)).toBe(`value ${row.id}`);
  }
  await expectHealthy(keyring);
});

test('a table that is partitioned between rotations stays readable, and every partition is rotated', async () => {
  await addTable('tokens', 'bigint');
  for (let id = 1; id <= 6; id++) await addRow('tokens', String(id), `value ${String(id)}`);
  await rotate();
  // As a migration of the application would do it: a new, partitioned table takes the rows and the label.
  await installation.asOwner(
    'alter table public.tokens rename to tokens_before',
    `create table public.tokens (
       id bigint not null, project_id uuid not null references public.projects (id) on delete cascade,
       token bytea, token_key_id uuid, primary key (id)) partition by range (id)`,
    'create table public.tokens_low partition of public.tokens for values from (0) to (4)',
    'create table public.tokens_high partition of public.tokens for values from (4) to (100)',
    `select keyring.register_encrypted_column('tokens.token', 'public.tokens', 'token', 'token_key_id')`,
  );
  await installation.sql(
    'insert into public.tokens (id, project_id, token, token_key_id) select id, project_id, token, token_key_id from public.tokens_before',
  );
  await installation.asOwner('drop table public.tokens_before');
  const values = Object.fromEntries([1, 2, 3, 4, 5, 6].map((id) => [String(id), `value ${String(id)}`]));
  for (let round = 0; round < 2; round++) {
    await rotate();
    expect(await contents('tokens')).toEqual({ values, fresh: true });
  }
  await installation.asOwner(
    'create table public.tokens_more partition of public.tokens for values from (100) to (200)',
  );
  await addRow('tokens', '150', 'value 150');
  await rotate();
  expect((await contents('tokens')).values).toEqual({ ...values, '150': 'value 150' });
  await expectHealthy(keyring);
});
