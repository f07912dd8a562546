/**
 * What no output of a test run may hold: every key that it used, and its canary, which values of tests carry. Kept in a folder of the
 * run, which `global-setup.ts` makes and searches at the end.
 */
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import path from 'node:path';

const FOLDER = 'MESHHOOK_TEST_NEEDLES';

/** Makes the folder of a run; processes that it starts find it in the environment. */
export function openNeedles(): { readonly folder: string; readonly canary: string } {
  const folder = mkdtempSync(path.join(tmpdir(), 'keyring-needles-'));
  const canary = `canary${randomBytes(8).toString('hex')}`;
  process.env[FOLDER] = folder;
  process.env['MESHHOOK_TEST_CANARY'] = canary;
  return { folder, canary };
}

/** Goes into the values of tests. Not a secret of anybody's: what it is in is. */
export function canary(): string {
  return process.env['MESHHOOK_TEST_CANARY'] ?? 'canary';
}

export function noteKeys(keys: readonly string[]): void {
  append('keys', keys.map((key) => `${key}\n`).join(''));
}

/** Output of a process that a test started, or of a test, that shows no value on purpose. */
export function collectOutput(text: string): void {
  append('output', text);
}

function append(kind: 'keys' | 'output', text: string): void {
  const folder = process.env[FOLDER];
  if (folder === undefined || text === '' || !existsSync(folder)) return;
  appendFileSync(path.join(folder, `${kind}-${String(process.pid)}`), text);
}

export interface Haystack {
  readonly name: string;
  readonly text: string;
}

/** Searches what was collected, and these, and forgets all. @throws Error naming where a key or a value was found, and not which. */
export function searchNeedles(
  { folder, canary: mark }: ReturnType<typeof openNeedles>,
  more: readonly Haystack[],
): string {
  const files = readdirSync(folder);
  const read = (kind: string): Haystack[] =>
    files
      .filter((name) => name.startsWith(kind))
      .map((name) => ({ name, text: readFileSync(path.join(folder, name), 'latin1') }));
  const keys = new Set(read('keys').flatMap(({ text }) => text.trimEnd().split('\n')));
  const haystacks = [...read('output'), ...more];
  rmSync(folder, { recursive: true, force: true });
  const found = haystacks.flatMap(({ name, text }) =>
    findNeedles(text, keys, mark).map((what) => `${what} in ${name}`),
  );
  if (found.length > 0) throw new Error(`The run gave secrets away:\n${found.slice(0, 50).join('\n')}`);
  const bytes = haystacks.reduce((sum, { text }) => sum + text.length, 0);
  return `No key of ${String(keys.size)}, and no value with the canary, in ${String(bytes)} bytes of output and logs.`;
}

// Half a key is found, too.
const HEX = 32;
const BASE64 = 21;

/** Where keys (given in hex) are in a text: as hex, as bytes in brackets, in base64; and where a value with the canary is. */
export function findNeedles(text: string, keys: ReadonlySet<string>, mark: string): string[] {
  const hex = new Set([...keys].map((key) => key.slice(0, HEX)));
  const base64 = new Set([...keys].map((key) => Buffer.from(key, 'hex').toString('base64').slice(0, BASE64)));
  const decimal = new Set([...keys].map((key) => [...Buffer.from(key, 'hex').subarray(0, 16)].join(',')));
  const line = (at: number): string => `line ${String(text.slice(0, at).split('\n').length)}`;
  const found: string[] = [];
  for (const match of text.matchAll(/[0-9a-fA-F]{2}(?:[\s:]?[0-9a-fA-F]{2}){15,}/g)) {
    const run = match[0].replaceAll(/[\s:]/g, '').toLowerCase();
    for (let at = 0; at + HEX <= run.length; at++) {
      if (hex.has(run.slice(at, at + HEX))) found.push(`a key in hex, ${line(match.index)},`);
    }
  }
  for (const match of text.matchAll(/[A-Za-z0-9+/_-]{21,}/g)) {
    const run = match[0].replaceAll('-', '+').replaceAll('_', '/');
    for (let at = 0; at + BASE64 <= run.length; at++) {
      if (base64.has(run.slice(at, at + BASE64))) found.push(`a key in base64, ${line(match.index)},`);
    }
  }
  for (const match of text.matchAll(/\d{1,3}(?:,\s*\d{1,3}){15,}/g)) {
    const run = match[0].replaceAll(/\s/g, '').split(',');
    for (let at = 0; at + 16 <= run.length; at++) {
      if (decimal.has(run.slice(at, at + 16).join(','))) found.push(`a key as numbers, ${line(match.index)},`);
    }
  }
  for (const form of [mark, Buffer.from(mark).toString('hex')]) {
    const at = text.toLowerCase().indexOf(form);
    if (at >= 0) found.push(`a value, ${line(at)},`);
  }
  return found;
}
