import { isTransient } from '../db/failures.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import type { RotationContext } from './context.ts';
import type { ProjectProgress } from './project-store.ts';
import { LOCK_WAIT_MS } from './bounded.ts';
import { eachBatch, eachBlockRange, extentForBlocks, wholeTable, type BlockRange } from './batches.ts';
import { countOthersByColumn, totalOf, replacement, replaceCiphertexts, type Replacement } from './rows-store.ts';
import { RowCrypto, type StoredRow, type Unreadable } from './rows.ts';

export interface SweepResult {
  /** By column label: rows that do not open. */
  readonly unreadable: ReadonlyMap<string, readonly Unreadable[]>;
  /** Rows that open, and that somebody held at the last pass. */
  readonly held: number;
  /** Did it move any? */
  readonly fruitful: boolean;
}

/**
 * Moves every encrypted row of a project to `keyId`, in passes, until none is left but those that do not open or that
 * others hold; it waits for nobody. Where it stopped is nowhere written down: the rows say it. `others`: those there are to
 * move, by column label.
 */
export async function sweepProject(
  context: RotationContext,
  progress: ProjectProgress,
  keyId: string,
  columns: readonly EncryptedColumn[],
  others: ReadonlyMap<string, number>,
  signal: AbortSignal,
): Promise<SweepResult> {
  const target = await context.dataKeys.get(progress.projectId, keyId);
  let left = others;
  let fruitful = false;
  for (;;) {
    const unreadable = new Map<string, readonly Unreadable[]>();
    let moved = 0;
    for (const column of columns) {
      const rows = left.get(column.label) ?? 0;
      if (rows === 0) continue;
      const pass = await sweepColumn(context, progress, target, column, rows, signal);
      moved += pass.moved;
      if (pass.unreadable.size > 0) unreadable.set(column.label, [...pass.unreadable.values()]);
    }
    signal.throwIfAborted();
    left = await countOthersByColumn(context.database, progress.projectId, keyId);
    const held = [...unreadable.values()].reduce((sum, rows) => sum - rows.length, totalOf(left));
    if (moved > 0) fruitful = true;
    if (held <= 0 || moved === 0) return { unreadable, held: Math.max(held, 0), fruitful };
  }
}

interface Pass {
  moved: number;
  /** By row id: reading by blocks can meet a row twice. */
  readonly unreadable: Map<string, Unreadable>;
}

/** One pass over a column: every row not under the target is tried once, by blocks of its table where `rows` are many. */
async function sweepColumn(
  context: RotationContext,
  progress: ProjectProgress,
  target: DataKey,
  column: EncryptedColumn,
  rows: number,
  signal: AbortSignal,
): Promise<Pass> {
  const pass: Pass = { moved: 0, unreadable: new Map() };
  const choice = { projectId: progress.projectId, exceptKeyId: target.id };
  const sweepBatch = batchSweeper(context, progress, target, column, pass);
  const extent = await extentForBlocks(context, column, rows);
  if (extent === undefined) await eachBatch(context, column, choice, sweepBatch, signal);
  else await eachBlockRange(context, column, wholeTable(extent, rows), choice, sweepBatch, signal);
  return pass;
}

/** A part of a pass, for one of many that do it: the rows on some blocks. What does not open, or is held, is left to the pass that follows. */
export async function sweepBlocks(
  context: RotationContext,
  progress: ProjectProgress,
  keyId: string,
  column: EncryptedColumn,
  range: BlockRange,
  signal: AbortSignal,
): Promise<void> {
  const target = await context.dataKeys.get(progress.projectId, keyId);
  const sweepBatch = batchSweeper(context, progress, target, column, { moved: 0, unreadable: new Map() });
  const choice = { projectId: progress.projectId, exceptKeyId: target.id };
  await eachBlockRange(context, column, range, choice, sweepBatch, signal);
}

/** A pass in parts of about `partRows` rows, where it is that long: ranges of blocks of each table that is read by blocks. */
export async function partsOf(
  context: RotationContext,
  columns: readonly EncryptedColumn[],
  others: ReadonlyMap<string, number>,
  partRows: number,
): Promise<{ label: string; range: BlockRange }[]> {
  const parts: { label: string; range: BlockRange }[] = [];
  for (const column of columns) {
    const rows = others.get(column.label) ?? 0;
    const count = Math.floor(rows / partRows);
    const extent = count > 1 ? await extentForBlocks(context, column, rows) : undefined;
    if (extent === undefined) continue;
    const blocks = Math.ceil(extent.blocks / count);
    for (let from = 0; from < extent.blocks; from += blocks) {
      const to = Math.min(from + blocks, extent.blocks);
      const range = { from, to, toTheEnd: false, rows: Math.ceil((rows * (to - from)) / extent.blocks) };
      parts.push({ label: column.label, range });
    }
  }
  return parts;
}

function batchSweeper(
  context: RotationContext,
  { rotationId, projectId }: ProjectProgress,
  target: DataKey,
  column: EncryptedColumn,
  pass: Pass,
): (batch: readonly StoredRow[]) => Promise<void> {
  const crypto = new RowCrypto(context.dataKeys, projectId, column.label, context.threads);
  return async (batch) => {
    if (batch.length === 0) return;
    await context.dataKeys.usage.spend(target.id, batch.length, { lockWaitMs: LOCK_WAIT_MS });
    const outcomes = await crypto.reseal(batch, target);
    const replacements: Replacement[] = [];
    for (const [number, row] of batch.entries()) {
      const outcome = outcomes[number];
      if (Buffer.isBuffer(outcome)) replacements.push(replacement(row, outcome));
      else if (outcome !== undefined) pass.unreadable.set(row.id, outcome);
    }
    if (replacements.length === 0) return;
    const move = { rotationId, projectId, rows: replacements };
    pass.moved += await replaceCiphertexts(context.database, column, move).catch((error: unknown) => {
      // Lost to another transaction: the rows are where they were, and a later pass comes by again.
      if (isTransient(error)) return 0;
      throw error;
    });
  };
}
