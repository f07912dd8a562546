import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { statusOfCode } from '../src/index.ts';

const text = readFileSync(path.join(import.meta.dirname, '../../../docs/http-api.md'), 'utf8');

it('docs/http-api.md has every code, with its status', () => {
  const documented: Record<string, number> = {};
  for (const [, status, codes = ''] of text.matchAll(/^\| (\d{3}) \| (`.*`) \|$/gm)) {
    for (const [, code = ''] of codes.matchAll(/`(\w+)`/g)) documented[code] = Number(status);
  }
  expect(documented).toEqual(statusOfCode);
});
