import type { Queryable } from '../db/port.ts';
import { sqlState } from '../db/failures.ts';
import { MAX_ROW_ID_BYTES } from '../envelope/aad.ts';
import { KeyringError } from '../errors.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import { isUuid } from '../validate.ts';

/** The most that a subject in the trail holds. Ids that are longer are whole in the details. */
export const MAX_SUBJECT = 400;

const wholeNumber = /^(0|-?[1-9]\d*)$/;
const asItIs = /^(text|name|character varying(\(\d+\))?)$/;
// Data exceptions, and the checks of a domain: the text is no value of the type.
const noValue = /^2[23]/;

/**
 * A row's id as PostgreSQL prints it, which is how the associated data holds it: another text of the same id would give a
 * ciphertext that never opens again. PostgreSQL is asked only where it is not plain to see, as for a domain.
 * @throws KeyringError `invalid_argument`.
 */
export async function requireRowId(
  database: Queryable,
  column: EncryptedColumn,
  given: string | number | bigint,
): Promise<string> {
  if (typeof given === 'number' && !Number.isSafeInteger(given)) throw notAnId(column);
  const id = column.rowIdType === 'uuid' ? String(given).toLowerCase() : String(given);
  const bytes = Buffer.byteLength(id);
  if (bytes === 0 || bytes > MAX_ROW_ID_BYTES || !id.isWellFormed() || id.includes('\0')) throw notAnId(column);
  const plain = isPrinted(column.rowIdType, id) ?? (await printed(database, column, id)) === id;
  if (!plain) throw notAnId(column);
  return id;
}

function isPrinted(type: string, id: string): boolean | undefined {
  if (type === 'uuid') return isUuid(id);
  if (/^(smallint|integer|bigint)$/.test(type)) return wholeNumber.test(id);
  return asItIs.test(type) ? true : undefined;
}

async function printed(database: Queryable, { rowIdType }: EncryptedColumn, id: string): Promise<string | undefined> {
  try {
    const { rows } = await database.query<{ id: string }>({
      text: `select $1::text::${rowIdType}::text as id`,
      values: [id],
    });
    return rows[0]?.id;
  } catch (error) {
    if (noValue.test(sqlState(error) ?? '')) return undefined;
    throw error;
  }
}

function notAnId({ label, rowIdType }: EncryptedColumn): KeyringError {
  return new KeyringError('invalid_argument', `A row id of ${label} is of type ${rowIdType}, as PostgreSQL prints it.`);
}

/** A row as the trail names it. */
export function rowSubject(label: string, rowId: string): string {
  return `row:${label}/${rowId}`.slice(0, MAX_SUBJECT);
}
