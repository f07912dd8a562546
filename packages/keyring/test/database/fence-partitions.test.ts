import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { query } from '../../../../test/support/database.ts';
import { envelope, isolations, makeProject, outcome, promote, useDatabase, type Session } from './support.ts';

const on = useDatabase();

/** `tokens` is split by its own `kind`: a promote has to hold for the whole and for each part addressed directly. */
beforeAll(async () => {
  const { ownerUrl } = on.database;
  await query(
    ownerUrl,
    `create table public.tokens (
       id uuid not null default gen_random_uuid(), project_id uuid not null references public.projects on delete cascade,
       kind text not null, note text, token bytea not null, token_key_id uuid, primary key (id, kind)
     ) partition by list (kind)`,
  );
  await query(ownerUrl, `create table public.tokens_api partition of public.tokens for values in ('api')`);
  await query(ownerUrl, `create table public.tokens_hook partition of public.tokens for values in ('hook')`);
  await query(
    ownerUrl,
    `select keyring.register_encrypted_column('tokens.token', 'public.tokens', 'token', 'token_key_id')`,
  );
  await query(ownerUrl, `create table public.tokens_later partition of public.tokens for values in ('later')`);
  await query(ownerUrl, `create table public.tokens_joined (like public.tokens including all)`);
  await query(ownerUrl, `alter table public.tokens attach partition public.tokens_joined for values in ('joined')`);
});

const targets = [
  ['tokens', 'api'],
  ['tokens_api', 'api'],
  ['tokens_hook', 'hook'],
  ['tokens_later', 'later'],
  ['tokens_joined', 'joined'],
] as const;

async function put(by: Session, table: string, kind: string, project: { id: string }, key: string): Promise<string> {
  const id = randomUUID();
  await by.run(`insert into public.${table} (id, project_id, kind, token, token_key_id) values ($1, $2, $3, $4, $5)`, [
    id,
    project.id,
    kind,
    envelope(key),
    key,
  ]);
  return id;
}

describe.each(isolations)('under %s', (isolation) => {
  // As superuser: the service is granted nothing on a single partition, and the fence holds for everybody.
  test.each(targets)('no stale version gets into %s', async (table, kind) => {
    const [writer, promoter] = await Promise.all([on.admin(), on.service()]);
    const project = await makeProject(promoter);
    const [v1, v2] = project.keys;
    const row = await put(writer, table, kind, project, v1);

    await writer.run(`begin isolation level ${isolation}`);
    await writer.run('select count(*) from public.tokens');
    await promote(promoter, project, v1, v2);
    expect(await outcome(put(writer, table, kind, project, v1))).toMatch(/MK001|40001/);
    await writer.run('rollback');
    const update = writer.run(`update public.${table} set token = $2, token_key_id = $3 where id = $1`, [
      row,
      envelope(v1),
      v1,
    ]);
    expect(await outcome(update)).toBe('MK001');
    expect(await outcome(put(writer, table, kind, project, v2))).toBe('done');
  });
});

test('the service writes through the partitioned table and reaches no partition directly', async () => {
  const writer = await on.service();
  const project = await makeProject(writer);
  expect(await outcome(put(writer, 'tokens', 'hook', project, project.keys[0]))).toBe('done');
  expect(await outcome(put(writer, 'tokens_hook', 'hook', project, project.keys[0]))).toBe('42501');
});

test('the catalog has nothing to say against a partitioned table, until a partition loses its fence', async () => {
  const owner = await on.owner();
  const problems = () => owner.run('select code, relation from keyring.catalog_problems()');
  expect(await problems()).toEqual([]);
  await owner.run('alter table public.tokens_hook disable trigger zz_keyring_fence_insert_tokens__token');
  expect(await problems()).toEqual([{ code: 'missing_fence', relation: 'public.tokens_hook' }]);
  await owner.run('alter table public.tokens_hook enable trigger zz_keyring_fence_insert_tokens__token');
  await owner.run(`create function public.meddle() returns trigger language plpgsql as $$ begin return new; end $$`);
  await owner.run(
    'create trigger zzz_meddle before insert on public.tokens_api for each row execute function public.meddle()',
  );
  expect(await problems()).toEqual([{ code: 'trigger_after_fence', relation: 'public.tokens_api' }]);
  await owner.run('drop trigger zzz_meddle on public.tokens_api');
});

// "The statement-level form is cheaper but is bypassed by direct inserts into partitions and refuses harmless edits (a
// rename) of a row that is not swept yet."
test('a fence per statement would be bypassed in a partition, and would refuse to rename a stale row', async () => {
  const admin = await on.admin();
  await admin.run(`create function public.fence_statement() returns trigger language plpgsql as $$
    begin
      if exists (select from written w left join keyring.keyrings k using (project_id)
        where w.token_key_id is distinct from k.primary_key_id)
      then raise exception 'stale key version' using errcode = 'MK001'; end if;
      return null;
    end $$`);
  for (const event of ['insert', 'update']) {
    await admin.run(`drop trigger zz_keyring_fence_${event}_tokens__token on public.tokens`);
    await admin.run(`create trigger fence_${event} after ${event} on public.tokens
      referencing new table as written for each statement execute function public.fence_statement()`);
  }
  const project = await makeProject(admin);
  const [v1, v2] = project.keys;
  const row = await put(admin, 'tokens', 'api', project, v1);
  await promote(admin, project, v1, v2);
  expect(await outcome(put(admin, 'tokens', 'api', project, v1))).toBe('MK001');
  expect(await outcome(put(admin, 'tokens_api', 'api', project, v1))).toBe('done');
  expect(await outcome(admin.run(`update public.tokens set note = 'a note' where id = $1`, [row]))).toBe('MK001');
});
