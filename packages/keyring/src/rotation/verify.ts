import type { EncryptedColumn } from '../keyring/columns.ts';
import { eachBatch, eachBlockRange, extentForBlocks, wholeTable } from './batches.ts';
import type { RotationContext } from './context.ts';
import { countReferences, selectOldestTransaction } from './rows-store.ts';
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
    const crypto = new RowCrypto(context.dataKeys, projectId, column.label, context.threads);
    const lost = new Map<string, Unreadable>();
    const readBack = async (rows: readonly StoredRow[]): Promise<void> => {
      const outcomes = await crypto.tryOpen(rows);
      for (const [number, row] of rows.entries()) {
        const unreadable = outcomes[number];
        if (unreadable !== undefined) {
          lost.set(row.id, unreadable);
          continue;
        }
        // A recent one is read once more, and counted then.
        if (row.recent !== true) opened += 1;
        if (keyId !== undefined && row.keyId !== keyId) stray += 1;
      }
      onBatch?.(opened);
    };
    const rows = counts.reduce(
      (sum, one) => (one.label === column.label && one.keyId !== null ? sum + one.count : sum),
      0,
    );
    await eachRow(context, column, projectId, rows, readBack, signal);
    if (lost.size > 0) unreadable.set(column.label, [...lost.values()]);
  }
  return { opened, stray, unreadable };
}

/**
 * Every row that is there, at least once. By blocks, a row that is changed meanwhile can move from where nobody has looked yet to where
 * somebody has. Its new version is then from a transaction that had not ended when the walk began: those are read again by
 * their ids, which never change.
 */
async function eachRow(
  context: VerifyContext,
  column: EncryptedColumn,
  projectId: string,
  rows: number,
  readBack: (rows: readonly StoredRow[]) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const extent = await extentForBlocks(context, column, rows);
  if (extent === undefined) return eachBatch(context, column, { projectId }, readBack, signal);
  const writtenSince = await selectOldestTransaction(context.database);
  const choice = { projectId, recentSince: writtenSince };
  await eachBlockRange(context, column, wholeTable(extent, rows), choice, readBack, signal);
  await eachBatch(context, column, { projectId, writtenSince }, readBack, signal);
}
