import type { Quarantine, QuarantineEntry, QuarantineRetry, QuarantineScope, Rotations } from '../api.ts';
import { retried } from '../db/retried.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog, type EncryptedColumn } from '../keyring/columns.ts';
import { wipe } from '../secret-bytes.ts';
import { requireUuid } from '../validate.ts';
import type { RotationContext } from './context.ts';
import { discardRow } from './discard.ts';
import {
  deleteQuarantineEntries,
  selectFreedRotations,
  selectLastEntryId,
  selectQuarantineEntries,
  updateQuarantineReasons,
} from './quarantine-store.ts';
import { selectRows } from './rows-store.ts';
import { isUnreadable, RowCrypto } from './rows.ts';

const MOST_NAMED = 1_000;
// Rows of up to 64 KiB and more: a few megabytes at once.
const PAGE = 100;

/** The rows that rotations could not open, and the ways out for them. */
export function quarantine(context: RotationContext, resume: Rotations['resume']): Quarantine {
  return {
    async list({ limit = 1_000, after, among, ...scope } = {}) {
      if (after !== undefined && !/^\d{1,18}$/.test(after)) {
        throw new KeyringError('invalid_argument', 'The entry id is not a number.');
      }
      const page = { after, among, limit: Math.min(Math.max(limit, 1), 10_000) };
      return selectQuarantineEntries(context.database, requireScope(scope), page);
    },

    retry: ({ signal = new AbortController().signal, ...scope } = {}) =>
      retry(context, resume, requireScope(scope), signal),

    discard: (row, { reason }) => discardRow(context, row, reason),
  };
}

function requireScope({ projectId, rotationId }: QuarantineScope): QuarantineScope {
  return {
    ...(projectId === undefined ? {} : { projectId: requireUuid('project id', projectId) }),
    ...(rotationId === undefined ? {} : { rotationId: requireUuid('rotation id', rotationId) }),
  };
}

interface Tally {
  tried: number;
  opened: number;
  gone: number;
  unreadableRows: number;
  readonly unreadable: QuarantineEntry[];
}

async function retry(
  context: RotationContext,
  resume: Rotations['resume'],
  scope: QuarantineScope,
  signal: AbortSignal,
): Promise<QuarantineRetry> {
  const { database } = context;
  const columns = new Map((await requireSoundCatalog(database)).map((column) => [column.label, column]));
  const tally: Tally = { tried: 0, opened: 0, gone: 0, unreadableRows: 0, unreadable: [] };
  // What is noted after this was tried by whoever noted it.
  const upTo = await selectLastEntryId(database);
  for (let after: string | undefined; upTo !== undefined;) {
    requireNotAborted(signal);
    const page = await selectQuarantineEntries(database, scope, { after, upTo, limit: PAGE });
    for (const entries of byColumn(page)) await tryAgain(context, columns, entries, tally);
    after = page.at(-1)?.id;
    if (after === undefined) break;
  }
  // Last, and from what the database says: a retry that died on the way is finished by the next one.
  const resumed: string[] = [];
  for (const id of await selectFreedRotations(database, scope)) {
    requireNotAborted(signal);
    if (await resumeIfBlocked(resume, id)) resumed.push(id);
  }
  return { ...tally, resumed };
}

function byColumn(entries: readonly QuarantineEntry[]): readonly QuarantineEntry[][] {
  return Object.values(Object.groupBy(entries, ({ projectId, label }) => `${projectId} ${label}`)).map(
    (group) => group ?? [],
  );
}

/** Entries of one project's column: those whose rows open now, or are gone, leave; of the others, the reason is as of now. */
async function tryAgain(
  context: RotationContext,
  columns: ReadonlyMap<string, EncryptedColumn>,
  entries: readonly QuarantineEntry[],
  tally: Tally,
): Promise<void> {
  const [first] = entries;
  if (first === undefined) return;
  const { projectId, label } = first;
  const column = columns.get(label);
  const ids = entries.map(({ rowId }) => rowId);
  const rows = column === undefined ? [] : await selectRows(context.database, column, { projectId, ids });
  const byId = new Map(rows.map((row) => [row.id, row]));
  const crypto = new RowCrypto(context.dataKeys, projectId, label);
  const leaving: QuarantineEntry[] = [];
  const staying: (QuarantineEntry & { readonly keyId: string })[] = [];
  for (const entry of entries) {
    const row = byId.get(entry.rowId);
    const result = row && (await crypto.open(row));
    if (result !== undefined && isUnreadable(result)) {
      staying.push({ ...entry, keyId: result.keyId, reason: result.reason });
      continue;
    }
    if (result !== undefined) wipe(result.plaintext);
    tally[result === undefined ? 'gone' : 'opened'] += 1;
    leaving.push(entry);
  }
  tally.tried += entries.length;
  tally.unreadableRows += staying.length;
  tally.unreadable.push(...staying.slice(0, MOST_NAMED - tally.unreadable.length));
  await retried(context.database, async (tx) => {
    if (staying.length > 0) await updateQuarantineReasons(tx, staying);
    if (leaving.length === 0) return;
    const released = await deleteQuarantineEntries(
      tx,
      leaving.map(({ id }) => id),
    );
    if (released === 0) return;
    await context.audit.record(tx, {
      action: 'quarantine.released',
      projectId,
      subject: `project:${projectId}`,
      details: { label, rows: released },
    });
  });
}

/** False when somebody else moved the rotation first: then nothing is left to do here. */
async function resumeIfBlocked(resume: Rotations['resume'], id: string): Promise<boolean> {
  try {
    await resume(id);
    return true;
  } catch (error) {
    if (error instanceof KeyringError && error.code === 'rotation_not_open') return false;
    throw error;
  }
}

function requireNotAborted(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new KeyringError('interrupted', 'Interrupted. Rows that left quarantine before that stay out of it.', {
    remedy: 'Run the command again.',
  });
}
