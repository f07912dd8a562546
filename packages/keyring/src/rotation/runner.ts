import type { Rotation, RotationState, RunOptions } from '../api.ts';
import { isUnreachable } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import type { RotationContext } from './context.ts';
import { advanceProject } from './engine.ts';
import { selectUnfinished } from './project-store.ts';
import {
  holdRotation,
  lockRotation,
  releaseRotation,
  selectRotationById,
  updateRotationState,
  type Direction,
} from './rotation-store.ts';
import { settleRotation } from './settle.ts';
import { backoffMs, pause } from './wait.ts';

// A runner says it is alive every beat; after the lease without one, anybody may take over.
const BEAT_MS = 400;
const LEASE_MS = 5_000;

const driven: ReadonlySet<RotationState> = new Set(['requested', 'running', 'rolling_back']);

/**
 * Drives a rotation to where it comes to rest. While another process drives it, this one watches, and takes over when that
 * one falls silent. Driving it twice at once does no harm: every step is a compare-and-set.
 */
export async function runRotation(context: RotationContext, id: string, options: RunOptions): Promise<Rotation> {
  const signal = options.signal ?? new AbortController().signal;
  let failures = 0;
  let waitedMs = 0;
  for (;;) {
    try {
      const rotation = await selectRotationById(context.database, id);
      if (rotation === undefined) throw new KeyringError('unknown_rotation', `There is no rotation ${id}.`);
      options.onProgress?.(rotation);
      if (!driven.has(rotation.state)) return rotation;
      if (signal.aborted) throw interrupted(id);
      const held = await holdRotation(context.database, { id, runner: context.runner, forMs: LEASE_MS });
      if (held === undefined) await pause(BEAT_MS, signal);
      else if (driven.has(held)) await drive(context, id, signal, options.onProgress);
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
  signal: AbortSignal,
  onProgress: RunOptions['onProgress'],
): Promise<void> {
  const halt = new AbortController();
  const stop = AbortSignal.any([signal, halt.signal]);
  const direction = await begin(context, id);
  const heart = direction === undefined ? undefined : beat(context, id, direction, halt, onProgress);
  try {
    if (direction === undefined) return;
    await advanceAll(context, id, direction, stop);
    await transaction(context.database, (tx) => settleRotation(context, tx, id, direction));
  } catch (error) {
    // Halted by a pause or a rollback, or asked to stop: no failure. Whoever called looks at the rotation again.
    if (!stop.aborted) throw error;
  } finally {
    halt.abort();
    await heart;
    // Where this fails the database is gone, and the lease runs out by itself.
    await releaseRotation(context.database, id, context.runner).catch(() => undefined);
  }
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

/** Keeps the lease, tells the progress, and halts the work when the rotation no longer wants it. Never rejects. */
async function beat(
  context: RotationContext,
  id: string,
  direction: Direction,
  halt: AbortController,
  onProgress: RunOptions['onProgress'],
): Promise<void> {
  const wanted: RotationState = direction === 'back' ? 'rolling_back' : 'running';
  while (!halt.signal.aborted) {
    try {
      const state = await holdRotation(context.database, { id, runner: context.runner, forMs: LEASE_MS });
      if (state !== wanted) halt.abort();
      const rotation = onProgress && (await selectRotationById(context.database, id));
      if (rotation !== undefined) onProgress?.(rotation);
    } catch {
      // The work itself fails on the same database and tells it better.
    }
    await pause(BEAT_MS, halt.signal);
  }
}

/** Works through the projects of a rotation, a few at a time; one that has to wait stands aside for the others. */
async function advanceAll(
  context: RotationContext,
  id: string,
  direction: Direction,
  signal: AbortSignal,
): Promise<void> {
  const unfinished = await selectUnfinished(context.database, id);
  const queue = unfinished
    .filter((project) => project.state !== 'blocked' || project.direction !== direction)
    .map((project) => ({ projectId: project.projectId, attempt: 1, notBefore: 0 }));
  const held: string[] = [];
  let failed = false;

  const worker = async (): Promise<void> => {
    try {
      while (!failed) {
        signal.throwIfAborted();
        const ready = queue.findIndex((one) => one.notBefore <= performance.now());
        const [next] = ready === -1 ? [] : queue.splice(ready, 1);
        if (next === undefined) {
          if (queue.length === 0) return;
          await pause(20, signal);
          continue;
        }
        const outcome = await advanceProject(context, id, next.projectId, direction, next.attempt, signal);
        if (outcome === 'rest') continue;
        if (outcome === 'held') {
          held.push(next.projectId);
          continue;
        }
        queue.push({ ...next, attempt: outcome.tried + 1, notBefore: performance.now() + outcome.retryAfterMs });
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  const workers = Math.min(context.rotationConcurrency, Math.max(queue.length, 1));
  const results = await Promise.allSettled(Array.from({ length: workers }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
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
