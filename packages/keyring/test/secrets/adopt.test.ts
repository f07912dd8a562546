import { createCipheriv, randomBytes } from 'node:crypto';
import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase } from '../engine/support/intercept.ts';
import { openTheDoor } from '../engine/support/scenarios.ts';
import { auditPosition, auditSince, clearProjects, codeOf, expectHealthy } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
let projectId: string;
let audited: string;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  await openTheDoor(installation);
  keyring = await installation.open();
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  audited = await auditPosition(installation);
});
afterAll(() => installation.end());

const text = (value: string): Buffer => Buffer.from(value);

/** As MeshHook's own code wrote it, long ago. */
async function old(name: string, stored: Buffer, project = projectId): Promise<string> {
  const [row] = await installation.sql<{ id: string }>(
    `insert into public.secrets (project_id, key, value_encrypted, created_at, updated_at)
     values ($1, $2, $3, '2019-01-01', '2020-01-01') returning id`,
    [project, name, stored],
  );
  return row?.id ?? '';
}

function underLegacyKey(key: Buffer, value: string): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  return Buffer.concat([nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
}

/** Does a connection to this database wait for a lock? */
const somebodyWaits = async (): Promise<boolean> =>
  (
    await installation.sql(
      `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    )
  ).length > 0;

const everything = (): Promise<Record<string, unknown>[]> =>
  installation.sql('select * from public.secrets order by project_id, key');

test('plaintext rows of all projects are encrypted, and stay what and when they were', async () => {
  const other = (await keyring.projects.create({ name: 'other' })).id;
  for (let index = 0; index < 450; index++) await old(`OLD_${String(index)}`, text(`value ${String(index)}`));
  await old('ONE', text('of another'), other);
  const progress: number[] = [];
  const report = await keyring.secrets.adopt({ onProgress: ({ adopted }) => progress.push(adopted) });
  expect(report).toEqual({ found: 451, adopted: 451, failed: [], remaining: 0, finished: false, dryRun: false });
  expect(progress.at(-1)).toBe(451);
  expect((await keyring.secrets.get(projectId, 'OLD_449'))?.value).toBe('value 449');
  expect((await keyring.secrets.get(other, 'ONE'))?.value).toBe('of another');
  const touched = await installation.sql(
    `select key from public.secrets where updated_at <> '2020-01-01' or created_at <> '2019-01-01' or value_written_at is not null`,
  );
  expect(touched).toEqual([]);
  const audit = await auditSince(installation, audited);
  expect(audit['key.created']).toBe(2);
  expect((await keyring.secrets.adopt()).found).toBe(0);
  await expectHealthy(keyring);
});

test('before it is adopted, a row is listed, is not opened, can be put over, and does not stop a rotation', async () => {
  await old('OLD', text('old'));
  await keyring.secrets.put(projectId, 'NEW', 'new');
  const [, entry] = await keyring.secrets.list(projectId);
  expect(entry).toMatchObject({ name: 'OLD', keyId: undefined, version: undefined });
  expect(await codeOf(keyring.secrets.get(projectId, 'OLD'))).toBe('illegal_state');
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  const report = await keyring.doctor();
  expect(report.findings.map((finding) => [finding.severity, finding.code])).toEqual([
    ['warning', 'not_encrypted'],
    ['warning', 'no_backup'],
    ['warning', 'single_admin'],
  ]);
  expect((await keyring.secrets.put(projectId, 'OLD', 'put over')).created).toBe(false);
  expect((await keyring.secrets.get(projectId, 'OLD'))?.value).toBe('put over');
  expect((await keyring.secrets.adopt()).found).toBe(0);
});

test('a dry run changes nothing at all, and tells what would fail', async () => {
  await old('GOOD', text('good'));
  const binary = await old('BINARY', Buffer.from([1, 2, 0xff, 0xfe]));
  const before = await everything();
  const counts = await installation.sql('select count(*) from keyring.encryption_keys');
  expect(await keyring.secrets.adopt({ dryRun: true, finish: true })).toEqual({
    found: 2,
    adopted: 0,
    failed: [{ projectId, rowId: binary, reason: 'not_text' }],
    remaining: 2,
    finished: false,
    dryRun: true,
  });
  expect(await everything()).toEqual(before);
  expect(await installation.sql('select count(*) from keyring.encryption_keys')).toEqual(counts);
  expect(await auditSince(installation, audited)).toEqual({});
});

test('what is no text is refused without the key it is under, and left as it was', async () => {
  const rows = {
    binary: await old('BINARY', Buffer.from([0x80, 0x81])),
    nul: await old('NUL', Buffer.from('a\0b')),
    empty: await old('EMPTY', Buffer.alloc(0)),
    long: await old('LONG', Buffer.alloc(65_537, 'x')),
    cipher: await old('CIPHER', underLegacyKey(randomBytes(32), 'value')),
  };
  await old('GOOD', text('good'));
  const report = await keyring.secrets.adopt();
  expect(report).toMatchObject({ found: 6, adopted: 1, remaining: 5 });
  expect(Object.fromEntries(report.failed.map((row) => [row.rowId, row.reason]))).toEqual({
    [rows.binary]: 'not_text',
    [rows.nul]: 'not_text',
    [rows.empty]: 'empty',
    [rows.long]: 'too_long',
    [rows.cipher]: 'not_text',
  });
  expect(
    (await installation.sql('select value_encrypted as v from public.secrets where id = $1', [rows.nul]))[0],
  ).toEqual({
    v: Buffer.from('a\0b'),
  });
  expect(await codeOf(keyring.secrets.adopt({ finish: true }))).toBe('illegal_state');
});

test('rows under one legacy key are opened with it, whatever bytes they hold; those under another key stay', async () => {
  const legacyKey = randomBytes(32);
  await old('TEXT', underLegacyKey(legacyKey, 'legacy'));
  await old('BINARY', underLegacyKey(legacyKey, 'a\0b'));
  const wrong = await old('WRONG', underLegacyKey(randomBytes(32), 'legacy'));
  const short = await old('SHORT', Buffer.alloc(27));
  expect((await keyring.secrets.adopt({ legacyKey, dryRun: true })).failed).toHaveLength(2);
  const kept = Buffer.from(legacyKey);
  const report = await keyring.secrets.adopt({ legacyKey });
  expect(report).toMatchObject({ found: 4, adopted: 2, remaining: 2 });
  expect(report.failed.map((row) => [row.rowId, row.reason]).sort()).toEqual(
    [
      [wrong, 'does_not_open'],
      [short, 'does_not_open'],
    ].sort(),
  );
  expect(legacyKey).toEqual(kept);
  expect((await keyring.secrets.get(projectId, 'TEXT'))?.value).toBe('legacy');
  expect((await keyring.secrets.get(projectId, 'BINARY'))?.bytes).toEqual(Buffer.from('a\0b'));
  expect(await codeOf(keyring.secrets.adopt({ legacyKey: randomBytes(31) }))).toBe('invalid_argument');
});

test('one project can be adopted alone', async () => {
  const other = (await keyring.projects.create({ name: 'other' })).id;
  await old('A', text('a'));
  await old('B', text('b'), other);
  expect(await keyring.secrets.adopt({ projectId })).toMatchObject({ found: 1, adopted: 1, remaining: 0 });
  expect(await codeOf(keyring.secrets.get(other, 'B'))).toBe('illegal_state');
});

test('a name that a put would refuse is adopted, read and removed all the same', async () => {
  for (const name of ['x'.repeat(250), 'two\nlines']) {
    await old(name, text('value'));
    await keyring.secrets.adopt();
    expect((await keyring.secrets.get(projectId, name))?.value).toBe('value');
    expect(await keyring.secrets.remove(projectId, name)).toBe(true);
  }
});

test('an old writer that keeps writing plaintext loses nothing: its last word is what is adopted', async () => {
  for (let index = 0; index < 30; index++) await old(`OLD_${String(index)}`, text(`first ${String(index)}`));
  const expected = new Map<string, string>();
  let edits = 0;
  const adopter = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        // Between the count and the lock, and again: an old writer that knows nothing of keys.
        if (statement.text.includes('for no key update skip locked') && edits < 3) {
          const name = `OLD_${String(edits++)}`;
          const edited = await installation.sql(
            'update public.secrets set value_encrypted = $2 where key = $1 and encryption_key_id is null returning 1',
            [name, text(`edited ${name}`)],
          );
          if (edited.length > 0) expected.set(name, `edited ${name}`);
          await old(`LATE_${String(edits)}`, text('late'));
        }
        return send();
      }),
  });
  await adopter.secrets.adopt();
  const report = await adopter.secrets.adopt();
  expect(report.remaining).toBe(0);
  expect(expected.size).toBeGreaterThan(0);
  expect(edits).toBe(3);
  for (const [name, value] of expected) expect((await keyring.secrets.get(projectId, name))?.value).toBe(value);
  expect((await keyring.secrets.get(projectId, 'OLD_29'))?.value).toBe('first 29');
  await expectHealthy(keyring);
});

test('an old writer between the read of a row and its encryption waits, and is refused rather than overwritten', async () => {
  await old('A', text('first'));
  await using writer = await session(installation.test.adminUrl, 'old writer');
  let editing: Promise<string> | undefined;
  const adopter = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (editing === undefined && statement.text.includes('value_encrypted = a.envelope')) {
          let done = false;
          editing = writer
            .query(`update public.secrets set value_encrypted = $1 where key = 'A'`, [text('second')])
            .then(
              () => 'written',
              (error: unknown) => (error as { code: string }).code,
            )
            .finally(() => (done = true));
          // Either it got in between, or it is seen waiting.
          while (!done && !(await somebodyWaits()));
        }
        return send();
      }),
  });
  expect(await adopter.secrets.adopt()).toMatchObject({ adopted: 1, remaining: 0 });
  expect(await editing).toBe('MK003');
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe('first');
});

test('an old writer cannot overwrite what was adopted with plaintext', async () => {
  const id = await old('A', text('a'));
  await keyring.secrets.adopt();
  await expect(
    installation.sql('update public.secrets set value_encrypted = $2 where id = $1', [id, text('plain')]),
  ).rejects.toMatchObject({ code: 'MK003' });
  await expect(
    installation.sql('update public.secrets set value_encrypted = $2, encryption_key_id = null where id = $1', [
      id,
      text('plain'),
    ]),
  ).rejects.toMatchObject({ code: 'MK002' });
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe('a');
});

test('a row that somebody holds is adopted once it is let go, and holds up no other', async () => {
  await old('HELD', text('held'));
  for (let index = 0; index < 5; index++) await old(`OLD_${String(index)}`, text('value'));
  await using holder = await session(installation.test.adminUrl, 'holder');
  await holder.query('begin');
  await holder.query(`select 1 from public.secrets where key = 'HELD' for update`);
  let passes = 0;
  const adopter = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('for no key update skip locked') && ++passes === 2) {
          // Everything else is done by now.
          expect(await installation.sql('select key from public.secrets where encryption_key_id is null')).toEqual([
            { key: 'HELD' },
          ]);
          await holder.query('commit');
        }
        return send();
      }),
  });
  expect(await adopter.secrets.adopt()).toMatchObject({ adopted: 6, remaining: 0 });
});

test('a promote in the middle of an adoption costs another try, never a stale row', async () => {
  await keyring.secrets.put(projectId, 'A', 'a');
  for (let index = 0; index < 5; index++) await old(`OLD_${String(index)}`, text('value'));
  let promoted = false;
  const adopter = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!promoted && statement.text.includes('for no key update skip locked')) {
          promoted = true;
          const { id } = await keyring.rotations.request({ projects: 'all' });
          expect((await keyring.rotations.run(id)).state).toBe('completed');
        }
        return send();
      }),
  });
  expect(await adopter.secrets.adopt()).toMatchObject({ adopted: 5, remaining: 0 });
  for (const entry of await keyring.secrets.list(projectId)) expect(entry.stale).toBe(false);
  await expectHealthy(keyring);
});

test('two adoptions at once adopt each row once', async () => {
  for (let index = 0; index < 60; index++) await old(`OLD_${String(index)}`, text(`value ${String(index)}`));
  const other = await installation.open();
  const [one, two] = await Promise.all([keyring.secrets.adopt(), other.secrets.adopt()]);
  expect(one.adopted + two.adopted).toBe(60);
  const [sum] = await installation.sql<{ sum: string }>(
    `select sum((details ->> 'secrets')::int)::text as sum from keyring.audit_log where action = 'secret.adopted' and id > $1`,
    [audited],
  );
  expect(sum?.sum).toBe('60');
  expect((await keyring.secrets.get(projectId, 'OLD_59'))?.value).toBe('value 59');
  await expectHealthy(keyring);
});

test('an adoption that is stopped says so, and the next one goes on', async () => {
  for (let index = 0; index < 450; index++) await old(`OLD_${String(index)}`, text('value'));
  const stop = new AbortController();
  const adopting = keyring.secrets.adopt({ signal: stop.signal, onProgress: () => stop.abort() });
  expect(await codeOf(adopting)).toBe('interrupted');
  const { found, remaining } = await keyring.secrets.adopt();
  expect(found).toBe(250);
  expect(remaining).toBe(0);
});

test('finishing closes the door: from then on plaintext cannot be stored, by whomever', async () => {
  await old('A', text('a'));
  expect(await keyring.secrets.adopt({ finish: true })).toMatchObject({ adopted: 1, remaining: 0, finished: true });
  await expect(old('B', text('b'))).rejects.toMatchObject({ code: 'MK002' });
  await expect(
    installation.sql(`update public.secrets set value_encrypted = $1 where key = 'A'`, [text('plain')]),
  ).rejects.toMatchObject({ code: 'MK003' });
  // Again, as after a lost answer: closed once, and told once.
  expect(await keyring.secrets.adopt({ finish: true })).toMatchObject({ finished: true });
  expect((await auditSince(installation, audited))['secret.adoption_finished']).toBe(1);
  await expectHealthy(keyring);
});

test('a plaintext row that is on its way when the door closes keeps it open, or is refused', async () => {
  await using writer = await session(installation.test.adminUrl, 'old writer');
  await writer.query('begin');
  await writer.query('insert into public.secrets (project_id, key, value_encrypted) values ($1, $2, $3)', [
    projectId,
    'LATE',
    text('late'),
  ]);
  const finishing = codeOf(keyring.secrets.adopt({ finish: true }));
  while (!(await somebodyWaits()));
  await writer.query('commit');
  expect(await finishing).toBe('illegal_state');
  expect(await keyring.secrets.adopt({ finish: true })).toMatchObject({ adopted: 1, finished: true });
  expect((await keyring.secrets.get(projectId, 'LATE'))?.value).toBe('late');
});
