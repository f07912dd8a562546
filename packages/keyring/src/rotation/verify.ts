import type { EncryptedColumn } from '../keyring/columns.ts';
import { wipe } from '../secret-bytes.ts';
import { eachBatch } from './batches.ts';
import type { RotationContext } from './context.ts';
import { selectRows } from './rows-store.ts';
import { isUnreadable, RowCrypto, type Unreadable } from './rows.ts';

export interface Verification {
  /** Rows that were read back and opened. */
  readonly opened: number;
  /** Of these, rows under another version than `keyId`. */
  readonly stray: number;
  readonly unreadable: ReadonlyMap<string, readonly Unreadable[]>;
}

/**
 * Reads back every encrypted row of a project, in every registered column, and opens it: on its own, from the stored bytes
 * alone, believing nothing of what the sweep counted.
 */
export async function verifyProject(
  context: Pick<RotationContext, 'database' | 'dataKeys' | 'sweepBatchSize' | 'pacer'>,
  projectId: string,
  keyId: string | undefined,
  columns: readonly EncryptedColumn[],
  signal: AbortSignal,
  onBatch?: (opened: number) => void,
): Promise<Verification> {
  let opened = 0;
  let stray = 0;
  const unreadable = new Map<string, Unreadable[]>();
  for (const column of columns) {
    const crypto = new RowCrypto(context.dataKeys, projectId, column.label);
    const lost: Unreadable[] = [];
    const readBack = async (ids: readonly string[]): Promise<void> => {
      for (const row of await selectRows(context.database, column, { projectId, ids })) {
        const result = await crypto.open(row);
        if (isUnreadable(result)) {
          lost.push(result);
          continue;
        }
        wipe(result.plaintext);
        opened += 1;
        if (keyId !== undefined && row.keyId !== keyId) stray += 1;
      }
      onBatch?.(opened);
    };
    await eachBatch(context, column, { projectId }, readBack, signal);
    if (lost.length > 0) unreadable.set(column.label, lost);
  }
  return { opened, stray, unreadable };
}
