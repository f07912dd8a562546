import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import { dataKeyAad } from '../../src/envelope/aad.ts';
import { uuidToBytes } from '../../src/envelope/format.ts';
import { open, seal } from '../../src/envelope/seal.ts';
import { equalBytes, generateKey, insecureExportKey, keyFingerprint, type SecretKey } from '../../src/secret-bytes.ts';
import { tryKeys, type BatchOutcome, type LostReason } from '../../src/upper-keys/key-batch.ts';
import { KeyThreads } from '../../src/upper-keys/key-threads.ts';
import { namedKey, WRAPPED_BYTES, wrappingKeysOf, type PackedKeys } from '../../src/upper-keys/packed-keys.ts';

// Data keys wrapped anew and proved beside the thread that talks to PostgreSQL: as if it were done here, whatever the rows are.

const threads = new KeyThreads({ threads: 1, leastKeys: 1 });
afterAll(() => threads.close());

const held = { id: randomUUID(), key: generateKey() };
const to = { id: randomUUID(), key: generateKey() };
const gone = randomUUID();
const altered = randomUUID();
const from = new Map<string, SecretKey | LostReason>([
  [held.id, held.key],
  [gone, 'key_unavailable'],
  [altered, 'does_not_open'],
]);

const spoils = [
  'whole',
  'flipped',
  'garbage',
  'elsewhere',
  'another version',
  'another id',
  'gone',
  'altered',
  'unknown',
  'short',
] as const;
type Spoil = (typeof spoils)[number];
/** What a rewrap says of each. */
const reasons: Record<Spoil, LostReason | undefined> = {
  whole: undefined,
  flipped: 'does_not_open',
  garbage: 'does_not_open',
  elsewhere: 'does_not_open',
  'another version': 'does_not_open',
  'another id': 'does_not_open',
  gone: 'key_unavailable',
  altered: 'does_not_open',
  unknown: 'key_unavailable',
  short: 'does_not_open',
};

interface Made {
  readonly spoil: Spoil;
  readonly bytes: Buffer;
  readonly id: string;
  readonly projectId: string;
  readonly version: number;
  readonly packed: Buffer;
}

/** A data key as PostgreSQL packs it: `packedInSql`. */
function make(spoil: Spoil, under = held, fingerprintOf?: SecretKey): Made {
  const key = generateKey();
  const bytes = insecureExportKey(key);
  const [id, projectId] = [randomUUID(), randomUUID()];
  const version = 1 + (randomBytes(2).readUInt16BE(0) % 5_000);
  const place = { projectId, version, keyId: id, wrappingKeyId: under.id };
  let wrapped = seal(under.key, under.id, bytes, dataKeyAad(place));
  if (spoil === 'flipped') wrapped[WRAPPED_BYTES - 1] = (wrapped[WRAPPED_BYTES - 1] ?? 0) ^ 1;
  if (spoil === 'garbage') wrapped = randomBytes(WRAPPED_BYTES);
  if (spoil === 'elsewhere')
    wrapped = seal(under.key, under.id, bytes, dataKeyAad({ ...place, projectId: randomUUID() }));
  if (spoil === 'another version')
    wrapped = seal(under.key, under.id, bytes, dataKeyAad({ ...place, version: version + 1 }));
  if (spoil === 'another id') wrapped = seal(under.key, under.id, bytes, dataKeyAad({ ...place, keyId: randomUUID() }));
  if (spoil === 'short') wrapped.fill(0, 20);
  const names: Partial<Record<Spoil, string>> = { gone, altered, unknown: randomUUID() };
  const number = Buffer.alloc(4);
  number.writeInt32BE(version);
  const packed = Buffer.concat([
    ...[randomBytes(6), uuidToBytes(id), uuidToBytes(projectId), number, uuidToBytes(names[spoil] ?? under.id)],
    ...[wrapped, keyFingerprint(fingerprintOf ?? key, id)],
  ]);
  return { spoil, bytes, id, projectId, version, packed };
}

