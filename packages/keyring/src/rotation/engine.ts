import type { RowsUnit } from '../api.ts';
import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import type { Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog, type EncryptedColumn } from '../keyring/columns.ts';
import { markRolledBack, movePrimary, selectLatestVersion, selectPrimary } from '../keyring/store.ts';
import type { BlockRange } from './batches.ts';
import { boundedTransaction, LOCK_WAIT_MS } from './bounded.ts';
import type { RotationContext } from './context.ts';
import { block, blockRows, cancel, fail, finalize, Overtaken, type ProvedProject } from './endings.ts';
import { promotedEntry, rolledBackEntry, sweptEntry } from './entries.ts';
import {
  moveProject,
  noteRowsToMove,
  noteRowsVerified,
  selectProgress,
  type ProjectProgress,
} from './project-store.ts';
import type { Direction } from './rotation-store.ts';
import { countOthersByColumn, selectFreeRow, totalOf } from './rows-store.ts';
import type { Unreadable } from './rows.ts';
import { partsOf, sweepBlocks, sweepProject } from './sweep.ts';
import { isNotItsOwn } from './trouble.ts';
import { verifyProject } from './verify.ts';
import { backoffMs, waitedMs } from '../db/wait.ts';

/** What became of a project: at rest for this run, held by somebody for longer than the patience, or wanting another try. */
export type Advance =
  | 'rest'
  | 'held'
  | { readonly retryAfterMs: number; /** Which try the wait is after. */ readonly tried: number }
  /** It wants to go on when these are done. */
  | { readonly parts: readonly RowsUnit[] };

/** How a project is tried. */
export interface Try {
  /** From 1: how long it waits for what others hold. */
  readonly attempt: number;
  /** As `ProjectsUnit` has it. */
  readonly partRows?: number | undefined;
}

// While a promote waits, the writers of its project wait behind it: so it waits a little, lets them go, and comes back.
const FIRST_PROMOTE_WAIT_MS = 50;
const LONGEST_PROMOTE_WAIT_MS = 2_000;

const FIRST_ROW_WAIT_MS = 20;
const LONGEST_ROW_WAIT_MS = 1_000;

// A statement that somebody canceled is not canceled again; one that takes too long is.
const MOST_CANCELED = 3;

// Far more than processes that drive the same rotation can cost each other, far less than for ever.
const MOST_OVERTAKEN = 20;

/**
 * Takes one project of a rotation as far as it will go: stage, promote, sweep, verify, finalize, or the way back. Every step
 * starts from what the database says and commits its outcome with its audit entry, so that any process can die anywhere.
 */
export async function advanceProject(
  context: RotationContext,
  rotationId: string,
  projectId: string,
  direction: Direction,
  given: Try,
  signal: AbortSignal,
): Promise<Advance> {
  const { attempt } = given;
  for (let overtaken = 0; ;) {
    signal.throwIfAborted();
    const progress = await selectProgress(context.database, rotationId, projectId);
    if (progress === undefined) return 'rest';
    try {
      const next =
        overtaken < MOST_OVERTAKEN
          ? await stepOrBlock(context, progress, direction, given, signal)
          : await block(context, progress, 'contended', 'Something else keeps changing the keyring of this project.');
      if (next !== 'again') return next;
      overtaken = 0;
    } catch (error) {
      const state = sqlState(error);
      if (state === sqlStates.staleVersion) context.dataKeys.tally.fenceRefusals += 1;
      // The fence, too: the pointer moved while the sweep was on its way; and that of wrapping keys. And a version number that
      // somebody else took. What the project wants now is in its row.
      const lost =
        error instanceof Overtaken ||
        isTransient(error) ||
        state === sqlStates.staleVersion ||
        state === sqlStates.staleWrapping ||
        state === sqlStates.uniqueViolation;
      if (!lost) {
        if (await ended(context, progress)) return 'rest';
        if (state !== sqlStates.lockNotAvailable) throw error;
        // Its own rows are held, so not even that it is blocked can be written: it waits outside, and is told by the runner.
        return attempt * LOCK_WAIT_MS <= context.lockPatienceMs
          ? { retryAfterMs: FIRST_PROMOTE_WAIT_MS, tried: attempt }
          : 'held';
      }
      overtaken += 1;
    }
  }
}

// Trouble of the moment, which is no trouble of this project.
const ofTheMoment: ReadonlySet<string> = new Set([
  sqlStates.serializationFailure,
  sqlStates.deadlock,
  sqlStates.staleVersion,
  sqlStates.staleWrapping,
  sqlStates.uniqueViolation,
  sqlStates.lockNotAvailable,
]);

