import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRootKeyFile } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { inProcess, type Ended } from './support/in-process.ts';

const sections = ['rotations', 'keys', 'overdue', 'off'] as const;
const headings = { rotations: 'Rotations', keys: 'Keys', overdue: 'Overdue', off: 'Rotation switched off' };
/** Of the installation of this test. */
const counts = { rotations: 1, keys: 5, overdue: 0, off: 1 };

let database: TestDatabase;
let home: string;
let run: (...args: readonly string[]) => Promise<Ended>;
beforeAll(async () => {
  database = await createTestDatabase();
  home = await mkdtemp(join(tmpdir(), 'keyring-report-'));
  const rootKeyUri = `file:${join(home, 'root.key')}`;
  await createRootKeyFile(rootKeyUri);
  const inHome = inProcess(home);
  const env = { databaseUrl: database.serviceUrl, rootKeyUri };
  run = (...args) => inHome(args, { env });
  for (const project of ['acme', 'quiet']) {
    expect((await run('project', 'create', project)).code).toBe(0);
    expect((await inHome(['secrets', 'set', 'A', '--project', project], { input: 'a value', env })).code).toBe(0);
  }
  expect((await run('rotate', '--project', 'acme')).code).toBe(0);
  expect((await run('schedule', 'set', '--project', 'quiet', '--off', '--reason', 'a test')).error).toBeUndefined();
});
afterAll(async () => {
  await rm(home, { recursive: true });
  await database.drop();
});

const report = async (...args: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await run('report', '--since', '2026-01-01', ...args);
  expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' });
  return stdout.toString();
};

test.each(sections)('report --only %s is that section alone, as a table, as JSON and as CSV', async (section) => {
  const table = await report('--only', section);
  expect(table).toMatch(new RegExp(`^${headings[section]}: ${counts[section] === 0 ? 'none' : counts[section]}$`, 'm'));
  for (const other of sections) if (other !== section) expect(table).not.toContain(`${headings[other]}:`);

  for (const args of [['--json'], ['--format', 'json']]) {
    const document = JSON.parse(await report('--only', section, ...args)) as Record<string, unknown>;
    expect(document[section]).toHaveLength(counts[section]);
    for (const other of sections) if (other !== section) expect(document).not.toHaveProperty(other);
  }

  const lines = (await report('--only', section, '--format', 'csv')).trimEnd().split('\r\n');
  expect(lines).toHaveLength(1 + counts[section]);
  expect(lines[0]).not.toMatch(/^section,/);
  for (const line of lines) expect(line.split(',')).toHaveLength(lines[0]!.split(',').length);
});

test('report has every section, in each form, and a range leaves out what was not in it', async () => {
  const table = await report();
  for (const section of sections) expect(table).toContain(`${headings[section]}: `);
  const document = JSON.parse(await report('--json')) as Record<string, unknown[]>;
  expect(Object.fromEntries(sections.map((section) => [section, document[section]?.length]))).toEqual(counts);
  const csv = (await report('--format', 'csv')).trimEnd().split('\r\n');
  expect(csv[0]).toMatch(/^section,/);
  for (const section of sections)
    expect(csv.filter((line) => line.startsWith(`"${section}",`))).toHaveLength(counts[section]);

  const before = JSON.parse(await report('--until', '2026-01-02', '--json')) as Record<string, unknown[]>;
  expect([before['rotations'], before['keys']]).toEqual([[], []]);
  for (const args of [
    ['--since', '2026-01-01', '--only', 'everything'],
    ['--since', '2026-01-01', '--format', 'xml'],
    ['--since', 'yesterday'],
    [],
  ])
    expect((await run('report', ...args)).code, args.join(' ')).toBe(2);
});
