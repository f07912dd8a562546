import type { RotationProjectState, RotationState } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { RotationContext } from './context.ts';
import { countProjectStates } from './project-store.ts';
import { lockRotation, updateRotationState, type Direction } from './rotation-store.ts';

type Counts = Readonly<Partial<Record<RotationProjectState, number>>>;

const moving = ['requested', 'staged', 'sweeping', 'verifying', 'rolling_back'] as const;
const ended: ReadonlySet<RotationState> = new Set(['completed', 'rolled_back', 'canceled', 'failed']);

/**
 * Gives a rotation the state that its projects add up to, once none of them moves any more. `driven` is the way its runner
 * was going: when it has been turned around since, what is at rest has yet to be tried the other way.
 */
export async function settleRotation(
  { audit }: Pick<RotationContext, 'audit'>,
  tx: Queryable,
  id: string,
  driven?: Direction,
): Promise<void> {
  const rotation = await lockRotation(tx, id);
  if (rotation === undefined || ended.has(rotation.state)) return;
  if (driven !== undefined && rotation.direction !== driven) return;
  const counts = await countProjectStates(tx, id);
  if (moving.some((state) => counts[state])) return;
  const state = outcome(counts, rotation.direction);
  if (state === rotation.state || (state === 'blocked' && rotation.state === 'paused')) return;
  await updateRotationState(tx, id, { state });
  await audit.record(tx, {
    action: `rotation.${state}`,
    outcome: state === 'blocked' || state === 'failed' ? 'failed' : 'succeeded',
    subject: `rotation:${id}`,
    details: { projects: counts },
  });
}

function outcome(counts: Counts, direction: Direction): RotationState {
  if (counts.blocked) return 'blocked';
  // Everything was finalized before the rollback came to it: then nothing was rolled back.
  if (direction === 'back' && (counts.rolled_back || counts.canceled || counts.failed)) return 'rolled_back';
  if (counts.failed) return 'failed';
  return counts.completed ? 'completed' : 'canceled';
}
