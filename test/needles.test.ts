import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { generateKey, insecureExportKey } from '../packages/keyring/src/secret-bytes.ts';
import { findNeedles, noteKeys } from './support/needles.ts';

const key = randomBytes(32);
const keys = new Set([key.toString('hex')]);
const mark = 'canary0123456789abcdef';

test.each([
  ['hex', key.toString('hex')],
  ['hex of a larger thing', `\\xff0${key.toString('hex')}00`],
  ['base64', `{"key":"${key.toString('base64')}"}`],
  ['base64url', key.toString('base64url')],
  ['what console.log makes of bytes', inspect(key)],
  ['JSON of bytes', JSON.stringify(key)],
  ['an array', inspect([...key], { breakLength: Infinity })],
  ['the first half', key.subarray(0, 16).toString('hex')],
  ['a value with the canary', `Failing row contains (sk_live_${mark}).`],
  ['such a value as bytea', `(\\x${Buffer.from(mark).toString('hex')})`],
])('a run that gives one away is found out: %s', (_, text) => {
  expect(findNeedles(`first line\n${text}\nlast`, keys, mark).join()).toMatch(/line [23],/);
});

test('other keys, ids and numbers are no find', () => {
  const other = randomBytes(64);
  const text = [other.toString('hex'), other.toString('base64'), inspect(other), JSON.stringify(other)].join('\n');
  expect(findNeedles(text, keys, mark)).toEqual([]);
});

test('every key that a test makes is noted', () => {
  const made = insecureExportKey(generateKey());
  // More than it waits for.
  for (let n = 0; n < 1_000; n++) generateKey();
  noteKeys([]);
  const folder = process.env['MESHHOOK_TEST_NEEDLES'] ?? '';
  const noted = readdirSync(folder)
    .map((name) => readFileSync(path.join(folder, name), 'utf8'))
    .join('');
  expect(noted).toContain(made.toString('hex'));
});
