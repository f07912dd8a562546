import { isTransient } from '../db/failures.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import type { RotationContext } from './context.ts';
import type { ProjectProgress } from './project-store.ts';
import { eachBatch } from './batches.ts';
import { countOthers, replaceCiphertexts, selectRows, type Replacement } from './rows-store.ts';
import { isUnreadable, RowCrypto, type Unreadable } from './rows.ts';

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
 * others hold; it waits for nobody. Where it stopped is nowhere written down: the rows say it.
 */
export async function sweepProject(
  context: RotationContext,
  progress: ProjectProgress,
  keyId: string,
  columns: readonly EncryptedColumn[],
  signal: AbortSignal,
): Promise<SweepResult> {
  const target = await context.dataKeys.get(progress.projectId, keyId);
  let fruitful = false;
  for (;;) {
    const unreadable = new Map<string, Unreadable[]>();
    let moved = 0;
    for (const column of columns) {
      const pass = await sweepColumn(context, progress, target, column, signal);
      moved += pass.moved;
      if (pass.unreadable.length > 0) unreadable.set(column.label, pass.unreadable);
    }
    signal.throwIfAborted();
    const lost = [...unreadable.values()].reduce((sum, rows) => sum + rows.length, 0);
    const held = (await countOthers(context.database, progress.projectId, keyId)) - lost;
    if (moved > 0) fruitful = true;
    if (held <= 0 || moved === 0) return { unreadable, held: Math.max(held, 0), fruitful };
  }
}

interface Pass {
  moved: number;
  readonly unreadable: Unreadable[];
}

/** One pass over a column: every row not under the target is tried once. */
async function sweepColumn(
  context: RotationContext,
  { rotationId, projectId }: ProjectProgress,
  target: DataKey,
  column: EncryptedColumn,
  signal: AbortSignal,
): Promise<Pass> {
  const crypto = new RowCrypto(context.dataKeys, projectId, column.label);
  const pass: Pass = { moved: 0, unreadable: [] };

  const sweepBatch = async (ids: readonly string[]): Promise<void> => {
    const rows = await selectRows(context.database, column, { projectId, ids, exceptKeyId: target.id });
    const replacements: Replacement[] = [];
    for (const row of rows) {
      const opened = await crypto.open(row);
      if (isUnreadable(opened)) pass.unreadable.push(opened);
      else {
        replacements.push({ id: row.id, oldEnvelope: row.envelope, newEnvelope: crypto.reseal(opened, target) });
      }
    }
    if (replacements.length === 0) return;
    const move = { rotationId, projectId, keyId: target.id, rows: replacements };
    pass.moved += await replaceCiphertexts(context.database, column, move).catch((error: unknown) => {
      // Lost to another transaction: the rows are where they were, and a later pass comes by again.
      if (isTransient(error)) return 0;
      throw error;
    });
  };

  const rows = { projectId, exceptKeyId: target.id };
  await eachBatch(context, column, rows, sweepBatch, signal, (ids) => context.dataKeys.usage.spend(target.id, ids));
  return pass;
}
