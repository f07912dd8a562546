import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { StoredRow } from './rows.ts';

/** Deletes a row that still holds exactly the bytes that were read. False when it does not, or is gone. */
export async function deleteRowAsRead(
  tx: Queryable,
  column: EncryptedColumn,
  projectId: string,
  row: StoredRow,
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `delete from ${column.table} t
           where t.${column.rowId} = $1::text::${column.rowIdType} and t.${column.project} = $2
             and t.${column.ciphertext} = $3 and t.${column.keyId} = $4`,
    values: [row.id, projectId, row.envelope, row.keyId],
  });
  return rowCount === 1;
}
