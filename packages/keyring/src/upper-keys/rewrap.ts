import type { BlockingKey } from '../api-upper-keys.ts';
import { transaction, type Queryable } from '../db/port.ts';
import { backoffMs, pause } from '../db/wait.ts';
import type { WrappingKey } from '../keyring/wrapping-keys.ts';
import { Overtaken, type UpperContext } from './context.ts';
import type { LostReason, RewrapBatch } from './key-batch.ts';
import { countPacked, namedKey, WRAPPED_BYTES, wrappingKeysOf, type PackedKeys } from './packed-keys.ts';
import { heldOrLost, proveSigningKey, rewrapSigningKey } from './rewrap-keys.ts';
import {
  countUnderOthers,
  replaceWrapped,
  replaceWrappedSigningKey,
  selectBlocks,
  selectSigningKeys,
  selectWrappedOnBlocks,
} from './rewrap-store.ts';
import { lockUpperRotation, noteKeysMoved, type UpperRotation } from './rotation-store.ts';

// Half of what a heap block of 8 KiB holds when it is half full, as the table is filled: a batch size of 1,000 takes some 2,100 keys.
const KEYS_PER_BLOCK = 8;
// One is read and worked on while PostgreSQL writes another, and a third waits for neither.
const LANES = 3;
// For a batch of another lane, or of another process, to be through.
const LOCK_WAIT_MS = 10_000;
const FIRST_WAIT_MS = 20;
const LONGEST_WAIT_MS = 1_000;

/** What a pass left as it was: keys that cannot be moved, and keys whose rows somebody holds or changed meanwhile. */
interface Left {
  moved: number;
  readonly lost: BlockingKey[];
  readonly held: BlockingKey[];
}

/**
 * Wraps every key that is under another wrapping key by this one, in passes over the table, until nothing is left but what cannot be
 * moved. Rows that others hold are passed over and come back in a later pass; those that are held for longer than the patience are
 * among what it gives.
 */
export async function rewrapAll(
  context: UpperContext,
  rotation: UpperRotation,
  to: WrappingKey,
  signal: AbortSignal,
): Promise<BlockingKey[]> {
  let waitedMs = 0;
  for (let fruitless = 0; ;) {
    const left: Left = { moved: 0, lost: [], held: [] };
    await rewrapSigningKeys(context, rotation, to, left);
    await overBlocks(context, (from, until) => rewrapBlocks(context, rotation, to, { from, to: until }, left), signal);
    const others = await countUnderOthers(context.database, to.id);
    // What is left is what cannot be moved; or rows went to blocks that this pass had done already.
    if (others <= left.lost.length) return left.lost;
    fruitless = left.moved > 0 ? 0 : fruitless + 1;
    if (left.moved > 0) waitedMs = 0;
    const waitMs = backoffMs(fruitless + 1, FIRST_WAIT_MS, LONGEST_WAIT_MS);
    if (waitedMs + waitMs > context.lockPatienceMs) return [...left.lost, ...left.held];
    waitedMs += waitMs;
    await pause(waitMs, signal);
    signal.throwIfAborted();
  }
}

export interface Proof {
  readonly proved: number;
  /** Under another wrapping key than they should be. */
  readonly stray: number;
  readonly lost: readonly BlockingKey[];
}

/** Reads every key back, independently of what was written: under this wrapping key, and the key it was. */
export async function proveAll(
  context: UpperContext,
  under: WrappingKey,
  signal: AbortSignal,
  onProved: (proved: number) => void,
): Promise<Proof> {
  let proved = 0;
  let stray = 0;
  const lost: BlockingKey[] = [];
  for (const row of await selectSigningKeys(context.database)) {
    const trouble = row.wrapping_key_id === under.id ? proveSigningKey(row, under) : 'stray';
    if (trouble === undefined) proved += 1;
    else if (trouble === 'stray') stray += 1;
    else lost.push(trouble);
  }
  await overBlocks(
    context,
    async (from, to) => {
      const keys = await selectWrappedOnBlocks(context.database, { from, to });
      const outcome = await context.keyThreads.tryKeys({ keys, under });
      stray += outcome.stray;
      lost.push(...blocking(keys, outcome.lost));
      proved += countPacked(keys) - outcome.stray - outcome.lost.size;
      onProved(proved);
    },
    signal,
  );
  return { proved, stray, lost };
}

