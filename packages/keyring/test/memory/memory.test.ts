/** What a service that ran for a while has in its memory: read from outside, by somebody who knows every key. SECURITY.md cites it. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open as openFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openRootKey } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../../test/support/database.ts';
import { canRun } from '../../../../test/support/required.ts';
import { dataKeyAad, signingKeyAad, wrappingKeyAad } from '../../src/envelope/aad.ts';
import { open } from '../../src/envelope/seal.ts';
import { keyFromBytes } from '../../src/secret-bytes.ts';
import { bytesOf, textOf, type Step } from './support/holding-process.ts';
import { searchMemory, searchSnapshot, tell, type Found, type Needle } from './support/search.ts';

const readsMemory =
  process.platform === 'linux' &&
  (await openFile('/proc/self/mem', 'r').then(
    async (file) => file.close().then(() => true),
    () => false,
  ));
const hasMemory = canRun('proc', readsMemory, 'the memory of a process can only be read on Linux');

let folder: string;
let database: TestDatabase;
let service: ChildProcess;
const needles: Needle[] = [];
/** What was found of the root key once the keyring was open. */
let afterOpening: Found[] = [];
const projects: string[] = [];
const seed = (): string => randomBytes(8).toString('hex');

// Ten seconds of it are waited for; the rest is for a machine that is busy.
/** Enough for a rotation to encrypt in threads of its own. */
const ROWS = 250;
const textSeeds = Array.from({ length: 4 }, seed);
const byteSeeds = Array.from({ length: 4 }, seed);
const plantedText = seed();
const plantedBytes = seed();

