import type { RotationProjectState, RotationState } from '../api.ts';

/** The states of a rotation, those of its way first. */
export const rotationStates = [
  'requested',
  'running',
  'paused',
  'blocked',
  'rolling_back',
  'completed',
  'rolled_back',
  'canceled',
  'failed',
] as const satisfies readonly RotationState[];

/** The states of a project in a rotation, likewise. */
export const rotationProjectStates = [
  'requested',
  'staged',
  'sweeping',
  'verifying',
  'completed',
  'blocked',
  'rolling_back',
  'rolled_back',
  'canceled',
  'failed',
] as const satisfies readonly RotationProjectState[];
