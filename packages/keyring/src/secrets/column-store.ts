import type { Actor } from '../api.ts';
import { actorValues } from '../audit/store.ts';
import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import { rowSubject } from './row-id.ts';
import { boundedWait } from './store.ts';

export interface ValueRow {
  readonly ciphertext: Buffer | null;
  readonly encryption_key_id: string | null;
}

/** The value of a row, as it is stored. */
export async function selectValue(
  database: Queryable,
  column: EncryptedColumn,
  projectId: string,
  rowId: string,
): Promise<ValueRow | undefined> {
  const { rows } = await database.query<ValueRow>({
    text: `select t.${column.ciphertext} as ciphertext, t.${column.keyId} as encryption_key_id from ${column.table} t
           where t.${column.rowId} = $1::text::${column.rowIdType} and t.${column.project} = $2`,
    values: [rowId, projectId],
  });
  return rows[0];
}

export interface ValueWrite {
  readonly projectId: string;
  readonly rowId: string;
  readonly envelope: Buffer;
  readonly keyId: string;
  /** The version that the trail says the old value was under; null: there was none, or it was plaintext. */
  readonly previousKeyId: string | null;
  readonly actor: Actor;
}

/** Sets the value of a row that is still under `previousKeyId`. False when it is gone, or under another version now. */
export async function updateValue(
  database: Queryable,
  column: EncryptedColumn,
  { projectId, rowId, envelope, keyId, previousKeyId, actor }: ValueWrite,
): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `with written as (
             update ${column.table} t set ${column.ciphertext} = $3, ${column.keyId} = $4
             from ${boundedWait}
             where t.${column.rowId} = $1::text::${column.rowIdType} and t.${column.project} = $2
               and t.${column.keyId} is not distinct from $5::uuid
             returning t.${column.project} as project_id
           )
           insert into keyring.audit_log
             (actor, principal_kind, source_address, action, outcome, project_id, subject, details)
           select $6, $7, $8, 'row.written', 'succeeded', w.project_id, $9,
             jsonb_build_object('label', $10::text, 'row', $1::text, 'key', $4::uuid, 'previousKey', $5::uuid)
           from written w`,
    values: [
      ...[rowId, projectId, envelope, keyId, previousKeyId, ...actorValues(actor)],
      ...[rowSubject(column.label, rowId), column.label],
    ],
  });
  return rowCount === 1;
}