const pack = (made: readonly Made[]): PackedKeys => new Uint8Array(Buffer.concat(made.map((one) => one.packed)));
const lostOf = ({ lost }: BatchOutcome): [number, LostReason][] => [...lost];
const wrappedAt = ({ after }: BatchOutcome, number: number): Uint8Array =>
  after.subarray(number * WRAPPED_BYTES, (number + 1) * WRAPPED_BYTES);

test('a thread wraps what would be wrapped here, and loses the others for the same reasons', async () => {
  const batches = fc.array(fc.constantFrom<Spoil>('whole', 'whole', ...spoils), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(batches, async (given) => {
      const made = given.map((spoil) => make(spoil));
      const keys = pack(made);
      const before = Buffer.from(keys);
      const there = await threads.tryKeys({ keys, from, to });
      expect(lostOf(there)).toEqual(lostOf(tryKeys({ keys, from, to })));
      expect(there.after.length).toBe(made.length * WRAPPED_BYTES);
      for (const [number, { spoil, bytes, id, projectId, version }] of made.entries()) {
        expect(there.lost.get(number)).toBe(reasons[spoil]);
        if (spoil !== 'whole') continue;
        const place = { projectId, version, keyId: id, wrappingKeyId: to.id };
        expect(equalBytes(open(to.key, to.id, wrappedAt(there, number), dataKeyAad(place)), bytes)).toBe(true);
        expect(namedKey(keys, number)).toEqual({ id, projectId, version });
      }
      // What was read is compared with what is stored when the key is replaced: it must be as it was.
      expect(before.equals(keys)).toBe(true);
    }),
    { numRuns: 60 },
  );
  expect(threads.report.there).toBe(60);
});

test('a proof wants every key under the wrapping key, and to be the key of its check value', async () => {
  const made = [make('whole', to), make('whole', held), make('flipped', to), make('whole', to, generateKey())];
  const keys = pack(made);
  for (const outcome of [await threads.tryKeys({ keys, under: to }), tryKeys({ keys, under: to })]) {
    expect(lostOf(outcome)).toEqual([
      [2, 'does_not_open'],
      [3, 'does_not_open'],
    ]);
    expect(outcome.stray).toBe(1);
  }
  expect(wrappingKeysOf(keys)).toEqual([to.id, held.id]);
});

test('no nonce comes twice, though the thread draws its own', async () => {
  const keys = pack(Array.from({ length: 300 }, () => make('whole')));
  // More than the thread takes at once: some are done here.
  const outcomes = await Promise.all(Array.from({ length: 6 }, () => threads.tryKeys({ keys, from, to })));
  const nonces = outcomes.flatMap((outcome) =>
    Array.from({ length: 300 }, (_, number) =>
      Buffer.from(wrappedAt(outcome, number).subarray(18, 30)).toString('hex'),
    ),
  );
  expect(new Set(nonces).size).toBe(6 * 300);
  expect(threads.report.here).toBeGreaterThan(0);
});

test('a thread that ends in the middle loses nothing: the work is done here', async () => {
  const ending = new KeyThreads({ threads: 1, leastKeys: 1 });
  const keys = pack(Array.from({ length: 300 }, () => make('whole')));
  const asked = [ending.tryKeys({ keys, from, to }), ending.tryKeys({ keys, from, to })];
  await ending.close();
  for (const { lost } of await Promise.all(asked)) expect(lost.size).toBe(0);
  const { there, here } = ending.report;
  expect(there + here).toBe(2);
  // And it begins anew when it is asked again.
  expect((await ending.tryKeys({ keys, from, to })).lost.size).toBe(0);
  expect(ending.report).toEqual({ there: there + 1, here });
  await ending.close();
});

test('bytes that are no whole number of keys are refused', () => {
  expect(() => tryKeys({ keys: new Uint8Array(167), under: to })).toThrow(TypeError);
});