/** A project that cannot go on is blocked by what it met, and never takes the others of its rotation with it. */
async function stepOrBlock(...args: Parameters<typeof step>): Promise<Advance | 'again'> {
  try {
    return await step(...args);
  } catch (error) {
    const state = sqlState(error) ?? '';
    const passing = !(error instanceof KeyringError) || isNotItsOwn(error) || ofTheMoment.has(state);
    const [context, progress, , { attempt }, signal] = args;
    if (passing || signal.aborted || (await ended(context, progress))) throw error;
    if (state !== sqlStates.canceled) return block(context, progress, error.code, error.message);
    if (attempt < MOST_CANCELED) return { retryAfterMs: FIRST_PROMOTE_WAIT_MS, tried: attempt };
    const detail =
      'PostgreSQL canceled a statement three times. The `statement_timeout` of the login or the database is too short for ' +
      'this project: raise it (`alter role … set statement_timeout`), then resume the rotation.';
    return block(context, progress, 'statement_canceled', detail);
  }
}

async function ended(context: RotationContext, { rotationId, projectId }: ProjectProgress): Promise<boolean> {
  const now = await selectProgress(context.database, rotationId, projectId);
  return now?.state === 'canceled';
}

async function step(
  context: RotationContext,
  progress: ProjectProgress,
  direction: Direction,
  given: Try,
  signal: AbortSignal,
): Promise<Advance | 'again'> {
  const { attempt } = given;
  if (direction === 'back' && progress.direction === 'forward') {
    switch (progress.state) {
      case 'requested':
      case 'staged':
        return cancel(context, progress);
      case 'blocked':
        return progress.promoted ? turnBack(context, progress, attempt) : cancel(context, progress);
      case 'sweeping':
      case 'verifying':
        return turnBack(context, progress, attempt);
      default:
        return 'rest';
    }
  }
  switch (progress.state) {
    case 'requested':
      return stage(context, progress);
    case 'staged':
      return promote(context, progress, attempt);
    case 'sweeping':
      return sweep(context, progress, given, signal);
    case 'verifying':
      return verify(context, progress, signal);
    case 'rolling_back':
      return sweepBack(context, progress, given, signal);
    default:
      return 'rest';
  }
}

/** A new version, wrapped and committed; nothing is encrypted with it yet. */
async function stage(context: RotationContext, progress: ProjectProgress): Promise<'again'> {
  const { projectId } = progress;
  const source = await selectPrimary(context.database, projectId);
  const latest = await selectLatestVersion(context.database, projectId);
  if (source === undefined || latest === undefined) throw new Overtaken();
  const key = await context.dataKeys.create(projectId, latest.version + 1);
  await boundedTransaction(context.database, async (tx) => {
    if (!(await moveProject(tx, progress, { to: 'staged', sourceKeyId: source, targetKeyId: key.id }))) {
      throw new Overtaken();
    }
    await context.dataKeys.insert(tx, key);
  });
  return 'again';
}

/** Reads the new version back, tries it, and moves the pointer. From its commit on, new writes are under it. */
async function promote(
  context: RotationContext,
  progress: ProjectProgress,
  attempt: number,
): Promise<Advance | 'again'> {
  const { projectId } = progress;
  const { source, target } = versions(progress);
  const trouble = await keyTrouble(context.dataKeys.selfTest(projectId, target));
  if (trouble !== undefined)
    return fail(context, progress, 'self_test_failed', `The new version is no good: ${trouble}`);
  return moving(context, progress, attempt, async (tx, waitMs) => {
    // Pointer first, the rotation's row last, as a sweep and the end of a project take them.
    if (!(await movePrimary(tx, { projectId, from: source, to: target, waitMs }))) throw new Overtaken();
    if (!(await moveProject(tx, progress, { to: 'sweeping' }))) throw new Overtaken();
    await context.audit.record(
      tx,
      promotedEntry(progress.rotationId, { projectId, sourceKeyId: source, targetKeyId: target }),
    );
  });
}

