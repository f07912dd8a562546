import type { QuarantinedRow } from '../api.ts';
import { secretAadBuilder } from '../envelope/aad.ts';
import { parseEnvelope, uuidFromBytes } from '../envelope/format.ts';
import { opener, sealer } from '../envelope/seal.ts';
import { KeyringError } from '../errors.ts';
import { equalBytes, wipe, type SecretKey } from '../secret-bytes.ts';

/** What is needed of a stored row to open it. */
export interface SealedRow {
  readonly id: string;
  readonly envelope: Uint8Array;
  readonly keyId: string;
}

export type UnreadableReason = QuarantinedRow['reason'];

/** Rows of one project's column, with the keys that they name, or why a key is not to be had. */
export interface RowBatch {
  readonly projectId: string;
  readonly label: string;
  readonly rows: readonly SealedRow[];
  readonly versions: ReadonlyMap<string, SecretKey | UnreadableReason>;
  /** The version that they are to be put under; none when they are only to be opened. */
  readonly target?: { readonly keyId: string; readonly key: SecretKey } | undefined;
}

/** Of a row: its new envelope; nothing when it opens and has no target; or why it does not open. */
export type RowOutcome = Buffer | undefined | UnreadableReason;

/**
 * Opens every row, and seals it anew where there is a target. No plaintext outlives the call, here or in a thread.
 * @throws KeyringError `internal` when a new envelope does not read back as what went into it.
 */
export function tryBatch({ projectId, label, rows, versions, target }: RowBatch): RowOutcome[] {
  const openers = new Map([...versions].map(([keyId, key]) => [keyId, rowOpener(projectId, label, keyId, key)]));
  const reseal = target && resealer(projectId, label, target.keyId, target.key);
  return rows.map((row) => {
    const opened = openers.get(row.keyId)?.(row) ?? 'unknown_key';
    if (typeof opened === 'string') return opened;
    if (reseal !== undefined) return reseal(row.id, opened);
    wipe(opened);
    return undefined;
  });
}

/** Opens rows that name this version: the plaintext, or the reason why not. */
export function rowOpener(
  projectId: string,
  label: string,
  keyId: string,
  key: SecretKey | UnreadableReason,
): (row: SealedRow) => Buffer | UnreadableReason {
  if (typeof key === 'string') return (row) => (namesItsKey(row) ? key : 'malformed');
  const open = opener(key, keyId);
  const buildAad = secretAadBuilder(projectId, label, keyId);
  return (row) => {
    try {
      return open(row.envelope, buildAad(row.id));
    } catch (error) {
      if (!(error instanceof KeyringError)) throw error;
      // `invalid_argument`: its id cannot be in any associated data, so nothing was ever sealed there. Opening says no more than
      // that it failed; which of the two it was is looked at only then.
      return error.code === 'decryption_failed' && namesItsKey(row) ? 'does_not_open' : 'malformed';
    }
  };
}

/** Puts values under a version: sealed, opened again and compared before anyone stores it. Wipes the plaintext. */
export function resealer(
  projectId: string,
  label: string,
  keyId: string,
  key: SecretKey,
): (rowId: string, plaintext: Buffer) => Buffer {
  const buildAad = secretAadBuilder(projectId, label, keyId);
  const seal = sealer(key, keyId);
  const openAgain = opener(key, keyId);
  return (rowId, plaintext) => {
    const aad = buildAad(rowId);
    try {
      const envelope = seal(plaintext, aad);
      const again = openAgain(envelope, aad);
      const same = equalBytes(again, plaintext);
      wipe(again);
      if (!same) throw new KeyringError('internal', 'A re-encrypted value did not read back as itself.');
      return envelope;
    } finally {
      wipe(plaintext);
    }
  };
}

/** Is what is stored an envelope, and of the version beside it? */
function namesItsKey({ envelope, keyId }: SealedRow): boolean {
  try {
    return uuidFromBytes(parseEnvelope(envelope).keyId) === keyId;
  } catch (error) {
    if (error instanceof KeyringError) return false;
    throw error;
  }
}
