import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRootKeyFile } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../test/support/database.ts';
import { inProcess, type Ended, type InProcessOptions } from './support/in-process.ts';

let database: TestDatabase;
let home: string;
let run: (args: readonly string[], options?: InProcessOptions) => Promise<Ended>;
beforeAll(async () => {
  database = await createTestDatabase();
  home = await mkdtemp(join(tmpdir(), 'keyring-audit-'));
  const rootKeyUri = `file:${join(home, 'root.key')}`;
  await createRootKeyFile(rootKeyUri);
  const inHome = inProcess(home);
  run = (args, options = {}) => inHome(args, { env: { databaseUrl: database.serviceUrl, rootKeyUri }, ...options });
  expect((await run(['project', 'create', 'acme'])).code).toBe(0);
  expect((await run(['secrets', 'set', 'TOKEN', '--project', 'acme'], { input: 'a value' })).code).toBe(0);
});
afterAll(async () => {
  await rm(home, { recursive: true });
  await database.drop();
});

const json = ({ stdout }: Ended): Record<string, unknown> => JSON.parse(stdout.toString()) as Record<string, unknown>;

const unsealed = async (): Promise<unknown> => {
  const { verification } = json(await run(['audit', 'verify', '--json'])) as { verification: { unsealed: unknown } };
  return verification.unsealed;
};
const workers = `insert into keyring.workers (id, host, pid, version, concurrency, doing, seen_at)
  values (gen_random_uuid(), 'host', 1, '0', 1, '{"units": [], "driving": []}', now() + interval '1 hour')`;
const note = `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', 'a:1')`;

test('what a command wrote is sealed at its end, and the checkpoint kept, unless a worker lives, who does that', async () => {
  const file = join(home, 'audit-checkpoint');
  const kept = await readFile(file, 'utf8');
  expect((await run(['secrets', 'set', 'OTHER', '--project', 'acme'], { input: 'a value' })).stderr).toBe('');
  expect(await readFile(file, 'utf8')).not.toBe(kept);
  expect(await unsealed()).toMatchObject({ entries: 0 });

  await query(database.adminUrl, workers);
  await run(['secrets', 'set', 'OTHER', '--project', 'acme'], { input: 'another value' });
  expect(await unsealed()).toMatchObject({ entries: 1 });
  await query(database.adminUrl, 'delete from keyring.workers');

  // Standard output is the command's, and a folder is made for nobody.
  const elsewhere = { databaseUrl: database.serviceUrl, rootKeyUri: `file:${join(home, 'root.key')}` };
  const away = await run(['project', 'list', '--json'], { env: { ...elsewhere, home: join(home, 'away') } });
  expect(away).toMatchObject({ code: 0, stderr: '' });
  expect(existsSync(join(home, 'away'))).toBe(false);
  expect(await unsealed()).toMatchObject({ entries: 0 });
});

test('a trail that is broken does not stop a command, which says so', async () => {
  await run(['audit', 'seal']);
  const last = 'where place = (select max(place) from keyring.audit_seals)';
  const change = (hash: string) =>
    query(
      database.adminUrl,
      `with off as (select set_config('session_replication_role', 'replica', false))
       update keyring.audit_seals set hash = ${hash} from off ${last}`,
    );
  const [seal] = await query<{ hash: Buffer }>(database.adminUrl, `select hash from keyring.audit_seals ${last}`);
  await change(`sha256('x')`);
  const told = await run(['secrets', 'set', 'OTHER', '--project', 'acme'], { input: 'a value' });
  expect(told).toMatchObject({
    code: 0,
    stderr: expect.stringContaining('does not end where it was signed') as string,
  });
  await change(`decode('${seal!.hash.toString('hex')}', 'hex')`);
});

test('seal writes the checkpoint to the home, and verify takes it from there', async () => {
  await query(database.adminUrl, note);
  expect(json(await run(['audit', 'seal', '--json']))['sealed']).toBeGreaterThan(0);
  const file = join(home, 'audit-checkpoint');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await run(['audit', 'checkpoint'])).stdout.toString()).toBe(await readFile(file, 'utf8'));
  const verified = await run(['audit', 'verify']);
  expect(verified.stdout.toString()).toMatch(/^Intact: \d+ entries/);
  expect(verified.stdout.toString()).toContain('kept elsewhere matches');
  expect(json(await run(['audit', 'verify', '--json']))).toMatchObject({
    verification: { intact: true, given: 'matches' },
  });
});

test('export gives JSON Lines, filtered', async () => {
  const lines = (await run(['audit', 'export', '--action', 'secret.*', '--project', 'acme'])).stdout
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { action: string });
  expect(new Set(lines.map(({ action }) => action))).toEqual(new Set(['secret.written']));
  expect((await run(['audit', 'export', '--until', '2020-01-01'])).stdout.toString()).toBe('');
  expect((await run(['audit', 'list', '--since', 'yesterday'])).code).toBe(2);
  expect((await run(['audit', 'list', '--kind', 'cli', '--limit', '1', '--json'])).code).toBe(0);
});

