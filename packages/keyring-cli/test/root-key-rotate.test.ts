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

/** Root keys of this file, made as they are needed; the database is under the last one it was moved to. */
const file = (name: string): string => `file:${path.join(folder.path, `${name}.key`)}`;
const under = (name: string) => ({ env: { MESHHOOK_ROOT_KEY: file(name) } });
const get = (options: { env: Record<string, string> }) => run(['secrets', 'get', 'A', '--project', 'acme'], options);

beforeAll(async () => {
  build();
  for (const name of ['one', 'two', 'three', 'four']) {
    expect((await run(['root-key', 'create', file(name)])).code).toBe(0);
  }
  expect((await run(['project', 'create', 'acme'], under('one'))).code).toBe(0);
  // Held by this process from here on, so that commands do not each start and stop it.
  cluster = await openCluster({ home });
  await run(['secrets', 'set', 'A', '--project', 'acme'], { input: 'a', ...under('one') });
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

test('everything moves to another file; the old one is refused with an error that names the new one', async () => {
  expect(await refused(['root-key', 'rotate'], under('one'))).toMatchObject({ exit: 2, code: 'invalid_argument' });
  const moved = await run(['root-key', 'rotate', '--to', file('two'), '--reason', 'yearly'], under('one'));
  expect(moved).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`MESHHOOK_ROOT_KEY=${file('two')}`) as string,
  });
  const old = await refused(['secrets', 'list', '--project', 'acme'], under('one'));
  expect(old).toMatchObject({ exit: 6, code: 'wrong_root_key', hint: expect.stringContaining(file('two')) as string });
  expect((await get(under('two'))).stdout).toBe('a');
  // With either named, and one of them gone for good.
  const both = { env: { MESHHOOK_ROOT_KEY: file('nowhere'), MESHHOOK_NEXT_ROOT_KEY: file('two') } };
  expect((await get(both)).stdout).toBe('a');
  const list = await run(['root-key', 'list'], both);
  expect(list.stdout).toMatch(/enabled +\S+two\.key +1 +yes/);
  expect(list.stdout).toMatch(/disabled +\S+one\.key +0 +no/);
  expect(list.stdout).toContain(`${file('nowhere')} cannot be used: There is no root key file`);
  expect((await run(['root-key', 'rotations'], under('two'))).stdout).toMatch(/completed .* yearly$/m);
  expect(await refused(['root-key', 'rotate', '--to', file('two')], under('two'))).toMatchObject({
    exit: 4,
    code: 'conflict',
  });
});

test('it waits for a process that has the old one alone, by name, and ends by itself once that runs with both', async () => {
  const old = start(['worker'], under('two'));
  await old.says('ready');
  const left = await run(['root-key', 'rotate', '--to', file('three'), '--no-wait'], under('two'));
  expect(left.code).toBe(0);
  expect(left.stdout).toMatch(
    /^Prepared\. It waits for \S+ \(cli:.*:\d+\)\. Go on with `mh-keys root-key rotate --to URI`/,
  );
  for (const name of ['two', 'three']) expect((await get(under(name))).stdout).toBe('a');
  expect(await refused(['wrapping-key', 'rotate'], under('two'))).toMatchObject({
    exit: 4,
    code: 'rotation_in_progress',
  });
  expect(await refused(['root-key', 'rotate', '--to', file('four')], under('two'))).toMatchObject({
    exit: 4,
    code: 'rotation_in_progress',
    hint: expect.stringContaining(file('three')) as string,
  });
  expect((await run(['root-key', 'cancel'], under('two'))).stdout).toContain('Canceled');
  expect(await refused(['secrets', 'list', '--project', 'acme'], under('three'))).toMatchObject({
    code: 'wrong_root_key',
  });

  const moving = start(['root-key', 'rotate', '--to', file('three')], under('two'));
  await moving.says('waits for');
  old.child.kill('SIGTERM');
  await old.outcome;
  const both = start(['worker'], { env: { MESHHOOK_ROOT_KEY: file('two'), MESHHOOK_NEXT_ROOT_KEY: file('three') } });
  expect((await moving.outcome).code).toBe(0);
  await both.says('ready');
  both.child.kill('SIGTERM');
  await both.outcome;
  expect((await get(under('three'))).stdout).toBe('a');
});

test('a leaked one is replaced, and the wrapping key with it, by a command that is killed and run again as it was', async () => {
  const command = ['root-key', 'rotate', '--to', file('four'), '--leaked', '--reason', 'stolen'];
  const killed = start(command, under('three'));
  await killed.says('Next, the wrapping key');
  killed.child.kill('SIGKILL');
  await killed.outcome;
  const { instances } = (await json(['instances'], under('three'))) as unknown as { instances: { id: string }[] };
  const past = instances.flatMap(({ id }) => ['--force-past', id]);
  const again = await run([...command, ...past], under('three'));
  expect(again.code).toBe(0);
  expect(again.stdout).toContain('of the wrapping key: completed');
  expect(again.stdout).toContain(`${file('three')} is compromised for good`);
  expect(again.stdout).toContain('A new root key does not take back what leaked.');
  expect((await get(under('four'))).stdout).toBe('a');
  const status = (await json(['wrapping-key', 'status'], under('four'))) as unknown;
  expect(status).toMatchObject({
    wrappingKeys: [
      // The project's, and the one that the worker signs the trail with.
      { version: 2, state: 'enabled', keys: 2 },
      { version: 1, state: 'compromised', keys: 0 },
    ],
    rotation: null,
  });
  expect(await refused(['root-key', 'rotate', '--to', file('three')], under('four'))).toMatchObject({
    exit: 4,
    code: 'illegal_state',
  });
  expect((await run(['doctor'], under('four'))).code).toBe(0);
});
