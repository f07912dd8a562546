import type { PreviewOptions, QuarantinedRow, RotationPreview, RotationRequest } from '../api.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog, type EncryptedColumn } from '../keyring/columns.ts';
import { wipe } from '../secret-bytes.ts';
import { eachBatch } from './batches.ts';
import type { RotationContext } from './context.ts';
import { estimate, type SampledBatch } from './estimate.ts';
import { countEncryptedRows } from './preview-store.ts';
import { selectKeyringProjects } from './scope-store.ts';
import { choose } from './request.ts';
import { isUnreadable, RowCrypto, type StoredRow, type Unreadable } from './rows.ts';

const MOST_NAMED = 1_000;
const SAMPLE = 500;
const TELL_MS = 250;

/** What has been seen so far: counts, the first rows that do not open, and the ids of the first that do. */
interface Seen {
  rows: number;
  unreadableRows: number;
  readonly unreadable: QuarantinedRow[];
  sampled: number;
  readonly sample: SampledBatch[];
}

/**
 * Opens every row that a rotation of these projects would move, moves none, and says how long one would take. Its memory
 * does not grow with the rows: batches come and go, and what is kept of them is capped.
 */
export async function previewRotation(
  context: RotationContext,
  request: RotationRequest,
  { signal = new AbortController().signal, onProgress }: PreviewOptions,
): Promise<RotationPreview> {
  const { database } = context;
  const { ids } = await choose(context, request);
  const columns = await requireSoundCatalog(database);
  const chosen = await selectKeyringProjects(database, ids);
  const total = await countEncryptedRows(database, ids);
  const seen: Seen = { rows: 0, unreadableRows: 0, unreadable: [], sampled: 0, sample: [] };
  const began = performance.now();
  let toldAt = began;
  onProgress?.({ rows: 0, total });
  const onBatch = (): void => {
    if (performance.now() - toldAt < TELL_MS) return;
    toldAt = performance.now();
    onProgress?.({ rows: seen.rows, total: Math.max(total, seen.rows) });
  };
  try {
    await openProjects(context, [...chosen.keys()], columns, { seen, signal, onBatch });
    const openMs = performance.now() - began;
    onProgress?.({ rows: seen.rows, total: seen.rows });
    return {
      projects: chosen.size,
      rows: seen.rows,
      unreadableRows: seen.unreadableRows,
      unreadable: seen.unreadable,
      estimate: await estimate(context, { rows: seen.rows, openMs, sample: seen.sample, signal }),
    };
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new KeyringError('interrupted', 'The dry run was interrupted. It has changed nothing.', {
      remedy: 'Run it again.',
    });
  }
}

interface Walk {
  readonly seen: Seen;
  readonly signal: AbortSignal;
  readonly onBatch: () => void;
}

/** As many projects at once as a rotation takes, so that the rate is a rotation's. */
async function openProjects(
  context: RotationContext,
  projectIds: readonly string[],
  columns: readonly EncryptedColumn[],
  walk: Walk,
): Promise<void> {
  const queue = projectIds.values();
  const halt = new AbortController();
  const signal = AbortSignal.any([walk.signal, halt.signal]);
  const worker = async (): Promise<void> => {
    try {
      for (const projectId of queue) {
        for (const column of columns) await openColumn(context, projectId, column, { ...walk, signal });
      }
    } catch (error) {
      halt.abort(error);
      throw error;
    }
  };
  const results = await Promise.allSettled(Array.from({ length: context.rotationConcurrency }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function openColumn(
  context: RotationContext,
  projectId: string,
  column: EncryptedColumn,
  { seen, signal, onBatch }: Walk,
): Promise<void> {
  const crypto = new RowCrypto(context.dataKeys, projectId, column.label);
  const openBatch = async (rows: readonly StoredRow[]): Promise<void> => {
    const opened: string[] = [];
    const open = await crypto.opener(rows);
    for (const row of rows) {
      const result = open(row);
      seen.rows += 1;
      if (isUnreadable(result)) {
        note(seen, projectId, column, result);
        continue;
      }
      wipe(result.plaintext);
      if (seen.sampled + opened.length < SAMPLE) opened.push(row.id);
    }
    if (opened.length > 0) seen.sample.push({ projectId, column, ids: opened });
    seen.sampled += opened.length;
    onBatch();
  };
  await eachBatch(context, column, { projectId }, openBatch, signal);
}

function note(seen: Seen, projectId: string, { label }: EncryptedColumn, { id, keyId, reason }: Unreadable): void {
  seen.unreadableRows += 1;
  if (seen.unreadable.length >= MOST_NAMED) return;
  seen.unreadable.push({ projectId, label, rowId: id, keyId, reason, noticedAt: new Date() });
}
