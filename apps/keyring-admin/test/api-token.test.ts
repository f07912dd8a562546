import { chmod, readdir, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { apiTokenFile } from '../src/lib/server/api-token.ts';
import { temporaryFolder } from './support/server.ts';

let home: string;
beforeEach(async () => {
  home = await temporaryFolder();
});
afterEach(() => rm(home, { recursive: true, force: true }));

it('is made once, for its owner only, and is the same ever after', async () => {
  const below = path.join(home, 'a', 'b');
  const first = await apiTokenFile(below);
  expect(first.made).toBe(true);
  expect(first.token).toMatch(/^mhk_[A-Za-z0-9_-]{43}$/);
  expect((await stat(first.file)).mode & 0o777).toBe(0o600);
  expect((await stat(below)).mode & 0o777).toBe(0o700);
  expect(await apiTokenFile(below)).toEqual({ ...first, made: false });
});

it('twenty who ask at once get the same one, and leave nothing else behind', async () => {
  const asked = await Promise.all(Array.from({ length: 20 }, () => apiTokenFile(home)));
  expect(new Set(asked.map(({ token }) => token)).size).toBe(1);
  expect(asked.filter(({ made }) => made)).toHaveLength(1);
  expect(await readdir(home)).toEqual(['api-token']);
});

it.each([0o640, 0o604, 0o644])('a file that others may read (%o) is not used', async (mode) => {
  const { file } = await apiTokenFile(home);
  await chmod(file, mode);
  await expect(apiTokenFile(home)).rejects.toMatchObject({
    code: 'illegal_state',
    remedy: expect.any(String) as string,
  });
});

it.each(['', '\n', 'mhk_short', 'password'])('a file with %j in it is no token', async (text) => {
  await writeFile(path.join(home, 'api-token'), text, { mode: 0o600 });
  await expect(apiTokenFile(home)).rejects.toMatchObject({ code: 'illegal_state' });
});