/** Does the table of data keys in ranges of its blocks, a few at a time. */
async function overBlocks(
  { database, sweepBatchSize }: UpperContext,
  work: (from: number, to: number) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const end = await selectBlocks(database);
  const atOnce = Math.ceil(sweepBatchSize / KEYS_PER_BLOCK);
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < end && !failed) {
      signal.throwIfAborted();
      const from = next;
      next += atOnce;
      try {
        await work(from, next);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: LANES }, lane));
  for (const one of lanes) if (one.status === 'rejected') throw one.reason;
}

async function rewrapBlocks(
  context: UpperContext,
  rotation: UpperRotation,
  to: WrappingKey,
  range: { readonly from: number; readonly to: number },
  left: Left,
): Promise<void> {
  const keys = await selectWrappedOnBlocks(context.database, { ...range, exceptUnder: to.id });
  if (keys.length === 0) return;
  const { lost, after } = await context.keyThreads.tryKeys({ keys, from: await origins(context, keys), to });
  left.lost.push(...blocking(keys, lost));
  const which = Array.from({ length: countPacked(keys) }, (_, number) => number).filter((number) => !lost.has(number));
  if (which.length === 0) return;
  const wrapped = which.map((number) => after.subarray(number * WRAPPED_BYTES, (number + 1) * WRAPPED_BYTES));
  const passedOver = await counted(context, rotation, async (tx) => {
    const ids = await replaceWrapped(tx, to.id, { keys, which, after: wrapped });
    return { result: new Set(ids), moved: which.length - ids.length };
  });
  left.moved += which.length - passedOver.size;
  if (passedOver.size === 0) return;
  for (const number of which) {
    const key = namedKey(keys, number);
    if (passedOver.has(key.id)) left.held.push({ kind: 'data', ...key, reason: 'held' });
  }
}

async function origins({ wrappingKeys }: UpperContext, keys: PackedKeys): Promise<RewrapBatch['from']> {
  const ids = wrappingKeysOf(keys);
  await wrappingKeys.ensure(ids);
  return new Map(ids.map((id) => [id, heldOrLost(wrappingKeys, id)]));
}

function blocking(keys: PackedKeys, lost: ReadonlyMap<number, LostReason>): BlockingKey[] {
  return [...lost].map(([number, reason]) => ({ kind: 'data', ...namedKey(keys, number), reason }));
}

async function rewrapSigningKeys(
  context: UpperContext,
  rotation: UpperRotation,
  to: WrappingKey,
  left: Left,
): Promise<void> {
  const rows = (await selectSigningKeys(context.database)).filter((row) => row.wrapping_key_id !== to.id);
  await context.wrappingKeys.ensure(rows.map((row) => row.wrapping_key_id));
  for (const row of rows) {
    const outcome = rewrapSigningKey(row, context.wrappingKeys, to);
    if ('lost' in outcome) {
      left.lost.push(outcome.lost);
      continue;
    }
    const moved = await counted(context, rotation, async (tx) => {
      const done = await replaceWrappedSigningKey(tx, to.id, outcome.rewrapped);
      return { result: done, moved: done ? 1 : 0 };
    });
    if (moved) left.moved += 1;
    else left.held.push({ kind: 'signing', id: row.id, projectId: undefined, version: row.version, reason: 'held' });
  }
}

/** A step of the rotation, while it stands where it stood; counted by what it moved. The rotation's row first, as every step has it. */
function counted<T>(
  { database }: UpperContext,
  rotation: UpperRotation,
  work: (tx: Queryable) => Promise<{ readonly result: T; readonly moved: number }>,
): Promise<T> {
  return transaction(
    database,
    async (tx) => {
      if (!(await lockUpperRotation(tx, rotation))) throw new Overtaken();
      const { result, moved } = await work(tx);
      if (moved > 0) await noteKeysMoved(tx, rotation.id, moved);
      return result;
    },
    { lockWaitMs: LOCK_WAIT_MS, byIndex: true },
  );
}
