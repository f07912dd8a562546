import type { WorkResult, WorkUnit } from '../api.ts';
import type { RotationContext } from './context.ts';
import { advanceProject } from './engine.ts';
import type { Direction } from './rotation-store.ts';

/** Takes projects of a rotation as far as they go now, one after the other; waits for nobody. */
export async function advanceProjects(
  context: RotationContext,
  unit: WorkUnit,
  direction: Direction,
  signal: AbortSignal,
): Promise<WorkResult> {
  const waiting: { projectId: string; attempt: number; afterMs: number }[] = [];
  const held: string[] = [];
  for (const projectId of unit.projectIds) {
    const outcome = await advanceProject(context, unit.rotationId, projectId, direction, unit.attempt, signal);
    if (outcome === 'held') held.push(projectId);
    else if (outcome !== 'rest') {
      waiting.push({ projectId, attempt: outcome.tried + 1, afterMs: outcome.retryAfterMs });
    }
  }
  return { waiting, held };
}
