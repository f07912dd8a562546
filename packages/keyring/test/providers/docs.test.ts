import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';
import { supportedRootKeySchemes } from '../../src/providers/registry.ts';

const root = join(import.meta.dirname, '../../../..');
const folder = join(root, 'docs/providers');
const pages = await readdir(folder);
const read = (page: string): Promise<string> => readFile(join(folder, page), 'utf8');

test('every provider has a page, a row in the overview, and one in the table of what it was run against', async () => {
  const overview = await read('README.md');
  const [before = '', after = ''] = overview.split('## Run against the real thing?');
  for (const scheme of supportedRootKeySchemes) {
    expect(pages).toContain(`${scheme}.md`);
    expect(before).toContain(`(${scheme}.md)`);
    expect(after).toContain(`\`${scheme}:\``);
  }
});

describe.each(pages)('docs/providers/%s', (page) => {
  test('names only codes that there are', async () => {
    const text = await read(page);
    const named = text.match(/`(root_key_\w+|\w+_root_key|decryption_failed)`/g) ?? [];
    expect(named.length).toBeGreaterThan(0);
    for (const code of named) expect(errorCodes).toContain(code.slice(1, -1));
  });
});

test('every provider can be made by hand: it is a module that the package exports', async () => {
  const { exports } = JSON.parse(await readFile(join(root, 'packages/keyring/package.json'), 'utf8')) as {
    exports: Record<string, unknown>;
  };
  for (const scheme of supportedRootKeySchemes) expect(exports).toHaveProperty([`./providers/${scheme}`]);
});
