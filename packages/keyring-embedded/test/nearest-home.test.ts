import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nearestHome } from '../src/index.ts';

let folder = '';
let deep = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyring-nearest-'));
  deep = join(folder, 'project/docs/guides');
  await mkdir(deep, { recursive: true });
  await mkdir(join(folder, 'project/.meshhook'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('a command in a subfolder finds the home above it, and makes no second one', () => {
  expect(nearestHome(deep)).toBe(join(folder, 'project/.meshhook'));
  expect(nearestHome(join(folder, 'project'))).toBe(join(folder, 'project/.meshhook'));
});

test('the home of the folder itself comes first', async () => {
  await mkdir(join(folder, 'project/docs/.meshhook'));
  expect(nearestHome(join(folder, 'project/docs'))).toBe(join(folder, 'project/docs/.meshhook'));
  await rm(join(folder, 'project/docs/.meshhook'), { recursive: true });
});

test('a home above that is somebody else’s is passed by', () => {
  const somebodyElse = (process.getuid?.() ?? 0) + 1;
  expect(nearestHome(deep, somebodyElse)).toBe(join(deep, '.meshhook'));
});

test('where there is none, one is made where the command was typed', () => {
  expect(nearestHome('/', 0)).toBe('/.meshhook');
});
