import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { firstOf, temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { run, json, refused } = here(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;

beforeAll(async () => {
  await json(['project', 'create', 'acme']);
  cluster = await openCluster({ home });
  for (const name of ['KEPT', 'REMOVED', '=cmd()']) {
    await run(['secrets', 'set', name, '--project', 'acme'], { input: `value of ${name}` });
  }
  await run(['secrets', 'rm', 'REMOVED', '--project', 'acme']);
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

const activeKey = async (): Promise<string> =>
  firstOf((await json(['keys', 'list'])).keys.filter(({ active }) => active)).id;

test('compromise moves every secret off a leaked version, lists what was exposed, and says what it cannot undo', async () => {
  const leaked = await activeKey();
  const { code, stdout, stderr } = await run(['compromise', leaked, '--reason', 'laptop stolen']);
  expect(code).toBe(0);
  expect(stderr).toContain('Nothing new is under it');
  expect(stdout).toContain('completed');
  expect(stdout).toMatch(/REMOVED/);
  expect(stdout).toMatch(/cannot un-leak/);
  expect(stdout).not.toContain('value of');
  const { keys } = await json(['keys', 'list']);
  expect(keys.map(({ status, rows }) => [status, rows])).toEqual([
    ['compromised', 0],
    ['active', 2],
  ]);
  expect((await run(['secrets', 'get', 'KEPT', '--project', 'acme'])).stdout).toBe('value of KEPT');

  const csv = (await run(['exposure', leaked, '--csv'])).stdout.trimEnd().split('\r\n');
  expect(csv[0]).toBe('column,row,name,written,replaced');
  expect(csv).toHaveLength(4);
  expect(csv.filter((row) => row.includes(`"'=cmd()"`))).toHaveLength(1);
  expect((await json(['exposure', leaked])).exposed).toHaveLength(3);
});

test('a compromise has to have a reason and a key that exists', async () => {
  expect((await run(['compromise', await activeKey()])).code).toBe(2);
  expect(await refused(['compromise', '6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11', '--reason', 'x'])).toMatchObject({
    code: 'unknown_key',
    exit: 3,
  });
});

test('what is due by use or older than some days is rotated, and nothing else', async () => {
  expect(await refused(['rotate', '--due'])).toMatchObject({
    code: 'nothing_to_rotate',
    hint: expect.stringContaining('mh-keys rotate --project') as string,
  });
  expect((await run(['rotate', '--older-than', 'soon'])).code).toBe(2);
  await query(cluster.adminUrl('meshhook'), 'update keyring.rotation_policies set max_encryptions = 1');
  await query(cluster.adminUrl('meshhook'), `update keyring.keyrings set promoted_at = now() - interval '1 hour'`);
  expect((await json(['rotate', '--due'])).rotation).toMatchObject({ state: 'completed', projects: { total: 1 } });
  await query(cluster.adminUrl('meshhook'), 'update keyring.rotation_policies set max_encryptions = 1000000');
  expect((await json(['rotate', '--older-than', '0d'])).rotation).toMatchObject({ state: 'completed' });
});

test('a receipt is verified offline, and a changed one is not', async () => {
  const { rotations } = await json(['rotations']);
  const { stdout } = await run(['rotations', 'receipts', firstOf(rotations).id]);
  const file = path.join(folder.path, 'receipt.jsonl');
  await writeFile(file, stdout);
  const nowhere = { env: { MESHHOOK_HOME: path.join(folder.path, 'nowhere') } };
  const receipt = JSON.parse(stdout) as { payload: string; publicKey: string };
  const verified = await run(['receipt', 'verify', file, '--public-key', receipt.publicKey], nowhere);
  expect(verified).toMatchObject({ code: 0 });
  expect(verified.stdout).toMatch(/^valid: "acme" completed/);
  await writeFile(file, JSON.stringify({ ...receipt, payload: receipt.payload.replace('acme', 'acne') }));
  expect(await refused(['receipt', 'verify', file], nowhere)).toMatchObject({ code: 'receipt_invalid' });
  const other = Buffer.alloc(32, 7).toString('base64');
  await writeFile(file, stdout);
  expect(await refused(['receipt', 'verify', file, '--public-key', other], nowhere)).toMatchObject({
    code: 'receipt_invalid',
  });
});
