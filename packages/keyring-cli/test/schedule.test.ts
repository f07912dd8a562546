import { readFileSync } from 'node:fs';
import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from './support/cli.ts';
import { inProcess, type Ended } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const run = inProcess(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;

beforeAll(async () => {
  await run(['project', 'create', 'acme']);
  cluster = await openCluster({ home });
  await run(['secrets', 'set', 'A', '--project', 'acme'], { input: 'value A' });
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

interface Said {
  readonly policy: { readonly revision: number; readonly inWords: string; readonly enabled: boolean };
  readonly dates: readonly string[];
  readonly of: string;
}

async function succeed(...args: string[]): Promise<Ended> {
  const ended = await run(args);
  if (ended.code !== 0) throw new Error(`${args.join(' ')}: ${JSON.stringify(ended.error)}`);
  return ended;
}
const said = async (...args: string[]): Promise<Said> =>
  JSON.parse((await succeed('schedule', ...args, '--json')).stdout.toString()) as Said;
const words = async (...args: string[]): Promise<string> => (await succeed('schedule', ...args)).stdout.toString();

test.each([
  ['schedule', 8],
  ['notifications', 6],
])('the commands of docs/%s.md do what it says', async (page, count) => {
  const guide = readFileSync(path.join(import.meta.dirname, `../../../docs/${page}.md`), 'utf8');
  const block =
    /<!-- run by packages\/keyring-cli\/test\/schedule\.test\.ts -->\n```sh\n([^]*?)```/.exec(guide)?.[1] ?? '';
  const commands = block.trim().split('\n');
  expect(commands).toHaveLength(count);
  for (const command of commands) {
    const [program, ...args] = [...command.matchAll(/'([^']*)'|(\S+)/g)].map(
      ([, quoted, plain]) => quoted ?? plain ?? '',
    );
    expect(program).toBe('mh-keys');
    await succeed(...args);
  }
});

test('a date is the same in words, as JSON and in the list of keys', async () => {
  await succeed('schedule', 'set', '--every', '90d', '--any-time');
  const { dates, of, policy } = await said('show', '--project', 'acme');
  expect({ of, words: policy.inWords, dates: dates.length }).toEqual({
    of: 'project',
    words: 'every 90 days (up to 1 week earlier), at any time',
    dates: 5,
  });
  const text = await words('show', '--project', 'acme');
  expect(text).toContain('acme, by the default: every 90 days (up to 1 week earlier), at any time.');
  for (const date of dates) expect(text).toContain(`${date.slice(0, 10)} ${date.slice(11, 19)}Z`);
  const { stdout } = await succeed('keys', 'list', '--project', 'acme', '--json');
  expect((JSON.parse(stdout.toString()) as { keys: { nextDueAt: string }[] }).keys[0]?.nextDueAt).toBe(dates[0]);
});

test('quiet hours are written as people say them, and dates shown on their clocks', async () => {
  await succeed(
    'schedule',
    'set',
    '--quiet',
    'fri-sun 22:00-06:00',
    '--quiet',
    'daily 03:00-04:00',
    '--zone',
    'Europe/Berlin',
  );
  const text = await words('show');
  expect(text).toContain('Fridays, Saturdays and Sundays 22:00 to 06:00, every day 03:00 to 04:00, Europe/Berlin');
  expect(text).toMatch(/\n {2}\d{4}-\d\d-\d\d \d\d:\d\d Europe\/Berlin \(.*Z\)/);
  await succeed('schedule', 'set', '--zone', 'UTC');
  expect((await said('show')).policy.inWords).toContain('04:00, UTC');
});

test('a dry run changes nothing, and what is off has no dates', async () => {
  const before = await said('show');
  const dry = await said('set', '--every', '7d', '--dry-run');
  expect(dry.policy.inWords).toContain('every 1 week');
  expect((await said('show')).policy.revision).toBe(before.policy.revision);
  expect(await words('set', '--project', 'acme', '--off', '--reason', 'frozen')).toContain(
    'acme: not rotated on a schedule: frozen.',
  );
  expect((await said('show', '--project', 'acme')).dates).toEqual([]);
  await succeed('schedule', 'unset', '--project', 'acme');
});

test.each([
  [['set'], 'usage'],
  [['set', '--every', '3 months'], 'usage'],
  [['set', '--every', '1h'], 'invalid_argument'],
  [['set', '--quiet', 'someday 01:00-02:00'], 'invalid_argument'],
  [['set', '--quiet', 'whenever'], 'invalid_argument'],
  [['set', '--cron', '0 0 30 2 *'], 'invalid_argument'],
  [['set', '--off'], 'invalid_argument'],
  [['set', '--every', '30d', '--project', 'nobody'], 'unknown_project'],
  [['unset', '--project', 'acme'], 'illegal_state'],
])('`schedule %j` is refused', async (args, code) => {
  expect((await run(['schedule', ...args])).error).toMatchObject({ code });
});
