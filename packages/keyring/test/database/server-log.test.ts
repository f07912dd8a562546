import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, inject, test } from 'vitest';
import { makeProject, outcome, promote, putSecret, useDatabase, type Session } from './support.ts';

// No plaintext in PostgreSQL's own log. Values are bound, as the library binds them; what the server adds to a refusal of
// its own accord (message, detail, context) is what this is about. It writes to its log before it answers us.
const on = useDatabase();

const sentinel = () => `sk_live_${randomBytes(6).toString('hex')}`;

async function logHolds(text: string): Promise<boolean> {
  const log = await readFile(inject('cluster').logFile, 'latin1');
  return log.includes(text) || log.includes(Buffer.from(text).toString('hex'));
}

const insert =
  'insert into public.secrets (project_id, key, value_encrypted, encryption_key_id) values ($1, $2, $3, $4)';

test('the server logs what it refuses, with the values it thinks of: this test would notice', async () => {
  const admin = await on.admin();
  const value = sentinel();
  expect(await logHolds(value)).toBe(false);
  await admin.run('create table public.noticed (value bytea, check (octet_length(value) < 5))');
  expect(await outcome(admin.run('insert into public.noticed values ($1)', [Buffer.from(value)]))).toBe('23514');
  expect(await logHolds(value)).toBe(true);
  await admin.run('drop table public.noticed');
});

test('a value refused for any reason is not in the log', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const project = await makeProject(service);
  const [v1, v2] = project.keys;
  const row = await putSecret(service, project, v1, 'taken');
  const value = sentinel();
  const plaintext = Buffer.from(value);
  const under = (keyId: string) =>
    Buffer.concat([
      Buffer.from([1, 1]),
      Buffer.from(keyId.replaceAll('-', ''), 'hex'),
      Buffer.from(value),
      Buffer.alloc(40),
    ]);
  const attempts: [string, (by: Session) => Promise<unknown>][] = [
    ['MK002', (by) => by.run(insert, [project.id, 'new', plaintext, null])],
    ['MK003', (by) => by.run(insert, [project.id, 'new', plaintext, v1])],
    ['MK001', (by) => by.run(insert, [project.id, 'new', under(v2), v2])],
    ['MK002', (by) => by.run(insert, [project.id, null, plaintext, null])],
    ['MK002', (by) => by.run(insert, ['00000000-0000-4000-8000-000000000000', 'new', plaintext, null])],
    ['23505', (by) => by.run(insert, [project.id, 'taken', under(v1), v1])],
    [
      'MK002',
      (by) =>
        by.run('update public.secrets set value_encrypted = $2, encryption_key_id = null where id = $1', [
          row,
          plaintext,
        ]),
    ],
    ['MK003', (by) => by.run('update public.secrets set value_encrypted = $2 where id = $1', [row, plaintext])],
    ['22P02', (by) => by.run(insert, ['no uuid', 'new', plaintext, null])],
  ];
  for (const [state, attempt] of attempts) {
    for (const by of [service, admin]) {
      expect(await outcome(attempt(by))).toBe(state);
    }
  }
  expect(await logHolds(value)).toBe(false);
  expect(await logHolds('plaintext is refused in secrets.value')).toBe(true);
});

test('nor is one that is being adopted, whose row is refused: row-level security keeps rows out of messages', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const project = await makeProject(service);
  const value = sentinel();
  await admin.run(`update keyring.encrypted_columns set accepts_plaintext = true`);
  expect(await outcome(service.run(insert, [project.id, null, Buffer.from(value), null]))).toBe('23502');
  expect(await logHolds(value)).toBe(false);
  await admin.run('update keyring.encrypted_columns set accepts_plaintext = false');
});

// "A refused check constraint prints the row … A `not valid` check is still enforced when an old row is edited."
test('a check constraint instead of the trigger would print old plaintext when its row is renamed', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const project = await makeProject(service);
  const value = sentinel();
  await admin.run('update keyring.encrypted_columns set accepts_plaintext = true');
  await admin.run(insert, [project.id, 'old', Buffer.from(value), null]);
  await admin.run('update keyring.encrypted_columns set accepts_plaintext = false');
  const rename = () =>
    outcome(admin.run(`update public.secrets set key = key || '!' where project_id = $1`, [project.id]));
  expect(await rename()).toBe('done');
  expect(await logHolds(value)).toBe(false);

  await admin.run(
    'alter table public.secrets add constraint encrypted check (encryption_key_id is not null) not valid',
  );
  expect(await rename()).toBe('23514');
  expect(await logHolds(value)).toBe(true);
  await admin.run('alter table public.secrets drop constraint encrypted');
});

test('a stale or foreign ciphertext is refused without a word of it', async () => {
  const service = await on.service();
  const project = await makeProject(service);
  await promote(service, project, ...project.keys);
  const refused = await putSecret(service, project, project.keys[0]).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: 'MK001', message: 'stale key version in secrets.value', detail: undefined });
});
