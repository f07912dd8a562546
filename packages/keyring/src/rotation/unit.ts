import type { ProjectsUnit, RowsUnit, WorkResult, WorkUnit } from '../api.ts';
import type { RotationContext } from './context.ts';
import { advanceProject, advanceRows } from './engine.ts';
import { advanceTogether } from './fleet/advance.ts';
import type { Direction } from './rotation-store.ts';

/** Does a unit as far as it goes now; waits for nobody. */
export async function advanceUnit(
  context: RotationContext,
  unit: WorkUnit,
  direction: Direction,
  signal: AbortSignal,
): Promise<WorkResult> {
  if (unit.kind === 'projects') return advanceProjects(context, unit, direction, signal);
  await advanceRows(context, unit, direction, signal);
  return { waiting: [], held: [], parts: [] };
}

/**
 * Takes projects of a rotation as far as they go now; waits for nobody. Many go together, in parts of `rotationSetSize`; those that
 * cannot are given back, each to be taken alone.
 */
async function advanceProjects(
  context: RotationContext,
  { rotationId, projectIds, attempt, partRows }: ProjectsUnit,
  direction: Direction,
  signal: AbortSignal,
): Promise<WorkResult> {
  const waiting: { projectId: string; attempt: number; afterMs: number }[] = [];
  if (projectIds.length > 1 && context.rotationSetSize > 1) {
    for (let from = 0; from < projectIds.length;) {
      const part = projectIds.slice(from, from + setSize(context));
      from += part.length;
      for (const projectId of await advanceTogether(context, rotationId, part, direction, signal)) {
        waiting.push({ projectId, attempt, afterMs: 0 });
      }
    }
    return { waiting, held: [], parts: [] };
  }
  const held: string[] = [];
  const parts: RowsUnit[] = [];
  for (const projectId of projectIds) {
    const outcome = await advanceProject(context, rotationId, projectId, direction, { attempt, partRows }, signal);
    if (outcome === 'held') held.push(projectId);
    else if (typeof outcome === 'object' && 'parts' in outcome) parts.push(...outcome.parts);
    else if (outcome !== 'rest') {
      waiting.push({ projectId, attempt: outcome.tried + 1, afterMs: outcome.retryAfterMs });
    }
  }
  return { waiting, held, parts };
}

// What a step costs PostgreSQL for a project, in rows of a sweep.
const ROWS_PER_STEP = 4;

function setSize({ pacer, rotationSetSize }: RotationContext): number {
  if (pacer === undefined) return rotationSetSize;
  return Math.max(2, Math.floor(pacer.batchSize(rotationSetSize * ROWS_PER_STEP) / ROWS_PER_STEP));
}