async function ask(step: Step): Promise<unknown> {
  service.send(step);
  const [answer] = (await once(service, 'message')) as [{ done?: unknown; failed?: string }];
  if (answer.failed !== undefined) throw new Error(answer.failed);
  return answer.done;
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-memory-'));
  database = await createTestDatabase();
  const root = randomBytes(32);
  const line = `MESHHOOK-ROOT-KEY-1-${root.toString('base64url')}\n`;
  await writeFile(path.join(folder, 'root.key'), line, { mode: 0o600 });
  needles.push({ name: 'root key', bytes: root });
  for (const name of ['rotated', 'evicted', 'held', 'held too']) {
    const [row] = await query<{ id: string }>(
      database.adminUrl,
      'insert into public.projects (owner, name) values (gen_random_uuid(), $1) returning id',
      [name],
    );
    projects.push(row?.id ?? '');
  }
  const [rotated = ''] = projects;
  await query(database.adminUrl, `insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [
    rotated,
  ]);

  service = fork(
    path.join(import.meta.dirname, 'support/holding-process.ts'),
    [database.serviceUrl, `file:${path.join(folder, 'root.key')}`],
    { execArgv: ['--conditions=@meshhook/source', '--expose-gc', '--heap-snapshot-string-limit=1000000'] },
  );
  await ask({ do: 'open' });
  // The handles that it went through are collected, which clears them.
  await ask({ do: 'rest' });
  if (hasMemory) afterOpening = await searchMemory(service.pid ?? 0, needles);
  needles.push({ name: 'destroyed wrapping key', bytes: (await learnWrappingKey()).bytes });
  for (const [number, project] of projects.entries()) {
    await ask({ do: 'put', as: 'text', project, seed: textSeeds[number] ?? '' });
    await ask({ do: 'put', as: 'bytes', project, seed: byteSeeds[number] ?? '' });
  }
  for (let row = 0; row < ROWS; row++)
    await ask({ do: 'put', as: 'bytes', project: rotated, seed: `row ${String(row)}` });
  expect(await ask({ do: 'rotate', project: rotated })).toBe('completed');
  expect(await ask({ do: 'replace wrapping key' })).toBe('destroyed');
  // While its wrapped bytes are still there.
  await learnKeys();
  const [old] = await query<{ id: string }>(
    database.adminUrl,
    'select id from keyring.encryption_keys where project_id = $1 and version = 1',
    [rotated],
  );
  expect(await ask({ do: 'destroy', keyId: old?.id ?? '' })).toBe('destroyed');
  // The last two that are read are the ones that are held from here on.
  for (const [number, project] of projects.entries()) {
    expect(await ask({ do: 'get', as: 'text', project, seed: textSeeds[number] ?? '' })).toBe(true);
    expect(await ask({ do: 'get', as: 'bytes', project, seed: byteSeeds[number] ?? '' })).toBe(true);
  }
  await ask({ do: 'plant', as: 'text', seed: plantedText });
  await ask({ do: 'plant', as: 'bytes', seed: plantedBytes });
  for (const one of textSeeds) needles.push({ name: 'a value, as text', bytes: Buffer.from(textOf(one)) });
  for (const one of byteSeeds) needles.push({ name: 'a value, as bytes', bytes: bytesOf(one) });
  needles.push(
    { name: 'planted text', bytes: bytesOf(plantedText) },
    { name: 'planted bytes', bytes: bytesOf(plantedBytes) },
  );
});
afterAll(async () => {
  if (service.exitCode === null) {
    service.kill('SIGKILL');
    await once(service, 'exit');
  }
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

const sql = <Row extends Record<string, unknown>>(text: string): Promise<Row[]> => query<Row>(database.adminUrl, text);

/** The one that has its bytes, as only whoever has the root key can. */
async function learnWrappingKey(): Promise<{ wrappingKeyId: string; bytes: Buffer }> {
  const [stored] = await sql<{ id: string; version: number; wrapped: Buffer }>(
    `select w.id, w.version, c.wrapped from keyring.wrapping_keys w
     join keyring.wrapped_wrapping_keys c on c.wrapping_key_id = w.id`,
  );
  if (stored === undefined) throw new Error('There is no wrapping key.');
  const { id: wrappingKeyId, version } = stored;
  const rootKey = await openRootKey(`file:${path.join(folder, 'root.key')}`, { cwd: folder });
  const bytes = Buffer.from(await rootKey.unwrap(stored.wrapped, wrappingKeyAad({ version, wrappingKeyId })));
  return { wrappingKeyId, bytes };
}

/** Unwraps every key here. */
async function learnKeys(): Promise<void> {
  const { wrappingKeyId, bytes: wrapping } = await learnWrappingKey();
  needles.push({ name: 'wrapping key', bytes: wrapping });
  const unwrap = (wrapped: Buffer, aad: Uint8Array): Buffer =>
    open(keyFromBytes(Buffer.from(wrapping)), wrappingKeyId, wrapped, aad);
  for (const row of await sql<{ id: string; project_id: string; version: number; wrapped_key: Buffer }>(
    'select id, project_id, version, wrapped_key from keyring.encryption_keys order by version desc',
  )) {
    const place = { projectId: row.project_id, version: row.version, keyId: row.id, wrappingKeyId };
    needles.push({ name: nameOf(row), bytes: unwrap(row.wrapped_key, dataKeyAad(place)) });
  }
  for (const row of await sql<{ id: string; version: number; wrapped_key: Buffer }>(
    'select * from keyring.signing_keys',
  )) {
    const aad = signingKeyAad({ version: row.version, signingKeyId: row.id, wrappingKeyId });
    needles.push({ name: 'signing key', bytes: unwrap(row.wrapped_key, aad) });
  }
  expect(needles.map(({ name }) => name).toSorted()).toEqual(
    [
      'root key',
      'wrapping key',
      'destroyed wrapping key',
      'signing key',
      'destroyed data key',
      ...Array<string>(2).fill('evicted data key'),
      ...Array<string>(2).fill('held data key'),
    ].toSorted(),
  );
}

function nameOf({ project_id, version }: { project_id: string; version: number }): string {
  const project = projects.indexOf(project_id);
  if (project === 0 && version === 1) return 'destroyed data key';
  return project < 2 ? 'evicted data key' : 'held data key';
}

const isKey = ({ needle }: Found): boolean => needle.endsWith('key');
const named = (found: readonly Found[], ...names: string[]): Found[] =>
  found.filter(({ needle }) => names.includes(needle));
const lost = ['destroyed data key', 'destroyed wrapping key', 'evicted data key', 'root key'];
const whole = (found: readonly Found[]): Found[] => found.filter((one) => one.whole);

test.skipIf(!hasMemory)('the root key is not in memory once the keyring is open', () => {
  expect(whole(afterOpening)).toEqual([]);
});

test.skipIf(!hasMemory)(
  'the whole memory holds no destroyed or evicted key, nor the root key, once they were collected',
  async () => {
    const pid = service.pid ?? 0;
    const started = performance.now();
    const gone: string[] = [];
    let found = await searchMemory(pid, needles);
    console.log(`memory, at once:\n${tell(found)}`);
    // Collected soon; what a thread of the rotation used, when the thread ends: after ten seconds without work.
    await expect
      .poll(
        async () => {
          await ask({ do: 'rest' });
          found = await searchMemory(pid, needles);
          for (const name of lost) {
            const seconds = ((performance.now() - started) / 1000).toFixed(1);
            if (named(found, name).length === 0 && !gone.some((line) => line.startsWith(name)))
              gone.push(`${name} after ${seconds} s`);
          }
          return whole(named(found, ...lost));
        },
        { interval: 500 },
      )
      .toEqual([]);
    console.log(`not found any more: ${gone.join(', ')}\nmemory, at rest:\n${tell(found)}`);
    // What is in use is there, once each, outside of JavaScript's heap; so the search would find the others.
    for (const name of ['wrapping key', 'signing key']) expect(whole(named(found, name)), name).toHaveLength(1);
    expect(whole(named(found, 'held data key'))).toHaveLength(2);
    expect(whole(named(found, 'planted bytes')).length).toBeGreaterThan(0);
    expect(found.filter((one) => isKey(one) && one.as !== 'raw')).toEqual([]);
    // What was given and taken as bytes, and wiped by the service, was left by nobody. Of strings nobody can say that.
    expect(whole(named(found, 'a value, as bytes'))).toEqual([]);
  },
);

test.skipIf(!hasMemory)(
  'a key that is read anew is there once: what it came through on its way was wiped',
  async () => {
    const name = 'evicted data key';
    const [, project = ''] = projects;
    expect(await ask({ do: 'get', as: 'bytes', project, seed: byteSeeds[1] ?? '' })).toBe(true);
    const found = named(await searchMemory(service.pid ?? 0, needles), name);
    expect(whole(found), tell(found)).toHaveLength(1);
  },
);

test('a heap snapshot holds no key, live or not, in any spelling, and no value that was let go; the search finds what is there', async () => {
  const snapshot = async (name: string): Promise<Found[]> =>
    searchSnapshot(String(await ask({ do: 'snapshot', to: path.join(folder, name) })), needles);
  const first = await snapshot('first.heapsnapshot');
  console.log(`heap snapshot:\n${tell(first)}`);
  // All that is found was planted, as text: what is in buffers is in no snapshot.
  expect([...new Set(first.map(({ needle }) => needle))]).toEqual(['planted text']);
  expect(whole(first)).toMatchObject([{ as: 'hex' }]);
  await ask({ do: 'drop' });
  expect(await snapshot('second.heapsnapshot')).toEqual([]);
  // For the search of the memory.
  await ask({ do: 'plant', as: 'bytes', seed: plantedBytes });
});

test.skipIf(!hasMemory)(
  'a keyring that was closed leaves no key in memory, though the program goes on and refers to it',
  async () => {
    await ask({ do: 'close' });
    let found: Found[] = [];
    await expect
      .poll(
        async () => {
          await ask({ do: 'rest' });
          found = await searchMemory(service.pid ?? 0, needles);
          return whole(found.filter(isKey));
        },
        { interval: 500 },
      )
      .toEqual([]);
    console.log(`memory, after close:\n${tell(found)}`);
    expect(whole(named(found, 'planted bytes')).length).toBeGreaterThan(0);
  },
);
