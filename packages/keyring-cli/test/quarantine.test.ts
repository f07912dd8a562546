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
  for (const name of ['KEPT', 'SPOILT', 'LOST']) {
    await run(['secrets', 'set', name, '--project', 'acme'], { input: `value of ${name}` });
  }
  await query(
    cluster.adminUrl('meshhook'),
    `set session_replication_role = replica;
     update public.secrets set value_encrypted = set_byte(value_encrypted, 50, get_byte(value_encrypted, 50) # 1)
     where key in ('SPOILT', 'LOST')`,
  );
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

test('a dry run names what would be quarantined, says how long it would take, and changes nothing', async () => {
  const { code, stdout } = await run(['rotate', '--all', '--dry-run']);
  expect(code).toBe(5);
  expect(stdout).toContain('Would move 3 rows of 1 project. Nothing was changed.');
  expect(stdout).toMatch(/At full speed it would take about .*: .* rows a second, by a sample of 1\./);
  expect((await json(['keys', 'list'])).keys).toHaveLength(1);
});

test('rows that do not open are listed with their names, tried again, and at last discarded', async () => {
  expect((await run(['rotate', '--all'])).code).toBe(5);
  const listed = await run(['quarantine', 'list', '--project', 'acme']);
  expect(listed.code).toBe(0);
  expect(listed.stdout).toMatch(/acme +LOST +secrets\.value .*does not open/);
  expect(listed.stdout).toMatch(/acme +SPOILT/);

  await run(['secrets', 'set', 'SPOILT', '--project', 'acme'], { input: 'set again' });
  const retried = await run(['quarantine', 'retry']);
  expect(retried.code).toBe(5);
  expect(retried.stdout).toContain('2 rows tried: 1 open now, 0 are gone, 1 do not open.');

  const [lost] = (await json(['quarantine', 'list'])).quarantine;
  const discard = [
    'quarantine',
    'discard',
    'secrets.value',
    lost?.rowId ?? '',
    '--project',
    'acme',
    '--reason',
    'gone',
  ];
  expect(await refused(discard)).toMatchObject({ exit: 2, code: 'invalid_argument' });
  const discarded = await run([...discard, '--yes']);
  expect(discarded.code).toBe(0);
  expect(discarded.stdout).toContain('Discarded LOST of secrets.value.');
  expect(await refused([...discard, '--yes'])).toMatchObject({ code: 'not_quarantined' });

  expect((await run(['rotate', '--resume'])).code).toBe(0);
  expect((await run(['quarantine', 'list'])).stdout).toContain('Nothing is quarantined.');
  expect((await run(['audit'])).stdout).toContain('quarantine.discarded');
});

test('a retired version is suspended and comes back; one that rows name is not suspended', async () => {
  const { keys } = await json(['keys', 'list']);
  const old = firstOf(keys.filter(({ status }) => status === 'deactivated'));
  const active = firstOf(keys.filter((key) => key.active));
  const because = ['--reason', 'does anything need it?'];
  expect((await run(['keys', 'disable', old.id, ...because])).stdout).toContain('is suspended');
  expect(firstOf((await json(['keys', 'list'])).keys).status).toBe('suspended');
  expect((await run(['keys', 'restore', old.id, ...because])).stdout).toContain('is deactivated again');
  expect(await refused(['keys', 'restore', old.id, ...because])).toMatchObject({ code: 'illegal_state' });
  expect(await refused(['keys', 'restore', active.id, ...because])).toMatchObject({ code: 'illegal_state' });
  expect(await refused(['keys', 'disable', active.id, ...because])).toMatchObject({
    code: 'key_is_primary',
  });
});
