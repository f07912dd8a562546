import type { EncryptedColumn } from '../keyring/columns.ts';
import type { RotationContext } from './context.ts';
import { inLanes } from './lanes.ts';
import {
  selectExtent,
  selectRowIds,
  selectRows,
  selectRowsInBlocks,
  type Choice,
  type Extent,
  type RowSize,
} from './rows-store.ts';
import type { StoredRow } from './rows.ts';

// Ids are read in windows: one sort of the project's rows per window, a few megabytes of ids at once.
const WINDOW = 20_000;
// Batches under way per project: one is encrypted here while PostgreSQL works on another, and a third waits for its commit.
// With two, 7 % slower on two cores; with four, no faster.
const LANES = 3;

type BatchContext = Pick<RotationContext, 'database' | 'sweepBatchSize' | 'pacer'>;
type Work = (rows: readonly StoredRow[]) => Promise<void>;

/** Hands a project's rows in a column to `work`, batch by batch, by way of its index, in the order of their ids. */
export async function eachBatch(
  context: BatchContext,
  column: EncryptedColumn,
  choice: Choice,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  const { database } = context;
  const { size, paced } = pacing(context, choice, signal);
  const one = (ids: readonly string[]): Promise<void> =>
    paced(ids.length, async () => work(await selectRows(database, column, { ...choice, ids })));
  let after: string | undefined;
  for (;;) {
    const window = { ...choice, limit: WINDOW };
    const ids = await selectRowIds(database, column, after === undefined ? window : { ...window, after });
    await inLanes(batches(ids, size), LANES, one, signal);
    after = ids.at(-1)?.id;
    if (ids.length < WINDOW) return;
  }
}

/**
 * The same in the order in which the table lies on disk, reading all of it: each row about once, but one that moves
 * meanwhile perhaps twice, or not at all.
 */
export async function eachBlockRange(
  context: BatchContext,
  column: EncryptedColumn,
  range: BlockRange,
  choice: Choice,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  const { database } = context;
  const { size, paced } = pacing(context, choice, signal);
  const perBlock = Math.max(range.rows / (range.to - range.from), 1);
  function* ranges(): Generator<{ from: number; to: number }> {
    for (let { from } = range; from < range.to;) {
      const to = Math.min(from + Math.max(Math.floor(size() / perBlock), 1), range.to);
      // The table grows.
      yield { from, to: to === range.to && range.toTheEnd ? MOST_BLOCKS : to };
      from = to;
    }
  }
  const one = (blocks: { from: number; to: number }): Promise<void> =>
    paced(Math.ceil(Math.min(blocks.to - blocks.from, size()) * perBlock), async () =>
      work(await selectRowsInBlocks(database, column, { ...choice, ...blocks })),
    );
  await inLanes(ranges(), LANES, one, signal);
}

/** Heap blocks of a table, with about how many rows of the project on them. */
export interface BlockRange {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
  /** And whatever is behind by the time that the end is reached. */
  readonly toTheEnd: boolean;
  readonly rows: number;
}

/** All of a table. */
export function wholeTable({ blocks }: Extent, rows: number): BlockRange {
  return { from: 0, to: blocks, toTheEnd: true, rows };
}

const MOST_BLOCKS = 2 ** 32 - 2;
const MOST_LONG_BYTES = 32 * 2 ** 20;

/**
 * Which way to go through `rows` rows of a project in a column. Reading by blocks costs a look at every block, whosoever rows
 * are on it; reading by the index costs a place in a sorted window and a look-up per row, and touches blocks in random
 * order, so that each is changed many times over. Hence blocks, where a project has a row on each of them or more. Values that are stored
 * beside the table are read through the index, which knows how long they are: a batch is bounded in bytes.
 */
export async function extentForBlocks(
  { database }: BatchContext,
  column: EncryptedColumn,
  rows: number,
): Promise<Extent | undefined> {
  if (rows < FEW_ROWS) return undefined;
  const extent = await selectExtent(database, column);
  return extent !== undefined && extent.blocks <= rows && extent.longBytes <= MOST_LONG_BYTES ? extent : undefined;
}

// Below it a project is done in milliseconds either way.
const FEW_ROWS = 2_000;

function pacing(
  { pacer, sweepBatchSize }: BatchContext,
  choice: Choice,
  signal: AbortSignal,
): { size: () => number; paced: (rows: number, work: () => Promise<void>) => Promise<void> } {
  const kind = choice.exceptKeyId === undefined ? 'verify' : 'sweep';
  return {
    size: () => pacer?.batchSize(sweepBatchSize) ?? sweepBatchSize,
    paced: (rows, work) => (pacer === undefined ? work() : pacer.batch(rows, kind, work, signal)),
  };
}

// So many bytes of ciphertext in one batch at most: with the lanes and the copies on the way, tens of megabytes in all.
const BATCH_BYTES = 2 * 2 ** 20;

/** Ids in batches of at most `most()` rows and, but for a row that is larger alone, 2 MiB of ciphertext. */
function* batches(rows: readonly RowSize[], most: () => number): Generator<readonly string[]> {
  let batch: string[] = [];
  let bytes = 0;
  for (const row of rows) {
    if (batch.length > 0 && (batch.length >= most() || bytes + row.bytes > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(row.id);
    bytes += row.bytes;
  }
  if (batch.length > 0) yield batch;
}
