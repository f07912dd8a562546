import type { ColumnRow, EncryptedColumns, OpenedValue, SealedValue } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import type { Database } from '../db/port.ts';
import { secretAad } from '../envelope/aad.ts';
import { inspectEnvelope } from '../envelope/inspect.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import { selectEncryptedColumns, type EncryptedColumn } from '../keyring/columns.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import { requireUuid } from '../validate.ts';
import { adoptColumn, adoptCommand } from './adopt.ts';
import { selectValue, updateValue, type ValueRow } from './column-store.ts';
import { OpenedColumnValue } from './opened-secret.ts';
import { requireRowId } from './row-id.ts';
import { isLostTry, untilDone, withKey } from './tries.ts';
import type { Turnstile } from './turnstile.ts';
import { withValue } from './value.ts';

interface Place {
  readonly column: EncryptedColumn;
  readonly projectId: string;
  readonly rowId: string;
}

/** The registry as a process last saw it: looked at again for a label that is not in it, and when a table or a column is not there. */
export class KnownColumns {
  readonly #database: Database;
  #byLabel = new Map<string, EncryptedColumn>();

  constructor(database: Database) {
    this.#database = database;
  }

  async list(): Promise<EncryptedColumn[]> {
    const columns = await selectEncryptedColumns(this.#database);
    this.#byLabel = new Map(columns.map((column) => [column.label, column]));
    return columns;
  }

  /** @throws KeyringError `unregistered_column`. */
  async get(label: string): Promise<EncryptedColumn> {
    if (!this.#byLabel.has(label)) await this.list();
    const column = this.#byLabel.get(label);
    if (column !== undefined) return column;
    throw new KeyringError('unregistered_column', `No encrypted column is registered as "${label}".`, {
      remedy: 'Run `mh-keys columns list`, or register it with keyring.register_encrypted_column (docs/columns.md).',
    });
  }

  /** Uses a column, again as it is now when its table or one of its columns has another name than it had. */
  async use<T>(label: string, work: (column: EncryptedColumn) => Promise<T>): Promise<T> {
    try {
      return await work(await this.get(label));
    } catch (error) {
      if (!renamed.has(sqlState(error) ?? '')) throw error;
      this.#byLabel.clear();
      return work(await this.get(label));
    }
  }
}

const renamed: ReadonlySet<string> = new Set([
  sqlStates.undefinedTable,
  sqlStates.undefinedColumn,
  sqlStates.undefinedSchema,
]);

/** Puts, gets and adopts values in registered columns of any table. */
export function columns(
  database: Database,
  dataKeys: DataKeys,
  audit: AuditTrail,
  known: KnownColumns,
  writers: Turnstile,
  noteRead: (projectId: string) => void,
): EncryptedColumns {
  const placeOf = async (column: EncryptedColumn, row: ColumnRow): Promise<Place> => ({
    column,
    projectId: requireUuid('project id', row.projectId),
    rowId: await requireRowId(database, column, row.rowId),
  });
  const sealed = async (place: Place, plaintext: Uint8Array): Promise<SealedValue> => {
    const { id: keyId, key } = await dataKeys.primary(place.projectId);
    await dataKeys.usage.spend(keyId, 1);
    dataKeys.uses.note(keyId);
    return { keyId, envelope: seal(key, keyId, plaintext, aadOf(place, keyId)) };
  };
  /** One try to set a value: undefined when somebody else came between, and it is worth another. */
  const trySet = async (place: Place, plaintext: Uint8Array): Promise<{ keyId: string } | undefined> => {
    const { column, projectId, rowId } = place;
    const existing = await selectValue(database, column, projectId, rowId);
    if (existing === undefined) throw noSuchRow(place);
    try {
      const { envelope, keyId } = await sealed(place, plaintext);
      const previousKeyId = existing.encryption_key_id;
      const write = { projectId, rowId, envelope, keyId, previousKeyId, actor: audit.actor };
      return (await updateValue(database, column, write)) ? { keyId } : undefined;
    } catch (error) {
      if (isLostTry(dataKeys, projectId, error)) return undefined;
      throw sqlState(error) === sqlStates.lockNotAvailable ? held(place) : error;
    }
  };

  return {
    async list() {
      return (await known.list()).map(({ label, table, rowId, rowIdType, project, ciphertext, keyId, ...column }) => ({
        ...{ label, table, rowIdColumn: rowId, rowIdType, projectColumn: project },
        ...{ ciphertextColumn: ciphertext, keyIdColumn: keyId, acceptsPlaintext: column.acceptsPlaintext },
      }));
    },
    set: (label, row, value) =>
      known.use(label, async (column) => {
        const place = await placeOf(column, row);
        return withValue(value, async (plaintext) => {
          const written = await writers.run(place.projectId, () => untilDone(() => trySet(place, plaintext)));
          return written ?? Promise.reject(contended(place));
        });
      }),
    get: (label, row) =>
      known.use(label, async (column) => {
        const place = await placeOf(column, row);
        const { projectId, rowId } = place;
        const again = (): Promise<ValueRow | undefined> => selectValue(database, column, projectId, rowId);
        const read = await again();
        const found = read && (await withKey(dataKeys, projectId, read, (one) => keyIdOf(column, one), again));
        if (found === undefined) return undefined;
        const { key } = found;
        const bytes = open(key.key, key.id, found.row.ciphertext ?? Buffer.alloc(0), aadOf(place, key.id));
        dataKeys.uses.note(key.id);
        noteRead(projectId);
        return new OpenedColumnValue(bytes, { label, rowId, keyId: key.id });
      }),
    async store(label, row, value, write) {
      const place = await placeOf(await known.get(label), row);
      return withValue(value, async (plaintext) => {
        let refused = false;
        const done = await untilDone(async () => {
          const given = await sealed(place, plaintext);
          try {
            return { result: await write(given) };
          } catch (error) {
            if (refused && saysOneOf(error, transactionOver)) throw inTheMiddle();
            if (!saysOneOf(error, rotatedMeanwhile)) throw error;
            refused = true;
            dataKeys.tally.fenceRefusals += 1;
            dataKeys.forgetPrimary(place.projectId);
            return undefined;
          }
        });
        if (done === undefined) throw contended(place);
        return done.result;
      });
    },
    async open(label, row, envelope): Promise<OpenedValue> {
      const place = await placeOf(await known.get(label), row);
      const keyId = keyIdIn(envelope);
      const { key } = await dataKeys.get(place.projectId, keyId).catch((error: unknown) => {
        throw error instanceof KeyringError && error.code === 'unknown_key' ? decryptionFailed() : error;
      });
      const bytes = open(key, keyId, envelope, aadOf(place, keyId));
      dataKeys.uses.note(keyId);
      noteRead(place.projectId);
      return new OpenedColumnValue(bytes, { label, rowId: place.rowId, keyId });
    },
    adopt: (label, options = {}) =>
      known.use(label, (column) => adoptColumn(database, dataKeys, audit, column, options)),
  };
}

function aadOf({ column: { label }, projectId, rowId }: Place, keyId: string): Uint8Array {
  return secretAad({ projectId, label, rowId, keyId });
}

function keyIdOf(column: EncryptedColumn, { ciphertext, encryption_key_id }: ValueRow): string | undefined {
  if (encryption_key_id !== null || ciphertext === null) return encryption_key_id ?? undefined;
  throw new KeyringError('illegal_state', `A row of ${column.label} is from before the keyring, and not adopted yet.`, {
    remedy: `Run \`${adoptCommand(column)}\`.`,
  });
}

function keyIdIn(envelope: Uint8Array): string {
  try {
    return inspectEnvelope(envelope).keyId;
  } catch {
    throw decryptionFailed();
  }
}

const MOST_CAUSES = 5;
/** The fence refused a statement of the caller's, or PostgreSQL undid it for another that it met. */
const rotatedMeanwhile: ReadonlySet<string> = new Set([
  sqlStates.staleVersion,
  sqlStates.serializationFailure,
  sqlStates.deadlock,
]);
const transactionOver: ReadonlySet<string> = new Set([sqlStates.failedTransaction]);

/** Drivers, and what is built on them, wrap the error that says so. */
function saysOneOf(error: unknown, states: ReadonlySet<string>): boolean {
  let one = error;
  for (let depth = 0; depth < MOST_CAUSES && typeof one === 'object' && one !== null; depth++) {
    const { code, cause } = one as { code?: unknown; cause?: unknown };
    if (states.has(sqlState(one) ?? String(code))) return true;
    one = cause;
  }
  return false;
}

function inTheMiddle(): KeyringError {
  return new KeyringError('contended', 'The key was rotated in the middle of a transaction of yours.', {
    remedy: 'Begin the transaction anew, or begin and end it inside of `write`.',
  });
}

function noSuchRow({ column, rowId }: Place): KeyringError {
  return new KeyringError('unknown_secret', `The project has no row ${rowId} in ${column.table}.`, {
    remedy: 'Insert the row first, without a value or with `store`.',
  });
}

function contended({ column, rowId }: Place): KeyringError {
  return new KeyringError(
    'contended',
    `Row ${rowId} of ${column.label} is being changed by too many writers at once.`,
    {
      remedy: 'Try again.',
    },
  );
}

function held({ column, rowId }: Place): KeyringError {
  return new KeyringError('contended', `Another transaction holds row ${rowId} of ${column.label}.`, {
    remedy: 'Try again. If it lasts, look for an idle transaction in pg_stat_activity.',
  });
}
