import type { PaceChange } from '../api.ts';
import { KeyringError } from '../errors.ts';
import type { Pacing } from './pacer.ts';

const MOST_RATE = 1_000_000;

/** What is asked for, over what is so already. @throws KeyringError `invalid_argument`. */
export function requirePacing({ pace, maxRate }: PaceChange, before: Pacing): Pacing {
  if (pace !== undefined && !['polite', 'full'].includes(pace)) {
    throw new KeyringError('invalid_argument', 'The pace is polite or full.');
  }
  if (typeof maxRate === 'number' && !(Number.isInteger(maxRate) && maxRate >= 1 && maxRate <= MOST_RATE)) {
    throw new KeyringError('invalid_argument', `The rate is a whole number from 1 to ${String(MOST_RATE)}.`);
  }
  return {
    pace: pace ?? before.pace,
    maxRate: maxRate === undefined ? before.maxRate : (maxRate ?? undefined),
  };
}

/** As the trail has it. */
export function pacingDetails({ pace, maxRate }: Pacing): Record<string, unknown> {
  return { pace, maxRate: maxRate ?? null };
}