test('entries that are gone from the end are found out by the file, with exit code 5', async () => {
  await run(['project', 'create', 'late']);
  await run(['audit', 'seal']);
  const kept = await readFile(join(home, 'audit-checkpoint'), 'utf8');
  // Back to the first checkpoint, as who restores an old dump, or wants the rest forgotten, would.
  await query(
    database.adminUrl,
    `with off as (select set_config('session_replication_role', 'replica', false)),
       first as (select min(size) as size from keyring.audit_checkpoints, off),
       seals as (delete from keyring.audit_seals s using first where s.place > first.size returning entry_id),
       entries as (delete from keyring.audit_log l using seals where l.id = seals.entry_id)
     delete from keyring.audit_checkpoints c using first where c.size > first.size`,
  );
  const alone = join(home, 'alone');
  await writeFile(alone, '');
  const found = await run(['audit', 'verify']);
  expect(found.code).toBe(5);
  expect(found.error?.message).toContain('are gone');
  expect((await run(['audit', 'verify', '--checkpoint', alone])).code).toBe(2);
  // What is shorter does not take the file's place.
  await run(['project', 'create', 'once more']);
  expect((await run(['audit', 'seal'])).error?.code).toBe('audit_broken');
  expect(await readFile(join(home, 'audit-checkpoint'), 'utf8')).toBe(kept);
  await rm(join(home, 'audit-checkpoint'));
});

test('archive takes whole ranges to a file; the rest, and the file, verify; the service cannot', async () => {
  await run(['audit', 'seal']);
  const file = join(home, 'archive.jsonl');
  const args = ['audit', 'archive', '--before', '2099-01-01', '--to', file, '--reason', 'kept elsewhere', '--yes'];
  const refused = await run(args);
  expect(refused.error).toMatchObject({ code: 'database_refused' });
  await rm(file);
  const asOwner = { env: { databaseUrl: database.ownerUrl, rootKeyUri: `file:${join(home, 'root.key')}` } };
  expect(
    (await run(['audit', 'archive', '--before', '2020-01-01', '--to', file, '--reason', 'x', '--yes'], asOwner)).error,
  ).toMatchObject({
    code: 'illegal_state',
  });
  await rm(file, { force: true });
  await writeFile(file, 'in the way');
  expect((await run(args, asOwner)).error).toMatchObject({ code: 'backup_exists' });
  expect(await readFile(file, 'utf8')).toBe('in the way');
  await rm(file);
  const done = await run([...args, '--json'], asOwner);
  expect(done.error).toBeUndefined();
  expect(json(done)).toMatchObject({ archive: { from: 1 } });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  await run(['audit', 'seal']);
  const verified = await run(['audit', 'verify']);
  expect(verified.error).toBeUndefined();
  expect(verified.stdout.toString()).toContain('went into archives');
  const { entries } = json(await run(['audit', 'list', '--action', 'audit.archived', '--json'])) as {
    entries: { reason: string; details: { from: number } }[];
  };
  expect(entries).toMatchObject([{ reason: 'kept elsewhere', details: { from: 1 } }]);

  // What was replaced or deleted in there is in no exposure report of a version from before, which says so; later ones have all.
  const { keys } = json(await run(['keys', 'list', '--json'])) as { keys: [{ id: string }] };
  const exposure = async (...how: string[]) => await run(['exposure', keys[0].id, ...how]);
  expect((await exposure()).stdout.toString()).toContain('This may not be all: the trail is archived until');
  expect((await exposure('--csv')).stdout.toString()).toMatch(/^.*\r\n"","","INCOMPLETE: .*archived until/);
  const { archivedUntil: until } = json(await exposure('--json')) as { archivedUntil: string };
  await query(
    database.adminUrl,
    `with off as (select set_config('session_replication_role', 'replica', false))
     update keyring.encryption_keys set created_at = $1::timestamptz + interval '1 second' from off`,
    [until],
  );
  expect(json(await exposure('--json'))).toMatchObject({ archivedUntil: null });

  expect((await run(['audit', 'verify', '--archive', file])).stdout.toString()).toMatch(/^Intact: places 1 to/);
  const text = await readFile(file, 'utf8');
  const lines = text.split('\n');
  for (const broken of [
    text.replace('"project.created"', '"project.altered"'),
    [lines[0], ...lines.slice(2)].join('\n'),
    lines.slice(0, -2).join('\n'),
    text.replace(/"checkpoint":"[^"]+"/, '"checkpoint":"nobody signed this"'),
  ]) {
    expect(broken).not.toBe(text);
    await writeFile(file, broken);
    expect((await run(['audit', 'verify', '--archive', file])).error).toMatchObject({ code: 'audit_broken' });
  }
  await writeFile(file, 'nothing of the kind');
  expect((await run(['audit', 'verify', '--archive', file])).error).toMatchObject({ code: 'invalid_argument' });
});

test('what a superuser archives by hand, unsigned, is found out', async () => {
  await query(
    database.adminUrl,
    `with off as (select set_config('session_replication_role', 'replica', false)),
       gone as (delete from keyring.audit_seals s using off where s.place = (select min(place) from keyring.audit_seals)
         returning s.place, s.entry_id),
       entries as (delete from keyring.audit_log l using gone where l.id = gone.entry_id)
     insert into keyring.audit_archives (through, note) select place, 'signed, honestly' from gone`,
  );
  const { code, stdout } = await run(['audit', 'verify']);
  expect(code).toBe(5);
  expect(stdout.toString()).toMatch(/^Not intact: checkpoint/);
});
