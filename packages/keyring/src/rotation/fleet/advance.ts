import { requireSoundCatalog, type EncryptedColumn } from '../../keyring/columns.ts';
import type { RotationContext } from '../context.ts';
import { noteRowsToMove, selectProgresses, type ProjectProgress } from '../project-store.ts';
import type { Direction } from '../rotation-store.ts';
import { measure, proveTogether, sweepTogether, totals, type Destination } from './rows.ts';
import { cancel, end, endSweep, promote, stage, turnBack, type StagedProject } from './steps.ts';
import { isOfOne, setTransaction } from './together.ts';

/**
 * Takes projects of a rotation through its steps together, a few statements for each step, whatever their number. Waits
 * for nobody. Gives those that did not come to their end this way: large ones, and those that something is in the way of. They are left
 * where they stand for `advanceProject`, which takes one, waits where that helps, and says what is wrong.
 *
 * Why two ways: one project at a time costs some fifteen statements and seven commits each, which is nothing beside a large
 * one and everything for a small one. docs/performance.md has the rates of both.
 */
export async function advanceTogether(
  context: RotationContext,
  rotationId: string,
  projectIds: readonly string[],
  direction: Direction,
  signal: AbortSignal,
): Promise<string[]> {
  const projects = await setTransaction(context.database, (tx) => selectProgresses(tx, rotationId, projectIds));
  const ended = await (direction === 'forward' ? forward : back)(context, rotationId, projects, signal);
  const done = new Set(ended);
  return projectIds.filter((id) => !done.has(id));
}

async function forward(
  context: RotationContext,
  rotationId: string,
  projects: readonly ProjectProgress[],
  signal: AbortSignal,
): Promise<string[]> {
  const at = (state: ProjectProgress['state']): ProjectProgress[] => projects.filter((one) => one.state === state);
  const step = pacedSteps(context, signal);
  const requested = at('requested');
  const staged = [...at('staged').filter(isStaged), ...(await step(() => stage(context, rotationId, requested)))];
  const columns = await columnsIfSound(context);
  if (columns === undefined) return [];
  // Before the promote, which notes it: another change of each project's row less.
  const sizes = await orNone(() => measure(context, toTarget(staged), columns));
  const promoted = await step(() => promote(context, rotationId, staged, sizes));
  const sweeping = at('sweeping').filter(isStaged);
  const swept = [
    ...(await orNone(() => sweepTogether(context, rotationId, toTarget(promoted), sizes, signal))),
    ...(await sweepAnew(context, rotationId, toTarget(sweeping), columns, signal)),
  ];
  const verifying = [...at('verifying').filter(isStaged), ...(await step(() => endSweep(context, rotationId, swept)))];
  const proved = await orNone(() => proveTogether(context, toTarget(verifying), columns, sizes, signal));
  return step(() => end(context, proved, 'completed'));
}

async function back(
  context: RotationContext,
  rotationId: string,
  projects: readonly ProjectProgress[],
  signal: AbortSignal,
): Promise<string[]> {
  const under = projects.filter(isStaged);
  const toTurn = under.filter(
    ({ state, direction }) => direction === 'forward' && (state === 'sweeping' || state === 'verifying'),
  );
  const step = pacedSteps(context, signal);
  const unpromoted = projects.filter(
    ({ state, promoted }) => state === 'requested' || state === 'staged' || (state === 'blocked' && !promoted),
  );
  const canceled = await step(() => cancel(context, rotationId, unpromoted));
  const turned = [
    ...under.filter(({ state }) => state === 'rolling_back'),
    ...(await step(() => turnBack(context, rotationId, toTurn))),
  ];
  const columns = await columnsIfSound(context);
  if (columns === undefined) return canceled;
  const swept = await sweepAnew(context, rotationId, toSource(turned), columns, signal);
  const proved = await orNone(() => proveTogether(context, toSource(swept), columns, [], signal));
  return [...canceled, ...(await step(() => end(context, proved, 'rolled_back')))];
}

/** A sweep that begins, or begins anew: what there is to move is noted first. */
function sweepAnew(
  context: RotationContext,
  rotationId: string,
  destinations: readonly Destination[],
  columns: readonly EncryptedColumn[],
  signal: AbortSignal,
): Promise<StagedProject[]> {
  return orNone(async () => {
    if (destinations.length === 0) return [];
    const sizes = await measure(context, destinations, columns);
    await setTransaction(context.database, (tx) => noteRowsToMove(tx, rotationId, totals(sizes)));
    return sweepTogether(context, rotationId, destinations, sizes, signal);
  });
}

/** What is wrong with the catalog is said of each project by the engine that takes one: then there are no rows to go through here. */
async function columnsIfSound(context: RotationContext): Promise<EncryptedColumn[] | undefined> {
  const [columns] = await orNone(async () => [await requireSoundCatalog(context.database)]);
  return columns;
}

/** Trouble that may be that of one project: then none goes on from here. */
async function orNone<T>(work: () => Promise<T[]>): Promise<T[]> {
  try {
    return await work();
  } catch (error) {
    if (!isOfOne(error)) throw error;
    return [];
  }
}

/** A step keeps PostgreSQL as busy as a batch of rows does: it has its turn with those, but counts for no row. */
function pacedSteps({ pacer }: RotationContext, signal: AbortSignal): <T>(step: () => Promise<T>) => Promise<T> {
  return async (step) => {
    signal.throwIfAborted();
    return pacer === undefined ? step() : pacer.batch(0, 'sweep', step, signal);
  };
}

function isStaged(project: ProjectProgress): project is StagedProject {
  return project.sourceKeyId !== undefined && project.targetKeyId !== undefined;
}

function toTarget(projects: readonly StagedProject[]): Destination[] {
  return projects.map((project) => ({ project, keyId: project.targetKeyId }));
}

function toSource(projects: readonly StagedProject[]): Destination[] {
  return projects.map((project) => ({ project, keyId: project.sourceKeyId }));
}
