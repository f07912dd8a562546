import type { WorkResult, WorkUnit } from '../api.ts';
import type { RotationContext } from './context.ts';
import { advanceProject } from './engine.ts';
import { advanceTogether } from './fleet/advance.ts';
import type { Direction } from './rotation-store.ts';

/**
 * Takes projects of a rotation as far as they go now; waits for nobody. Many go together, in parts of `rotationSetSize`; those that
 * cannot are given back, each to be taken alone.
 */
export async function advanceProjects(
  context: RotationContext,
  { rotationId, projectIds, attempt }: WorkUnit,
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
    return { waiting, held: [] };
  }
  const held: string[] = [];
  for (const projectId of projectIds) {
    const outcome = await advanceProject(context, rotationId, projectId, direction, attempt, signal);
    if (outcome === 'held') held.push(projectId);
    else if (outcome !== 'rest') {
      waiting.push({ projectId, attempt: outcome.tried + 1, afterMs: outcome.retryAfterMs });
    }
  }
  return { waiting, held };
}

// What a step costs PostgreSQL for a project, in rows of a sweep.
const ROWS_PER_STEP = 4;

function setSize({ pacer, rotationSetSize }: RotationContext): number {
  if (pacer === undefined) return rotationSetSize;
  return Math.max(2, Math.floor(pacer.batchSize(rotationSetSize * ROWS_PER_STEP) / ROWS_PER_STEP));
}
