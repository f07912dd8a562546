import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { DataKey } from '../keyring/key-cache.ts';

/** A try to write is lost to a promote, a first put or a delete that came between; each is over when the next one starts. */
const WRITE_ATTEMPTS = 20;

/** Tries until a try gives something; undefined when all of them were lost. */
export async function untilDone<T>(attempt: () => Promise<T | undefined>): Promise<T | undefined> {
  for (let attempts = 1; attempts <= WRITE_ATTEMPTS; attempts++) {
    const done = await attempt();
    if (done !== undefined) return done;
  }
  return undefined;
}

/** Did somebody come between, so that writing is worth another try? What was known of the primary is forgotten then. */
export function isLostTry(dataKeys: DataKeys, projectId: string, error: unknown): boolean {
  const state = sqlState(error);
  if (state === sqlStates.staleVersion) dataKeys.tally.fenceRefusals += 1;
  // The project, and its keys with it, may have been deleted between two reads: the next try says which project is unknown.
  const gone = error instanceof KeyringError && error.code === 'unknown_key';
  if (gone || state === sqlStates.staleVersion || state === sqlStates.foreignKeyViolation) {
    dataKeys.forgetPrimary(projectId);
    return true;
  }
  return isTransient(error);
}

// Between two reads a row moves once in a rotation: three in a row are more than chance.
const ROW_READS = 3;

const pastVersion: ReadonlySet<string> = new Set(['key_destroyed', 'key_disabled', 'unknown_key']);

export interface RowWithKey<Row> {
  readonly row: Row;
  readonly key: DataKey;
}

/**
 * A row that was read, with the key that it names. Between the two reads the row can have been moved, and its old version destroyed
 * or suspended: then it is read again. Undefined when it is gone, or empty, by then.
 */
export async function withKey<Row>(
  dataKeys: DataKeys,
  projectId: string,
  read: Row,
  keyIdOf: (row: Row) => string | undefined,
  again: () => Promise<Row | undefined>,
): Promise<RowWithKey<Row> | undefined> {
  let row = read;
  for (let reads = 1; ; reads++) {
    const keyId = keyIdOf(row);
    if (keyId === undefined) return undefined;
    try {
      return { row, key: await dataKeys.get(projectId, keyId) };
    } catch (error) {
      if (!(error instanceof KeyringError)) throw error;
      if (reads < ROW_READS && pastVersion.has(error.code)) {
        const now = await again();
        if (now === undefined) return undefined;
        row = now;
        if (keyIdOf(now) !== keyId) continue;
      }
      // A row whose key is not its project's was tampered with: the same answer as for any other tampering.
      throw error.code === 'unknown_key' ? decryptionFailed() : error;
    }
  }
}
