import type { Executor, ProjectsUnit, Rotation, RotationState, RowsUnit, RunOptions, WorkUnit } from '../api.ts';
import { isUnreachable } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import type { RotationContext } from './context.ts';
import type { Pacer, Pacing } from './pacer.ts';
import { selectMovable } from './project-store.ts';
import { advanceUnit } from './unit.ts';
import {
  holdRotation,
  lockRotation,
  releaseRotation,
  selectRotationById,
  updateRotationState,
  type Direction,
} from './rotation-store.ts';
import { settleRotation } from './settle.ts';
import { backoffMs, pause } from '../db/wait.ts';
import { WorkQueue } from './work-queue.ts';

// A runner says it is alive every beat; after the lease without one, anybody may take over.
const BEAT_MS = 400;
const LEASE_MS = 5_000;
// Telling the progress counts all projects of a rotation: of 100,000 that takes a while, and at most one part in so many of the time.
const PROGRESS_SHARE = 20;

// Few enough that a unit is done within seconds.
const PROJECTS_PER_UNIT = 500;
// So many go through their steps together in hardly more time than one. More are spread, so that there is something for every lane.
const LEAST_PROJECTS_PER_UNIT = 50;
const LEAST_UNITS = 8;

const driven: ReadonlySet<RotationState> = new Set(['requested', 'running', 'rolling_back']);

/**
 * Drives a rotation to where it comes to rest. While another process drives it, this one watches, and takes over when that
 * one falls silent, or leaves it, if it was told so. Driving it twice at once does no harm: every step is a compare-and-set.
 */
export async function runRotation(context: RotationContext, id: string, options: RunOptions): Promise<Rotation> {
  const signal = options.signal ?? new AbortController().signal;
  let failures = 0;
  let waitedMs = 0;
  for (;;) {
    try {
      const start = performance.now();
      const rotation = await selectRotationById(context.database, id);
      const lookMs = performance.now() - start;
      if (rotation === undefined) throw new KeyringError('unknown_rotation', `There is no rotation ${id}.`);
      options.onProgress?.(rotation);
      if (!driven.has(rotation.state)) return rotation;
      if (signal.aborted) throw interrupted(id);
      const held = await holdRotation(context.database, { id, runner: context.runner, forMs: LEASE_MS });
      if (held === undefined) {
        if (options.whenDriven === 'leave') return rotation;
        await pause(Math.max(BEAT_MS, lookMs * PROGRESS_SHARE), signal);
      } else if (driven.has(held.state)) await drive(context, id, held.pacing, signal, options);
      // It was paused or ended in between: whoever sets it going again must not wait for our lease to run out.
      else await releaseRotation(context.database, id, context.runner);
      failures = 0;
      waitedMs = 0;
    } catch (error) {
      // A database that restarts is worth waiting for: everything that was committed is where it was.
      const waitMs = backoffMs(++failures, 100, 5_000);
      if (!isUnreachable(error) || signal.aborted || waitedMs + waitMs > context.lockPatienceMs) throw error;
      await pause(waitMs, signal);
      waitedMs += waitMs;
    }
  }
}

async function drive(
  context: RotationContext,
  id: string,
  pacing: Pacing,
  signal: AbortSignal,
  { onProgress, executor }: RunOptions,
): Promise<void> {
  const halt = new AbortController();
  const stop = AbortSignal.any([signal, halt.signal]);
  const direction = await begin(context, id);
  const { pacer, release } = context.pacers.hold(id, pacing);
  const heart = direction === undefined ? undefined : beat(context, id, direction, pacer, halt, onProgress);
  try {
    if (direction === undefined) return;
    await advanceAll(context, id, direction, executor ?? here({ ...context, pacer }, direction), stop);
    await transaction(context.database, (tx) => settleRotation(context, tx, id, direction));
  } catch (error) {
    // Halted by a pause or a rollback, or asked to stop: no failure. Whoever called looks at the rotation again.
    if (!stop.aborted) throw error;
  } finally {
    halt.abort();
    await heart;
    release();
    // Where this fails the database is gone, and the lease runs out by itself.
    await releaseRotation(context.database, id, context.runner).catch(() => undefined);
  }
}

/** This process: it watches the rotation already, so its units need not. */
function here(context: RotationContext, direction: Direction): Executor {
  return {
    atOnce: context.rotationConcurrency,
    execute: (unit, signal) => advanceUnit(context, unit, direction, signal),
  };
}

async function begin(context: RotationContext, id: string): Promise<Direction | undefined> {
  return transaction(context.database, async (tx) => {
    const rotation = await lockRotation(tx, id);
    if (rotation === undefined || !driven.has(rotation.state)) return undefined;
    if (rotation.state === 'requested') {
      await updateRotationState(tx, id, { state: 'running' });
      await context.audit.record(tx, { action: 'rotation.started', subject: `rotation:${id}` });
    }
    return rotation.direction;
  });
}

