import type { RotationProjectState, RotationState } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { RotationContext } from './context.ts';
import { countProjectStates } from './project-store.ts';
import { lockRotation, updateRotationState, type Direction } from './rotation-store.ts';

type Counts = Readonly<Partial<Record<RotationProjectState, number>>>;

const moving = ['requested', 'staged', 'sweeping', 'verifying', 'rolling_back'] as const;
const ended: ReadonlySet<RotationState> = new Set(['completed', 'rolled_back', 'canceled', 'failed']);

/** Gives a rotation the state that its projects add up to, once none of them moves any more. */
export async function settleRotation(
  { audit }: Pick<RotationContext, 'audit'>,
  tx: Queryable,
  id: string,
): Promise<void> {
  const rotation = await lockRotation(tx, id);
  if (rotation === undefined || ended.has(rotation.state)) return;
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
  if (direction === 'back') return 'rolled_back';
  if (counts.failed) return 'failed';
  return counts.completed ? 'completed' : 'canceled';
}
