import type { RowsUnit, WorkResult, WorkUnit } from '../api.ts';
import { KeyringError } from '../errors.ts';
import { requireUuid } from '../validate.ts';
import type { RotationContext } from './context.ts';
import type { Pacer } from './pacer.ts';
import { advanceUnit } from './unit.ts';
import { selectCourse, type Course, type Direction } from './rotation-store.ts';
import { pause } from '../db/wait.ts';

// How soon a unit notices that its rotation was paused, turned round or told another pace.
const WATCH_MS = 400;

/**
 * Does one unit. What it finds done it leaves; when the rotation does not want it any more, it stops between two statements
 * and gives what it has.
 */
export async function work(context: RotationContext, unit: WorkUnit, signal: AbortSignal): Promise<WorkResult> {
  const halt = new AbortController();
  const course = await selectCourse(context.database, unit.rotationId);
  if (course === undefined) {
    throw new KeyringError('unknown_rotation', `There is no rotation ${unit.rotationId}.`);
  }
  const direction = courseDirection(course);
  if (direction === undefined) return nothing;
  const { pacer, release } = context.pacers.hold(unit.rotationId, course.pacing);
  const watching = watch(context, unit.rotationId, direction, pacer, halt);
  try {
    return await advanceUnit({ ...context, pacer }, unit, direction, AbortSignal.any([signal, halt.signal]));
  } catch (error) {
    if (halt.signal.aborted && !signal.aborted) return nothing;
    throw error;
  } finally {
    halt.abort();
    await watching;
    release();
  }
}

/** A unit that came by way of a queue, as one whose ids are ids and whose numbers are. @throws KeyringError `invalid_argument`. */
export function requireUnit(unit: WorkUnit): WorkUnit {
  requireUuid('rotation id', unit.rotationId);
  for (const id of unit.projectIds) requireUuid('project id', id);
  if (unit.kind === 'rows') {
    const { projectIds, fromBlock, toBlock, rows }: Omit<RowsUnit, 'projectIds'> & { projectIds: readonly string[] } =
      unit;
    const whole = [fromBlock, toBlock, rows].every((number) => Number.isSafeInteger(number) && number >= 0);
    if (!whole || fromBlock >= toBlock || projectIds.length !== 1) throw notAUnit();
  } else if (unit.partRows !== undefined && !(unit.partRows >= 1)) throw notAUnit();
  return unit;
}

function notAUnit(): KeyringError {
  return new KeyringError('invalid_argument', 'This is not a unit of a rotation.');
}

const nothing: WorkResult = { waiting: [], held: [], parts: [] };

function courseDirection({ state, direction }: Course): Direction | undefined {
  if (state === 'running' && direction === 'forward') return 'forward';
  return state === 'rolling_back' ? 'back' : undefined;
}

async function watch(
  context: RotationContext,
  rotationId: string,
  direction: Direction,
  pacer: Pacer,
  halt: AbortController,
): Promise<void> {
  for (;;) {
    await pause(WATCH_MS, halt.signal);
    if (halt.signal.aborted) return;
    try {
      const course = await selectCourse(context.database, rotationId);
      if (course === undefined || courseDirection(course) !== direction) halt.abort();
      else pacer.change(course.pacing);
    } catch {
      // The work itself fails on the same database and tells it better.
    }
  }
}