/** Keeps the lease, tells the progress, minds the pace, and halts the work when the rotation no longer wants it. Never rejects. */
async function beat(
  context: RotationContext,
  id: string,
  direction: Direction,
  pacer: Pacer,
  halt: AbortController,
  onProgress: RunOptions['onProgress'],
): Promise<void> {
  const wanted: RotationState = direction === 'back' ? 'rolling_back' : 'running';
  let tellAt = 0;
  while (!halt.signal.aborted) {
    try {
      const course = await holdRotation(context.database, { id, runner: context.runner, forMs: LEASE_MS });
      if (course?.state !== wanted) halt.abort();
      if (course !== undefined) pacer.change(course.pacing);
      const start = performance.now();
      if (onProgress !== undefined && start >= tellAt) {
        const rotation = await selectRotationById(context.database, id);
        if (rotation !== undefined) onProgress(rotation);
        tellAt = start + (performance.now() - start) * PROGRESS_SHARE;
      }
    } catch {
      // The work itself fails on the same database and tells it better.
    }
    await pause(BEAT_MS, halt.signal);
  }
}

/** Has the rotation's units done, here or by others, until none of its projects can be moved any further for now. */
async function advanceAll(
  context: RotationContext,
  id: string,
  direction: Direction,
  executor: Executor,
  signal: AbortSignal,
): Promise<void> {
  const projects = await selectMovable(context.database, id, direction);
  // Large projects, and how many of their parts are not done yet.
  const parted = new Map<string, number>();
  const unit = (projectIds: readonly string[], attempt: number): ProjectsUnit => ({
    kind: 'projects',
    rotationId: id,
    projectIds,
    attempt,
    // A project is parted once: what is left after that is held, or does not open.
    ...(executor.partRows === undefined || (projectIds.length === 1 && parted.has(projectIds[0] ?? ''))
      ? {}
      : { partRows: executor.partRows }),
  });
  const spread = Math.max(LEAST_PROJECTS_PER_UNIT, Math.ceil(projects.length / LEAST_UNITS));
  const size = executor.unitSize ?? Math.min(PROJECTS_PER_UNIT, spread);
  // Made when it is handed out: by then others may be there to share it.
  const queue = new WorkQueue<() => WorkUnit>();
  for (let from = 0; from < projects.length; from += size) {
    queue.push(() => unit(projects.slice(from, from + size), 1));
  }
  const held: string[] = [];
  const underWay = new Set<Promise<void>>();
  const failures: unknown[] = [];

  /** Once all its parts are done, the project goes on. */
  const partDone = ({ projectIds: [projectId] }: RowsUnit): void => {
    const left = (parted.get(projectId) ?? 0) - 1;
    parted.set(projectId, left);
    if (left === 0) queue.push(() => unit([projectId], 1));
  };

  const send = async (one: WorkUnit): Promise<void> => {
    try {
      const result = await executor.execute(one, signal);
      for (const { projectId, attempt, afterMs } of result.waiting) {
        queue.pushLater(() => unit([projectId], attempt), performance.now() + afterMs);
      }
      held.push(...result.held);
      for (const part of result.parts) {
        const [projectId] = part.projectIds;
        parted.set(projectId, (parted.get(projectId) ?? 0) + 1);
        queue.push(() => part);
      }
      if (one.kind === 'rows') partDone(one);
    } catch (error) {
      failures.push(error);
    }
  };

  while (failures.length === 0 && !signal.aborted) {
    const now = performance.now();
    while (underWay.size < executor.atOnce) {
      const one = queue.take(now);
      if (one === undefined) break;
      const sent = send(one()).finally(() => underWay.delete(sent));
      underWay.add(sent);
    }
    if (queue.size === 0 && underWay.size === 0) break;
    const timer = new AbortController();
    const free = underWay.size < executor.atOnce && queue.size > 0;
    const waitMs = Math.max(Math.min(queue.soonest - now, 1_000), 0);
    await Promise.race([...underWay, ...(free ? [pause(waitMs, timer.signal)] : [])]);
    timer.abort();
  }
  // Every unit is waited for, so that nothing of a failed rotation is still on its way when the failure is told.
  await Promise.all(underWay);
  if (failures.length > 0) throw failures[0];
  signal.throwIfAborted();
  const [first] = held;
  if (first === undefined) return;
  throw new KeyringError('contended', `Another transaction holds the rows of project ${first} in this rotation.`, {
    remedy: `End it, then run \`mh-keys rotate --resume ${id}\`: the other projects went on.`,
    details: { rotationId: id, projectIds: held },
  });
}

function interrupted(id: string): KeyringError {
  return new KeyringError(
    'interrupted',
    'The rotation was interrupted. Nothing is lost: it goes on where it stopped.',
    {
      remedy: `Run \`mh-keys rotate --resume ${id}\`.`,
      details: { rotationId: id },
    },
  );
}