/** Moves the pointer back to where the rotation found it, and marks the version it leaves as never to be promoted again. */
async function turnBack(
  context: RotationContext,
  progress: ProjectProgress,
  attempt: number,
): Promise<Advance | 'again'> {
  const { projectId } = progress;
  const { source, target } = versions(progress);
  const trouble = await keyTrouble(context.dataKeys.selfTest(projectId, source));
  if (trouble !== undefined) return block(context, progress, 'key_unavailable', `There is no way back: ${trouble}`);
  return moving(context, progress, attempt, async (tx, waitMs) => {
    if (!(await movePrimary(tx, { projectId, from: target, to: source, waitMs }))) throw new Overtaken();
    await markRolledBack(tx, [target]);
    if (!(await moveProject(tx, progress, { to: 'rolling_back', direction: 'back' }))) throw new Overtaken();
    await context.audit.record(
      tx,
      rolledBackEntry(progress.rotationId, { projectId, sourceKeyId: source, targetKeyId: target }),
    );
  });
}

const unusable: ReadonlySet<string> = new Set(['decryption_failed', 'key_destroyed', 'key_disabled', 'unknown_key']);

/** Why nothing can be encrypted with a version, if so: the trouble of one project, which must not become that of all. */
async function keyTrouble(trial: Promise<unknown>): Promise<string | undefined> {
  try {
    await trial;
    return undefined;
  } catch (error) {
    if (error instanceof KeyringError && unusable.has(error.code)) return error.message;
    throw error;
  }
}

/** A move of the pointer, tried with a bounded wait; given up for now, or for good, when it cannot have its lock. */
async function moving(
  context: RotationContext,
  progress: ProjectProgress,
  attempt: number,
  move: (tx: Queryable, waitMs: number) => Promise<void>,
): Promise<Advance | 'again'> {
  const waitMs = backoffMs(attempt, FIRST_PROMOTE_WAIT_MS, LONGEST_PROMOTE_WAIT_MS);
  try {
    await boundedTransaction(context.database, (tx) => move(tx, waitMs));
    context.dataKeys.forgetPrimary(progress.projectId);
    return 'again';
  } catch (error) {
    if (sqlState(error) === sqlStates.canceled) {
      // The waits double up to the longest, so this many tries are about the patience.
      if (attempt * LONGEST_PROMOTE_WAIT_MS <= context.lockPatienceMs) return { retryAfterMs: waitMs, tried: attempt };
      return block(
        context,
        progress,
        'keyring_locked',
        'A transaction of this project stays open and holds its keyring.',
      );
    }
    if (sqlState(error) === sqlStates.illegalMove) {
      return block(context, progress, 'promote_refused', (error as Error).message);
    }
    throw error;
  }
}

async function sweep(
  context: RotationContext,
  progress: ProjectProgress,
  given: Try,
  signal: AbortSignal,
): Promise<Advance | 'again'> {
  const { target } = versions(progress);
  const swept = await sweepTo(context, progress, target, given, signal);
  if (swept !== 'clear') return swept;
  await boundedTransaction(context.database, async (tx) => {
    if (!(await moveProject(tx, progress, { to: 'verifying' }))) throw new Overtaken();
    await context.audit.record(tx, sweptEntry(progress.rotationId, progress.projectId));
  });
  return 'again';
}

/** Reads everything back, and finalizes: completed means proved. */
async function verify(
  context: RotationContext,
  progress: ProjectProgress,
  signal: AbortSignal,
): Promise<Advance | 'again'> {
  const { target } = versions(progress);
  const proof = await proveProject(context, progress, target, signal);
  if (proof === 'blocked') return 'rest';
  if (proof === 'stray') {
    await boundedTransaction(context.database, async (tx) => {
      if (!(await moveProject(tx, progress, { to: 'sweeping' }))) throw new Overtaken();
      await context.audit.record(tx, {
        action: 'rotation.project_swept_again',
        projectId: progress.projectId,
        subject: `rotation:${progress.rotationId}`,
        details: { reason: 'rows under another version were found' },
      });
    });
    return 'again';
  }
  return finalize(context, { progress, keyId: target, ...proof }, 'completed');
}

async function sweepBack(
  context: RotationContext,
  progress: ProjectProgress,
  given: Try,
  signal: AbortSignal,
): Promise<Advance | 'again'> {
  const { source } = versions(progress);
  const swept = await sweepTo(context, progress, source, given, signal);
  if (swept !== 'clear') return swept;
  const proof = await proveProject(context, progress, source, signal);
  if (proof === 'blocked') return 'rest';
  if (proof === 'stray') return 'again';
  return finalize(context, { progress, keyId: source, ...proof }, 'rolled_back');
}

