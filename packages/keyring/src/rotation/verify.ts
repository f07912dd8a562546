import type { EncryptedColumn } from '../keyring/columns.ts';
import { wipe } from '../secret-bytes.ts';
import type { RotationContext } from './context.ts';
import { selectRowIds, selectRows } from './rows-store.ts';
import { isUnreadable, RowCrypto, type Unreadable } from './rows.ts';
import { batches, inLanes } from './sweep.ts';

const WINDOW = 20_000;
const LANES = 2;

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
  context: Pick<RotationContext, 'database' | 'dataKeys' | 'sweepBatchSize'>,
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
    let after: string | undefined;
    for (;;) {
      const window = { projectId, limit: WINDOW };
      const ids = await selectRowIds(context.database, column, after === undefined ? window : { ...window, after });
      await inLanes(batches(ids, context.sweepBatchSize), LANES, readBack, signal);
      after = ids.at(-1)?.id;
      if (ids.length < WINDOW) break;
    }
    if (lost.length > 0) unreadable.set(column.label, lost);
  }
  return { opened, stray, unreadable };
}
