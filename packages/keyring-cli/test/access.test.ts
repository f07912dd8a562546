import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { inProcess } from './support/in-process.ts';

let home: string;
let database: TestDatabase;
let env: { databaseUrl: string; rootKeyUri: string };
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'cli-access-'));
  database = await createTestDatabase();
  env = { databaseUrl: database.serviceUrl, rootKeyUri: `file:${path.join(home, 'root.key')}` };
  await createRootKeyFile(env.rootKeyUri);
  await run(['project', 'create', 'acme']);
});
afterAll(async () => {
  await database.drop();
  await rm(home, { recursive: true });
});

const run = async (args: readonly string[]) => {
  const { code, stdout, error } = await inProcess(home)(args, { env });
  return { code, out: stdout.toString().trim(), error };
};
const json = async (args: readonly string[]) =>
  JSON.parse((await run([...args, '--json'])).out) as Record<string, never>;

test('a token is printed once and alone, listed without itself, and revoked', async () => {
  const made = await run([
    'token',
    'create',
    'deploy',
    '--permission',
    'keys:read',
    '--project',
    'acme',
    '--days',
    '30',
  ]);
  expect(made).toMatchObject({ code: 0, out: expect.stringMatching(/^mhk_[0-9A-Za-z]{49}$/) as string });
  const list = await run(['token', 'list']);
  expect(list.out).toMatch(/deploy +keys:read +acme /);
  expect(list.out).not.toContain(made.out);
  const [{ id }] = (await json(['token', 'list']))['tokens'] as unknown as [{ id: string }];
  expect((await run(['token', 'revoke', id])).code).toBe(0);
  expect((await run(['token', 'list'])).out).toContain('revoked');
  expect((await run(['token', 'create', 'x', '--role', 'root'])).code).toBe(2);
  expect((await run(['token', 'revoke', 'x'])).error?.code).toBe('unknown_token');
});

test('the list of tokens says where the one is that is not in it', async () => {
  const list = async () => (await inProcess(home)(['token', 'list'], { env })).stderr.toString();
  expect(await list()).not.toContain('api-token');
  await writeFile(path.join(home, 'api-token'), 'mhk_x');
  expect(await list()).toContain(`Not in the list: the server’s own in ${path.join(home, 'api-token')}`);
});

test('roles are given and taken, a second admin ends the warning, and a third takes two people', async () => {
  expect((await run(['grant', 'list'])).out).toContain('warning: There is no instance admin');
  for (const person of ['person:ada', 'person:bob']) {
    expect((await run(['grant', 'add', person, 'instance_admin'])).code).toBe(0);
  }
  expect((await run(['grant', 'list'])).out).not.toContain('warning');
  const third = await run(['grant', 'add', 'person:cyd', 'instance_admin']);
  expect(third).toMatchObject({ code: 4, error: { code: 'approval_needed' } });
  const [{ id }] = (await json(['approval', 'list', '--open']))['approvals'] as unknown as [{ id: string }];
  expect((await run(['approval', 'approve', id])).error?.code).toBe('forbidden');
  expect((await run(['approval', 'reject', id])).out).toContain('rejected');
  expect((await run(['approval', 'rule', 'off', '--reason', 'no'])).error?.code).toBe('approval_needed');
  const auditor = await json(['grant', 'add', 'person:aud', 'auditor', '--project', 'acme']);
  expect((await run(['grant', 'list'])).out).toMatch(/person:aud +auditor +acme /);
  expect((await run(['grant', 'remove', (auditor['grant'] as unknown as { id: string }).id])).code).toBe(0);
});

test('tokens, grants and approvals are listed in parts, each going on where the last one ended', async () => {
  for (const name of ['one', 'two', 'three']) await run(['token', 'create', name, '--role', 'auditor']);
  for (const person of ['person:x', 'person:y', 'person:z']) await run(['grant', 'add', person, 'auditor']);
  for (const person of ['person:x', 'person:y', 'person:z']) await run(['grant', 'add', person, 'instance_admin']);
  for (const [noun, option] of [
    ['token', 'before'],
    ['grant', 'after'],
    ['approval', 'before'],
  ] as const) {
    const list = async (...args: string[]) =>
      ((await json([noun, 'list', ...args]))[`${noun}s`] as unknown as { id: string }[]).map(({ id }) => id);
    const all = await list();
    expect(all.length).toBeGreaterThan(2);
    expect(await list('--limit', '2')).toEqual(all.slice(0, 2));
    expect(await list('--limit', '1000', `--${option}`, all[1]!)).toEqual(all.slice(2));
    expect((await run([noun, 'list', '--limit', '2'])).error).toBeUndefined();
    expect((await run([noun, 'list', '--limit', '0'])).code).toBe(2);
    expect((await run([noun, 'list', `--${option}`, 'x'])).error?.code).toBe(
      noun === 'grant' ? 'unknown_grant' : 'invalid_argument',
    );
  }
});

test('a sign-in link has its secret behind the #', async () => {
  expect((await run(['sign-in', '--url', 'https://keys.internal'])).out).toMatch(
    /^https:\/\/keys\.internal\/sign-in#mhl_[0-9A-Za-z]{49}$/,
  );
});
