/** The commands of the runbooks for alerts, and `mh-keys report`, executed. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { createRootKeyFile, openKeyring, type Keyring } from '@meshhook/keyring';
import { keyringHandler, tokenDigest } from '@meshhook/keyring-http';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../test/support/database.ts';
import { canRun } from '../../../test/support/required.ts';
import { build, cli, temporaryFolder } from './support/cli.ts';

const root = path.join(import.meta.dirname, '../../..');
const folder = temporaryFolder();
let database: TestDatabase;
let keyring: Keyring;
let projectId = '';
let environment: Record<string, string>;

beforeAll(async () => {
  build();
  database = await createTestDatabase();
  const rootKey = `file:${path.join(folder.path, 'root.key')}`;
  await createRootKeyFile(rootKey);
  keyring = await openKeyring({ database: database.serviceUrl, rootKey, actor: 'test' });
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  await keyring.secrets.put(projectId, 'A', 'a value');
  environment = { DATABASE_URL: database.serviceUrl, MESHHOOK_ROOT_KEY: rootKey };
});
afterAll(async () => {
  await keyring.close();
  await database.drop();
  folder.remove();
});

/** Runs the `sh` block of a part of a runbook. */
async function follow(runbook: string, part: string, more: Record<string, string> = {}): Promise<string> {
  const text = await readFile(path.join(root, 'docs/runbooks', runbook), 'utf8');
  const from = text.indexOf(`runbooks.test.ts: ${part} -->`);
  expect(from, `${runbook}: ${part}`).toBeGreaterThan(0);
  const [, commands = ''] = /```sh\n([^]*?)```/.exec(text.slice(from)) ?? [];
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', commands.replace(/^ {3}/gm, '')], {
    cwd: folder.path,
    env: { PATH: `${path.join(root, 'node_modules/.bin')}:/usr/bin:/bin`, ...environment, ...more },
  });
  return stdout;
}

test('no-worker.md shows that nobody works and what waits, and drives it from here', async () => {
  const { id } = await keyring.rotations.request({ projects: [projectId] });
  const said = await follow('no-worker.md', 'no-worker');
  expect(said).toContain('Nobody works');
  expect(said).toMatch(new RegExp(`${id} +requested`));
  expect(await follow('no-worker.md', 'drive', { ROTATION: id })).toContain('completed');
});

test('keys-are-overdue.md names what is overdue, and rotates it', async () => {
  await query(
    database.adminUrl,
    `with off as (select set_config('session_replication_role', 'replica', false))
     update keyring.encryption_keys set created_at = now() - interval '100 days' from off`,
  );
  expect(await follow('keys-are-overdue.md', 'overdue')).toMatch(/Overdue: 1\n.*\nacme +2 +age/);
  expect(await follow('keys-are-overdue.md', 'rotate')).toContain('completed');
  expect(await follow('keys-are-overdue.md', 'overdue')).toContain('Overdue: none');
});

test('nobody-verifies-the-trail.md shows who would, and verifies it, which is known from then on', async () => {
  expect(await follow('nobody-verifies-the-trail.md', 'verifiers')).toContain('Nobody works');
  expect((await keyring.audit.health()).verified.whole).toBeUndefined();
  expect(await follow('nobody-verifies-the-trail.md', 'verify')).toMatch(/^Intact: /);
  expect((await keyring.audit.health()).verified.whole?.at).toBeInstanceOf(Date);
});

test('a-backup-is-missing.md makes one, and nothing is missing any more', async () => {
  expect((await keyring.monitoring.facts()).database?.backups.missing).toBe(1);
  const RECIPIENT = await identityToRecipient(await generateX25519Identity());
  await follow('a-backup-is-missing.md', 'backup', { RECIPIENT });
  const after = await openKeyring({ database: database.serviceUrl, rootKey: environment['MESHHOOK_ROOT_KEY'] ?? '' });
  expect((await after.monitoring.facts()).database?.backups.missing).toBe(0);
  await after.close();
});

const hasPsql = canRun('pg15', existsSync('/usr/bin/psql'), 'there is no psql');

test.skipIf(!hasPsql)('the-database-does-not-answer.md shows who holds it up', async () => {
  const url = new URL(database.adminUrl);
  const said = await follow('the-database-does-not-answer.md', 'database', {
    PGHOST: url.hostname,
    PGPORT: url.port,
    PGUSER: url.username,
    PGPASSWORD: decodeURIComponent(url.password),
    DATABASE: database.name,
  });
  expect(said).toMatch(/oldest_transaction/);
  expect(said).toMatch(/open_for/);
});

const hasCurl = canRun('curl', existsSync('/usr/bin/curl'), 'there is no curl');

test.skipIf(!hasCurl)('no-metrics.md asks the server itself', async () => {
  const handler = keyringHandler({
    keyring,
    tokens: [{ name: 'prometheus', digest: tokenDigest('mhk_runbook'), scopes: ['instance:read'] }],
  });
  const server: Server = createServer((request, response) => {
    const headers = Object.entries(request.headers).map(([name, value]): [string, string] => [name, String(value)]);
    handler(new Request(`http://127.0.0.1${request.url ?? ''}`, { headers }))
      .then(async (answer) => response.writeHead(answer.status).end(await answer.text()))
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const TOKEN_FILE = path.join(folder.path, 'token');
  await writeFile(TOKEN_FILE, 'mhk_runbook');
  const SERVER = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
  try {
    expect(await follow('no-metrics.md', 'scrape', { SERVER, TOKEN_FILE })).toContain('# HELP keyring_info');
    await writeFile(TOKEN_FILE, 'mhk_wrong');
    await expect(follow('no-metrics.md', 'scrape', { SERVER, TOKEN_FILE })).rejects.toThrow('401');
  } finally {
    server.close();
  }
});

test('mh-keys report is a table for people, and JSON and CSV without an end', async () => {
  const { run, json } = cli(folder.path);
  const options = { env: environment };
  const people = await run(['report', '--since', '2026-01-01'], options);
  expect(people).toMatchObject({ code: 0, stderr: '' });
  expect(people.stdout).toMatch(/^From 2026-01-01 00:00:00Z to .*\n\nRotations: 2\nASKED FOR/);
  expect(people.stdout).toMatch(/Keys: \d\n/);
  const document: unknown = await json(['report', '--since', '2026-01-01'], options);
  expect(document).toMatchObject({ rotations: [{ outcome: 'completed' }, { outcome: 'completed' }], overdue: [] });
  const csv = await run(['report', '--since', '2026-01-01', '--format', 'csv', '--only', 'rotations'], options);
  expect(csv.stdout.split('\r\n')[0]).toMatch(/^kind,id,trigger,outcome,/);
  expect(csv.stdout.trimEnd().split('\r\n')).toHaveLength(3);
  const wrong = await run(['report', '--since', 'yesterday', '--json'], options);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain('2026-01-01T12:00:00Z');
});
