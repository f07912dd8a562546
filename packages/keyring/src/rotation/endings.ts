import { isDeepStrictEqual } from 'node:util';
import type { Queryable } from '../db/port.ts';
import { requireSoundCatalog, type EncryptedColumn } from '../keyring/columns.ts';
import { markRolledBack, startRetention } from '../keyring/store.ts';
import { boundedTransaction } from './bounded.ts';
import type { RotationContext } from './context.ts';
import { canceledEntry } from './entries.ts';
import type { Signer } from '../keyring/signing-keys.ts';
import { endProjects, moveProject, type ProjectProgress } from './project-store.ts';
import { clearQuarantine, replaceQuarantine } from './quarantine-store.ts';
import { selectReceiptFacts } from './receipt-store.ts';
import { recordReceipts } from './receipt.ts';
import type { Unreadable } from './rows.ts';

/** Undoes a transaction whose compare-and-set found somebody else's work: read again and go on from there. */
export class Overtaken extends Error {}

/** A project whose every row was read back and opened under `keyId`. */
export interface ProvedProject {
  readonly progress: ProjectProgress;
  readonly keyId: string;
  /** Rows that were read back. */
  readonly verified: number;
  /** The columns that they were read back in: the registry as it was then. */
  readonly columns: readonly EncryptedColumn[];
}

/**
 * The end of a project. @throws Overtaken when somebody else moved it, a row of it is under another version, or the registry is not
 * what it was when the rows were read back: a column or a partition may have come that nobody looked into.
 */
export async function finalize(
  context: RotationContext,
  proved: ProvedProject,
  to: 'completed' | 'rolled_back',
): Promise<'rest'> {
  const signer = await context.signer();
  await boundedTransaction(context.database, (tx) => finalizeAll(context, tx, [proved], to, signer));
  return 'rest';
}

/**
 * The end of projects of one rotation that stand at the same state: the old versions' retention, the states and their
 * entries, the last count and the receipts. All of them or none. @throws Overtaken, as `finalize`.
 */
export async function finalizeAll(
  context: RotationContext,
  tx: Queryable,
  proved: readonly ProvedProject[],
  to: 'completed' | 'rolled_back',
  signer: Signer,
): Promise<void> {
  const [first] = proved;
  if (first === undefined) return;
  const { rotationId } = first.progress;
  const projectIds = proved.map(({ progress }) => progress.projectId);
  const retired = await startRetention(tx, projectIds);
  // From that statement on nobody registers a column or attaches a partition before the commit: either takes a lock on the
  // keys' table, for its foreign key, that waits for whoever updates it.
  const columns = await requireSoundCatalog(tx);
  if (proved.some((one) => !isDeepStrictEqual(one.columns, columns))) throw new Overtaken();
  // Keys first, the rotation's rows after them: the order in which the end of a project takes them.
  if (!(await endProjects(tx, proved, to))) throw new Overtaken();
  await clearQuarantine(tx, projectIds);
  await context.audit.recordAll(
    tx,
    proved.map(({ progress: { projectId }, keyId }) => ({
      action: to === 'completed' ? 'rotation.project_completed' : 'rotation.project_rolled_back',
      projectId,
      subject: `rotation:${rotationId}`,
      details: { key: keyId, retired: retired.filter((one) => one.projectId === projectId).map((one) => one.keyId) },
    })),
  );
  // After the fence closed, rows under other versions only become fewer: so this count holds for the commit as well.
  const facts = await selectReceiptFacts(
    tx,
    rotationId,
    proved.map(({ progress, keyId }) => ({ projectId: progress.projectId, keyId })),
  );
  if (facts.length < proved.length || facts.some(({ others }) => others > 0)) throw new Overtaken();
  await recordReceipts(tx, rotationId, facts, to, signer);
}

/** Before its promote a project has nothing to turn back: the version it staged is never used. */
export async function cancel(context: RotationContext, progress: ProjectProgress): Promise<'rest'> {
  await boundedTransaction(context.database, async (tx) => {
    if (!(await moveProject(tx, progress, { to: 'canceled', errorCode: 'rolled_back_before_promote' }))) {
      throw new Overtaken();
    }
    await recordCanceled(context, tx, progress.rotationId, [progress]);
  });
  return 'rest';
}

/** Of projects that were canceled in this transaction: what was staged for them is never used, and the trail says so. */
export async function recordCanceled(
  { audit }: Pick<RotationContext, 'audit'>,
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly targetKeyId: string | undefined }[],
): Promise<void> {
  await markRolledBack(
    tx,
    projects.flatMap(({ targetKeyId }) => targetKeyId ?? []),
  );
  await audit.recordAll(
    tx,
    projects.map(({ projectId }) => canceledEntry(rotationId, projectId)),
  );
}

/** Nothing can be made of the new version: the project's part in the rotation is over, and its old version goes on. */
export async function fail(
  context: RotationContext,
  progress: ProjectProgress,
  code: string,
  detail: string,
): Promise<'rest'> {
  return stop(context, progress, 'failed', code, detail);
}

/** Something has to be mended first. Resumable; `code` and `detail` say what. */
export async function block(
  context: RotationContext,
  progress: ProjectProgress,
  code: string,
  detail: string,
): Promise<'rest'> {
  return stop(context, progress, 'blocked', code, detail);
}

async function stop(
  context: RotationContext,
  progress: ProjectProgress,
  to: 'blocked' | 'failed',
  errorCode: string,
  errorDetail: string,
): Promise<'rest'> {
  await boundedTransaction(context.database, (tx) => recordStop(context, tx, progress, to, errorCode, errorDetail));
  return 'rest';
}

async function recordStop(
  context: RotationContext,
  tx: Queryable,
  progress: ProjectProgress,
  to: 'blocked' | 'failed',
  errorCode: string,
  errorDetail: string,
): Promise<void> {
  if (!(await moveProject(tx, progress, { to, errorCode, errorDetail }))) throw new Overtaken();
  await context.audit.record(tx, {
    action: `rotation.project_${to}`,
    outcome: 'failed',
    projectId: progress.projectId,
    subject: `rotation:${progress.rotationId}`,
    details: { code: errorCode, detail: errorDetail },
  });
}

/**
 * Rows are what is in the way: those that do not open go into quarantine, by name. `free`: one of those that were `held` at every try,
 * though nobody holds it now.
 */
export async function blockRows(
  context: RotationContext,
  progress: ProjectProgress,
  unreadable: ReadonlyMap<string, readonly Unreadable[]>,
  held: number,
  free?: string,
): Promise<void> {
  const quarantined = [...unreadable.values()].reduce((sum, rows) => sum + rows.length, 0);
  const code = quarantined > 0 ? 'rows_quarantined' : 'rows_locked';
  const parts = [
    quarantined > 0 ? `${String(quarantined)} ${quarantined === 1 ? 'row does' : 'rows do'} not open` : '',
    held > 0 && free === undefined
      ? `${String(held)} ${held === 1 ? 'row is' : 'rows are'} held by other transactions`
      : '',
    // Let go a moment ago; or passed over in silence by something in the table itself.
    free === undefined
      ? ''
      : `${String(held)} ${held === 1 ? 'row was' : 'rows were'} not to be changed, and ${free} is held by nobody now: unless resuming ` +
        'helps, a trigger, rule or policy of its table keeps it as it is',
  ];
  const detail = parts.filter((part) => part !== '').join('; ');
  await boundedTransaction(context.database, async (tx) => {
    // Compare-and-set first: of two runners that come to the same end, one writes.
    await recordStop(context, tx, progress, 'blocked', code, detail);
    await replaceQuarantine(tx, progress, unreadable);
  });
}
