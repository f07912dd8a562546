import { execFile } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import { secretAad } from '../../src/envelope/aad.ts';
import { open, seal } from '../../src/envelope/seal.ts';
import { tryBatch, type SealedRow, type UnreadableReason } from '../../src/rotation/row-batch.ts';
import { RowThreads } from '../../src/rotation/row-threads.ts';
import { generateKey, type SecretKey } from '../../src/secret-bytes.ts';

// Encrypting beside the thread that talks to PostgreSQL: as if it were done here, whatever the rows are.

const threads = new RowThreads({ threads: 2, leastRows: 1 });
afterAll(() => threads.close());

const projectId = randomUUID();
const label = 'secrets.value';
const keys = Array.from({ length: 3 }, () => ({ keyId: randomUUID(), key: generateKey() }));
const target = { keyId: randomUUID(), key: generateKey() };
const destroyed = randomUUID();
const versions = new Map<string, SecretKey | UnreadableReason>([
  ...keys.map(({ keyId, key }) => [keyId, key] as const),
  [destroyed, 'key_unavailable'],
]);

type Spoil = 'whole' | 'flipped' | 'truncated' | 'elsewhere' | 'garbage' | 'destroyed' | 'unknown' | 'another key id';

function row(value: Uint8Array, version: number, spoil: Spoil): SealedRow {
  const id = randomUUID();
  const { keyId, key } = keys[version % keys.length] ?? target;
  const envelope = seal(key, keyId, value, secretAad({ projectId, label, rowId: id, keyId }));
  if (spoil === 'flipped') envelope[envelope.length - 1] = (envelope.at(-1) ?? 0) ^ 1;
  if (spoil === 'truncated') return { id, keyId, envelope: envelope.subarray(0, 45) };
  if (spoil === 'elsewhere') return { id: randomUUID(), keyId, envelope };
  if (spoil === 'garbage') return { id, keyId, envelope: randomBytes(60) };
  if (spoil === 'destroyed') return { id, keyId: destroyed, envelope };
  if (spoil === 'unknown') return { id, keyId: randomUUID(), envelope };
  if (spoil === 'another key id') return { id, keyId: target.keyId, envelope };
  return { id, keyId, envelope };
}

const rows = fc.array(
  fc
    .tuple(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(2),
      fc.constantFrom<Spoil>(
        'whole',
        'whole',
        'whole',
        'flipped',
        'truncated',
        'elsewhere',
        'garbage',
        'destroyed',
        'unknown',
        'another key id',
      ),
    )
    .map(([value, version, spoil]) => ({ value, spoil, row: row(value, version, spoil) })),
  { minLength: 1, maxLength: 40 },
);

test('a thread gives what would be given here: the same rows open, the others for the same reasons', async () => {
  await fc.assert(
    fc.asyncProperty(rows, async (given) => {
      const batch = { projectId, label, rows: given.map((one) => one.row), versions };
      const before = batch.rows.map(({ envelope }) => Buffer.from(envelope));
      expect(await threads.tryBatch(batch)).toEqual(tryBatch(batch));

      const here = tryBatch({ ...batch, target });
      const there = await threads.tryBatch({ ...batch, target });
      for (const [number, { row: one, value, spoil }] of given.entries()) {
        const outcome = there[number];
        if (!Buffer.isBuffer(outcome)) {
          expect(outcome).toBe(here[number]);
          expect(spoil).not.toBe('whole');
          continue;
        }
        expect(spoil).toBe('whole');
        const aad = secretAad({ projectId, label, rowId: one.id, keyId: target.keyId });
        expect(open(target.key, target.keyId, outcome, aad).equals(value)).toBe(true);
      }
      // What was read is compared with what is stored when the row is moved: it must be as it was.
      expect(batch.rows.map(({ envelope }) => Buffer.from(envelope))).toEqual(before);
    }),
    { numRuns: 60 },
  );
  expect(threads.report.there).toBeGreaterThan(100);
  expect(threads.report.here).toBe(0);
});

test('no nonce comes twice, though each thread draws its own', async () => {
  const batch = {
    projectId,
    label,
    rows: Array.from({ length: 500 }, () => row(randomBytes(8), 0, 'whole')),
    versions,
  };
  const sealed = await Promise.all(Array.from({ length: 8 }, () => threads.tryBatch({ ...batch, target })));
  const nonces = sealed.flat().map((one) => (one as Buffer).subarray(18, 30).toString('hex'));
  expect(new Set(nonces).size).toBe(8 * 500);
});

test('threads that end in the middle lose nothing: the work is done here', async () => {
  const ending = new RowThreads({ threads: 1, leastRows: 1 });
  const batch = {
    projectId,
    label,
    rows: Array.from({ length: 300 }, () => row(randomBytes(8), 1, 'whole')),
    versions,
  };
  const asked = Array.from({ length: 4 }, () => ending.tryBatch({ ...batch, target }));
  await ending.close();
  for (const outcomes of await Promise.all(asked)) expect(outcomes.every((one) => Buffer.isBuffer(one))).toBe(true);
  expect(ending.report.here).toBeGreaterThan(0);
  // And it begins anew when it is asked again.
  expect((await ending.tryBatch({ ...batch, target })).every((one) => Buffer.isBuffer(one))).toBe(true);
  await ending.close();
});

test('a thread that nobody needs does not keep a process alive, one with work to do does', async () => {
  const script = `
    import { RowThreads } from '${new URL('../../src/rotation/row-threads.ts', import.meta.url).href}';
    const threads = new RowThreads({ threads: 1, leastRows: 1 });
    const rows = [{ id: 'x', keyId: 'unknown', envelope: new Uint8Array(50) }];
    threads.tryBatch({ projectId: '${projectId}', label: 'l', rows, versions: new Map() }).then(([one]) => console.log(one));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  expect(stdout.trim()).toBe('unknown_key');
});
