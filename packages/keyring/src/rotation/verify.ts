import type { EncryptedColumn } from '../keyring/columns.ts';
import { eachBatch, eachBlockRange, extentForBlocks, wholeTable } from './batches.ts';
import type { RotationContext } from './context.ts';
import { countReferences, selectExtent, selectOldestTransaction } from './rows-store.ts';
import { RowCrypto, type StoredRow, type Unreadable } from './rows.ts';

export interface Verification {
  /** Rows that were read back and opened. */
  readonly opened: number;
  /** Of these, rows under another version than `keyId`. */
  readonly stray: number;
  readonly unreadable: ReadonlyMap<string, readonly Unreadable[]>;
}

type VerifyContext = Pick<RotationContext, 'database' | 'dataKeys' | 'sweepBatchSize' | 'pacer'> &
  Partial<Pick<RotationContext, 'threads'>>;

/**
 * Reads back every encrypted row of a project, in every registered column, and opens it: on its own, from the stored bytes
 * alone, believing nothing of what the sweep counted.
 */
export async function verifyProject(
  context: VerifyContext,
  projectId: string,
  keyId: string | undefined,
  columns: readonly EncryptedColumn[],
  signal: AbortSignal,
  onBatch?: (opened: number) => void,
): Promise<Verification> {
  let opened = 0;
  let stray = 0;
  const unreadable = new Map<string, readonly Unreadable[]>();
  const counts = await countReferences(context.database, projectId);
  for (const column of columns) {
    const rows = counts.reduce(
      (sum, one) => (one.label === column.label && one.keyId !== null ? sum + one.count : sum),
      0,
    );
    const place = { projectId, keyId, column };
    const before = opened;
    const found = await readColumn(context, place, rows, signal, (here) => onBatch?.(before + here));
    opened += found.opened;
    stray += found.stray;
    if (found.lost.size > 0) unreadable.set(column.label, [...found.lost.values()]);
  }
  return { opened, stray, unreadable };
}

interface Place {
  readonly projectId: string;
  readonly keyId: string | undefined;
  readonly column: EncryptedColumn;
}

interface Found {
  opened: number;
  stray: number;
  /** By row id. */
  readonly lost: Map<string, Unreadable>;
}

/**
 * Every row that is there, at least once. By blocks, a row that is changed meanwhile can move from where nobody has looked yet to where
 * somebody has. Its new version is then from a transaction that had not ended when the walk began: those are read again by
 * their ids, which never change. Where the table was written anew meanwhile (`vacuum full`, `cluster`), any row can have moved, and
 * none of them looks newer for it: then all are read by their ids, from the beginning.
 */
async function readColumn(
  context: VerifyContext,
  { projectId, keyId, column }: Place,
  rows: number,
  signal: AbortSignal,
  onBatch: (opened: number) => void,
): Promise<Found> {
  const { database } = context;
  const crypto = new RowCrypto(context.dataKeys, projectId, column.label, context.threads);
  const reader = (found: Found) => async (batch: readonly StoredRow[]) => {
    const outcomes = await crypto.tryOpen(batch);
    for (const [number, row] of batch.entries()) {
      const unreadable = outcomes[number];
      if (unreadable !== undefined) {
        found.lost.set(row.id, unreadable);
        continue;
      }
      // A recent one is read once more, and counted then.
      if (row.recent !== true) found.opened += 1;
      if (keyId !== undefined && row.keyId !== keyId) found.stray += 1;
    }
    onBatch(found.opened);
  };
  const extent = await extentForBlocks(context, column, rows);
  if (extent !== undefined) {
    const byBlocks: Found = { opened: 0, stray: 0, lost: new Map() };
    const writtenSince = await selectOldestTransaction(database);
    const choice = { projectId, recentSince: writtenSince };
    await eachBlockRange(context, column, wholeTable(extent, rows), choice, reader(byBlocks), signal);
    await eachBatch(context, column, { projectId, writtenSince }, reader(byBlocks), signal);
    if ((await selectExtent(database, column))?.file === extent.file) return byBlocks;
  }
  const byIds: Found = { opened: 0, stray: 0, lost: new Map() };
  await eachBatch(context, column, { projectId }, reader(byIds), signal);
  return byIds;
}