/** Rows that others hold are waited for outside of here, where other projects get their turn meanwhile. */
async function sweepTo(
  context: RotationContext,
  progress: ProjectProgress,
  keyId: string,
  { attempt, partRows }: Try,
  signal: AbortSignal,
): Promise<Advance | 'clear'> {
  const columns = await requireSoundCatalog(context.database);
  const trouble = await keyTrouble(context.dataKeys.get(progress.projectId, keyId));
  if (trouble !== undefined) {
    return block(context, progress, 'key_unavailable', `Nothing can be moved to its version: ${trouble}`);
  }
  const others = await countOthersByColumn(context.database, progress.projectId, keyId);
  await boundedTransaction(context.database, (tx) =>
    noteRowsToMove(tx, progress.rotationId, [{ ...progress, rows: totalOf(others) }]),
  );
  if (partRows !== undefined) {
    const parts = await partsOf(context, columns, others, partRows);
    if (parts.length > 1) return { parts: parts.map((part) => toUnit(progress, part)) };
  }
  const { unreadable, held, fruitful } = await sweepProject(context, progress, keyId, columns, others, signal);
  if (unreadable.size === 0 && held === 0) return 'clear';
  if (held > 0) {
    const tried = fruitful ? 1 : attempt;
    const waitMs = backoffMs(tried, FIRST_ROW_WAIT_MS, LONGEST_ROW_WAIT_MS);
    const waited = waitedMs(tried, FIRST_ROW_WAIT_MS, LONGEST_ROW_WAIT_MS);
    if (waited + waitMs <= context.lockPatienceMs) return { retryAfterMs: waitMs, tried };
  }
  const free = held > 0 ? await freeRow(context, progress.projectId, keyId, columns, unreadable) : undefined;
  await blockRows(context, progress, unreadable, held, free);
  return 'rest';
}

/** A row that stayed where it was, though nobody holds it. */
async function freeRow(
  { database }: RotationContext,
  projectId: string,
  keyId: string,
  columns: readonly EncryptedColumn[],
  unreadable: ReadonlyMap<string, readonly Unreadable[]>,
): Promise<string | undefined> {
  for (const column of columns) {
    const exceptIds = (unreadable.get(column.label) ?? []).map(({ id }) => id);
    const id = await selectFreeRow(database, column, { projectId, exceptKeyId: keyId, exceptIds });
    if (id !== undefined) return `${column.label} ${id}`;
  }
  return undefined;
}

function toUnit(
  { rotationId, projectId }: ProjectProgress,
  { label, range: { from, to, rows } }: { readonly label: string; readonly range: BlockRange },
): RowsUnit {
  return { kind: 'rows', rotationId, projectIds: [projectId], label, fromBlock: from, toBlock: to, rows };
}

/** Does a part of a project's sweep, if it is still wanted. */
export async function advanceRows(
  context: RotationContext,
  { rotationId, projectIds: [projectId], label, fromBlock, toBlock, rows }: RowsUnit,
  direction: Direction,
  signal: AbortSignal,
): Promise<void> {
  const progress = await selectProgress(context.database, rotationId, projectId);
  if (progress?.state !== (direction === 'back' ? 'rolling_back' : 'sweeping')) return;
  const column = (await requireSoundCatalog(context.database)).find((one) => one.label === label);
  if (column === undefined) return;
  const { source, target } = versions(progress);
  const range = { from: fromBlock, to: toBlock, toTheEnd: false, rows };
  try {
    await sweepBlocks(context, progress, direction === 'back' ? source : target, column, range, signal);
  } catch (error) {
    // Whatever it is, the project meets it as well when it goes on, and says what becomes of it.
    if (!(error instanceof KeyringError) || isNotItsOwn(error)) throw error;
  }
}

async function proveProject(
  context: RotationContext,
  progress: ProjectProgress,
  keyId: string,
  signal: AbortSignal,
): Promise<Pick<ProvedProject, 'verified' | 'columns'> | 'stray' | 'blocked'> {
  const columns = await requireSoundCatalog(context.database);
  const { opened, stray, unreadable } = await verifyProject(context, progress.projectId, keyId, columns, signal);
  await boundedTransaction(context.database, (tx) => noteRowsVerified(tx, progress, opened));
  if (unreadable.size > 0) {
    await blockRows(context, progress, unreadable, 0);
    return 'blocked';
  }
  return stray === 0 ? { verified: opened, columns } : 'stray';
}

function versions({ sourceKeyId, targetKeyId }: ProjectProgress): { source: string; target: string } {
  if (sourceKeyId === undefined || targetKeyId === undefined) {
    throw new KeyringError('internal', 'A staged project has no source or target version.');
  }
  return { source: sourceKeyId, target: targetKeyId };
}
