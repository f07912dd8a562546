import { createHash } from 'node:crypto';
import { withApproval } from '../access/approvals.ts';
import type { DiscardedRow, QuarantineEntry, RowPlace } from '../api.ts';
import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog, type EncryptedColumn } from '../keyring/columns.ts';
import { wipe } from '../secret-bytes.ts';
import { MAX_SUBJECT, rowSubject } from '../secrets/row-id.ts';
import { SECRETS_LABEL } from '../secrets/store.ts';
import { requireGivenReason, requireUuid } from '../validate.ts';
import { boundedTransaction } from './bounded.ts';
import type { RotationContext } from './context.ts';
import { deleteRowAsRead } from './discard-store.ts';
import { deleteQuarantineOf, selectQuarantineEntry } from './quarantine-store.ts';
import { selectRows } from './rows-store.ts';
import { isUnreadable, RowCrypto, type StoredRow, type UnreadableReason } from './rows.ts';

const ATTEMPTS = 5;

/**
 * Deletes a quarantined row, if it still holds the very bytes that were found not to open: whoever edits it meanwhile wins, and
 * what they wrote is tried in turn.
 */
export async function discardRow(context: RotationContext, row: RowPlace, reason: string): Promise<DiscardedRow> {
  const place = { ...row, projectId: requireUuid('project id', row.projectId) };
  requireGivenReason(reason);
  const { database } = context;
  const column = (await requireSoundCatalog(database)).find(({ label }) => label === place.label);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const entry = await selectQuarantineEntry(database, place);
    if (entry === undefined || column === undefined) throw notQuarantined(place);
    const [stored] = await selectRows(database, column, { projectId: place.projectId, ids: [place.rowId] });
    if (stored === undefined) throw gone(place);
    const found = await requireUnreadable(context, place, stored);
    if (found !== undefined && (await remove(context, { entry, column, stored, found, reason }))) {
      const { name, rotationId } = entry;
      return { ...placeOf(entry), name, keyId: stored.keyId, reason: found, rotationId };
    }
  }
  throw new KeyringError('conflict', 'Something keeps changing the row. It was not discarded.', {
    details: { ...place },
  });
}

// Rolls everything back, an approval's use too.
const changed = new Error('the row is not what was read');

interface Removal {
  readonly entry: QuarantineEntry;
  readonly column: EncryptedColumn;
  readonly stored: StoredRow;
  readonly found: UnreadableReason;
  readonly reason: string;
}

/** Row, entry and trail in one transaction. False when the row is not what was read: nothing was changed then. */
async function remove({ database, audit }: RotationContext, removal: Removal): Promise<boolean> {
  const { entry, column, stored, found, reason } = removal;
  const { projectId, label, rowId, name, rotationId } = entry;
  try {
    const act = { action: 'quarantine.discard', subject: subjectOf(entry), projectId, reason } as const;
    await withApproval(database, audit, act, (consume) =>
      boundedTransaction(database, async (tx) => {
        await consume(tx);
        if (!(await deleteRowAsRead(tx, column, projectId, stored))) throw changed;
        await deleteQuarantineOf(tx, entry);
        await audit.record(tx, {
          action: 'quarantine.discarded',
          projectId,
          subject: rowSubject(label, rowId),
          reason,
          details: { label, row: rowId, name, key: stored.keyId, found, rotation: rotationId },
        });
        if (label !== SECRETS_LABEL) return;
        // The secret's own history, from which exposure reports are made.
        await audit.record(tx, {
          action: 'secret.deleted',
          projectId,
          subject: `secret:${rowId}`,
          reason,
          details: { name, previousKey: stored.keyId, discarded: true },
        });
      }),
    );
    return true;
  } catch (error) {
    if (error === changed || isTransient(error)) return false;
    const details = { ...placeOf(entry) };
    if (sqlState(error) === sqlStates.lockNotAvailable) {
      throw new KeyringError('contended', 'Another transaction holds the row. It was not discarded.', {
        remedy: 'Try again when that has ended.',
        details,
      });
    }
    if (sqlState(error) !== sqlStates.foreignKeyViolation) throw error;
    throw new KeyringError('conflict', 'Rows of another table refer to the row. It was not discarded.', {
      remedy: 'Delete them first, or set the value of the row again.',
      details,
    });
  }
}

/**
 * Why the row does not open; undefined when that has just changed.
 * @throws KeyringError when it opens, or when it is its key that is away and can come back.
 */
async function requireUnreadable(
  { dataKeys }: RotationContext,
  place: RowPlace,
  stored: StoredRow,
): Promise<UnreadableReason | undefined> {
  const result = await new RowCrypto(dataKeys, place.projectId, place.label).open(stored);
  if (!isUnreadable(result)) {
    wipe(result.plaintext);
    throw new KeyringError('row_opens', 'The row opens now. It was not discarded.', {
      remedy: 'Run `mh-keys quarantine retry`: it leaves quarantine, and its rotation goes on.',
      details: { ...place },
    });
  }
  const isLost = result.reason !== 'key_unavailable' || (await isKeyLost(dataKeys, place.projectId, stored.keyId));
  return isLost ? result.reason : undefined;
}

/** A value whose key can be had again is not lost. @throws KeyringError for a key that is only away. */
async function isKeyLost(dataKeys: RotationContext['dataKeys'], projectId: string, keyId: string): Promise<boolean> {
  try {
    await dataKeys.get(projectId, keyId);
    return false;
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    if (error.code === 'key_destroyed' || error.code === 'decryption_failed') return true;
    if (error.code !== 'key_disabled') throw error;
    throw new KeyringError('key_disabled', `${error.message} The row was not discarded.`, {
      remedy: `Bring it back with \`mh-keys keys restore ${keyId}\`, then run \`mh-keys quarantine retry\`.`,
      details: error.details,
    });
  }
}

function placeOf({ projectId, label, rowId }: RowPlace): RowPlace {
  return { projectId, label, rowId };
}

/** What is approved is this row and no other, however long its id is. */
function subjectOf({ projectId, label, rowId }: RowPlace): string {
  const whole = `row:${projectId}/${label}/${rowId}`;
  return whole.length <= MAX_SUBJECT ? whole : `row:${createHash('sha256').update(whole).digest('hex')}`;
}

function notQuarantined(place: RowPlace): KeyringError {
  return new KeyringError('not_quarantined', `There is no row ${place.rowId} of ${place.label} in quarantine.`, {
    remedy: 'Run `mh-keys quarantine list`.',
    details: { ...place },
  });
}

function gone(place: RowPlace): KeyringError {
  return new KeyringError('not_quarantined', 'The row is no longer there: nothing is left to discard.', {
    remedy: 'Run `mh-keys quarantine retry`: its entry leaves, and its rotation goes on.',
    details: { ...place },
  });
}
