import type { EncryptedColumn } from '../keyring/columns.ts';
import type { RotationContext } from './context.ts';
import { inLanes } from './lanes.ts';
import { selectRowIds, type RowSize } from './rows-store.ts';

// Ids are read in windows: one sort of the project's rows per window, a few megabytes of ids at once.
const WINDOW = 20_000;
// Two batches under way per project: one is encrypted here while PostgreSQL works on the other.
const LANES = 2;

/**
 * Hands the ids of a project's rows in a column to `work`, batch by batch: those not under `exceptKeyId`, or all encrypted
 * ones. `onWindow` is waited for before the first batch of each window of so many ids.
 */
export async function eachBatch(
  context: Pick<RotationContext, 'database' | 'sweepBatchSize' | 'pacer'>,
  column: EncryptedColumn,
  rows: { readonly projectId: string; readonly exceptKeyId?: string },
  work: (ids: readonly string[]) => Promise<void>,
  signal: AbortSignal,
  onWindow?: (ids: number) => Promise<void>,
): Promise<void> {
  const { pacer } = context;
  const size = (): number => pacer?.batchSize(context.sweepBatchSize) ?? context.sweepBatchSize;
  const kind = rows.exceptKeyId === undefined ? 'verify' : 'sweep';
  const paced = (ids: readonly string[]): Promise<void> =>
    pacer === undefined ? work(ids) : pacer.batch(ids.length, kind, () => work(ids), signal);
  let after: string | undefined;
  for (;;) {
    const window = { ...rows, limit: WINDOW };
    const ids = await selectRowIds(context.database, column, after === undefined ? window : { ...window, after });
    await onWindow?.(ids.length);
    await inLanes(batches(ids, size), LANES, paced, signal);
    after = ids.at(-1)?.id;
    if (ids.length < WINDOW) return;
  }
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
