import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, cli, temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { start } = cli(home);
const { run, json, refused } = here(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;

beforeAll(async () => {
  build();
  for (const project of ['acme', 'globex']) {
    await json(['project', 'create', project]);
    await run(['secrets', 'set', 'A', '--project', project], { input: 'value' });
  }
  cluster = await openCluster({ home });
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

test('workers do what is asked for elsewhere, are listed while they do, and leave when they are told to', async () => {
  expect((await run(['workers'])).stdout).toBe('Nobody works: `mh-keys worker` does, and so does the server.\n');
  const first = start(['worker']);
  const second = start(['worker', '--concurrency', '3', '--json']);
  await Promise.all([first.says('ready; Ctrl-C stops it'), second.says('ready; Ctrl-C stops it')]);

  const listed = async (): Promise<string> => (await run(['workers'])).stdout;
  expect(await listed()).toMatch(/^WORKER +ON +VERSION +STATE +SINCE +DOES\n/);
  // Until nothing of it came through for five seconds, and again from when something does.
  await expect
    .poll(listed)
    .toMatch(new RegExp(`:${String(first.child.pid)} +0\\.1\\.0 +alive +\\d{4}-.* nothing$`, 'm'));
  const workers = async (): Promise<object[]> =>
    ((await json(['workers'])) as unknown as { workers: object[] }).workers;
  expect(await workers()).toHaveLength(2);
  await expect
    .poll(workers)
    .toContainEqual(
      expect.objectContaining({ pid: second.child.pid, concurrency: 3, alive: true, units: [], driving: [] }),
    );

  const asked = await json(['rotate', '--all', '--no-wait']);
  const { id } = asked.rotation;
  await expect
    .poll(async () => (await json(['rotations'])).rotations.find((one) => one.id === id)?.state)
    .toBe('completed');
  await Promise.any([first, second].map((worker) => worker.says(`rotation ${id}: completed, 2 projects, 2 secrets`)));

  first.child.kill('SIGINT');
  second.child.kill('SIGTERM');
  const [human, machine] = await Promise.all([first.outcome, second.outcome]);
  expect(human).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^Stopped\. \d+ units? from the queue done/) as string,
  });
  expect(machine.code).toBe(0);
  expect(JSON.parse(machine.stdout)).toMatchObject({ worker: { units: { failed: 0 } } });
  for (const line of machine.stderr.trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('note');
  expect(await workers()).toEqual([]);
});

test('a concurrency that cannot be is usage', async () => {
  expect(await refused(['worker', '--concurrency', '65'])).toMatchObject({ exit: 2, code: 'usage' });
});

test('with LOG_FORMAT=json a worker writes an object a line, with the rotation it drove', async () => {
  const worker = start(['worker', '--json'], { env: { LOG_FORMAT: 'json' } });
  await worker.says('"event":"worker_ready"');
  const { rotation } = await json(['rotate', '--project', 'acme', '--no-wait']);
  await worker.says(`"event":"rotation_ended","rotationId":"${rotation.id}"`);
  worker.child.kill('SIGTERM');
  const { stderr } = await worker.outcome;
  for (const line of stderr.trimEnd().split('\n')) expect(JSON.parse(line)).toMatchObject({ pid: worker.child.pid });
  expect(await refused(['worker'], { env: { LOG_FORMAT: 'xml' } })).toMatchObject({
    exit: 2,
    code: 'invalid_argument',
  });
});
