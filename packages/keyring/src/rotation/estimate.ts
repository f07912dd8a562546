import type { RotationEstimate } from '../api.ts';
import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import { selectPrimary } from '../keyring/store.ts';
import type { RotationContext } from './context.ts';
import { timeReplacement, type Timed } from './preview-store.ts';
import { replacement, selectRows, type Replacement } from './rows-store.ts';
import { isUnreadable, RowCrypto } from './rows.ts';

/** Rows that opened a moment ago, in one batch as a sweep would take them. */
export interface SampledBatch {
  readonly projectId: string;
  readonly column: EncryptedColumn;
  readonly ids: readonly string[];
}

export interface Measured {
  readonly rows: number;
  /** How long it took to read and open all of them. */
  readonly openMs: number;
  readonly sample: readonly SampledBatch[];
  readonly signal: AbortSignal;
}

/**
 * How long a rotation of these rows would take at full speed. They are read and opened twice, by the sweep and by the
 * read-back, which was measured on all of them. In between they are sealed here while PostgreSQL writes the batch before, so
 * the slower of the two counts, which is measured on the sample. What a project costs whatever its rows (a few commits) is
 * left out. Undefined when nothing could be measured.
 */
export async function estimate(
  context: RotationContext,
  { rows, openMs, sample, signal }: Measured,
): Promise<RotationEstimate | undefined> {
  const spent = { rows: 0, sealMs: 0, moved: 0, writeMs: 0 };
  for (const batch of sample) {
    signal.throwIfAborted();
    const timed = await timeBatch(context, batch);
    if (timed === undefined || timed.moved === 0) continue;
    spent.rows += timed.sealed;
    spent.sealMs += timed.sealMs;
    spent.moved += timed.moved;
    spent.writeMs += timed.ms;
  }
  if (spent.moved === 0) return undefined;
  const perRowMs = Math.max(spent.sealMs / spent.rows, spent.writeMs / spent.moved);
  const seconds = (2 * openMs + rows * perRowMs) / 1_000;
  return { seconds, rowsPerSecond: rows / seconds, sampled: spent.moved };
}

/**
 * Seals a batch under the version that is primary now, the only one the fence lets in, and times the statement that would
 * write it. Under the real key: should the transaction ever not be rolled back, every row opens all the same. So these
 * encryptions are counted like any other.
 */
async function timeBatch(
  context: RotationContext,
  { projectId, column, ids }: SampledBatch,
): Promise<(Timed & { readonly sealed: number; readonly sealMs: number }) | undefined> {
  const primary = await primaryOf(context, projectId);
  if (primary === undefined) return undefined;
  const crypto = new RowCrypto(context.dataKeys, projectId, column.label);
  const stored = await selectRows(context.database, column, { projectId, ids });
  await context.dataKeys.usage.spend(primary.id, stored.length);
  const reseal = crypto.sealer(primary);
  const replacements: Replacement[] = [];
  let sealMs = 0;
  for (const row of stored) {
    const opened = await crypto.open(row);
    if (isUnreadable(opened)) continue;
    const began = performance.now();
    replacements.push(replacement(row, reseal(opened)));
    sealMs += performance.now() - began;
  }
  if (replacements.length === 0) return undefined;
  const timed = await timeUndone(context, column, { projectId, rows: replacements });
  return timed && { ...timed, sealed: replacements.length, sealMs };
}

async function primaryOf({ database, dataKeys }: RotationContext, projectId: string): Promise<DataKey | undefined> {
  const keyId = await selectPrimary(database, projectId);
  if (keyId === undefined) return undefined;
  try {
    return await dataKeys.get(projectId, keyId);
  } catch (error) {
    // What is the matter with it, its rows have told.
    if (error instanceof KeyringError && keyTrouble.has(error.code)) return undefined;
    throw error;
  }
}

const keyTrouble: ReadonlySet<string> = new Set([
  'unknown_key',
  'key_destroyed',
  'key_disabled',
  'decryption_failed',
  'wrong_root_key',
]);

/** Carries the measurement out of a transaction that always ends as a failure. */
class Undone extends Error {
  readonly timed: Timed;

  constructor(timed: Timed) {
    super('rolled back on purpose');
    this.timed = timed;
  }
}

async function timeUndone(
  { database }: RotationContext,
  ...[column, move]: [EncryptedColumn, Parameters<typeof timeReplacement>[2]]
): Promise<Timed | undefined> {
  try {
    return await transaction(database, async (tx) => {
      throw new Undone(await timeReplacement(tx, column, move));
    });
  } catch (error) {
    if (error instanceof Undone) return error.timed;
    // Somebody was in the way, or the pointer moved: no measurement of ours is worth their waiting.
    const passing = isTransient(error) || inTheWay.has(sqlState(error) ?? '');
    if (passing) return undefined;
    throw error;
  }
}

const inTheWay: ReadonlySet<string> = new Set([sqlStates.lockNotAvailable, sqlStates.canceled, sqlStates.staleVersion]);
