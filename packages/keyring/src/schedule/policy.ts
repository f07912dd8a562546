import type { PolicyChange, RotationPolicy } from '../api-schedule.ts';
import { KeyringError } from '../errors.ts';
import { requireGivenReason } from '../validate.ts';
import { DAY_MS, durationInWords } from './arithmetic/duration.ts';
import { requireQuietHours } from './arithmetic/quiet-hours.ts';

export const LEAST_ROTATE_AFTER_MS = DAY_MS;
const MOST_ROTATE_AFTER_MS = 3650 * DAY_MS;
const MOST_RETENTION_MS = 3650 * DAY_MS;
const MOST_ENCRYPTIONS = 2 ** 32;

/** What a policy says, without whose it is and who changed it. */
export type PolicyTerms = Pick<
  RotationPolicy,
  'enabled' | 'reason' | 'rotateAfterMs' | 'maxEncryptions' | 'quietHours' | 'retentionMs' | 'destroyAfterRetention'
> & {
  /** Undefined: a tenth of the age, 7 days at most. */
  readonly ownJitterMs: number | undefined;
};

/** How much earlier than its age a version may be due, as `keyring.scheduled_projects` has it. */
export function jitterOf({ rotateAfterMs, ownJitterMs }: Pick<PolicyTerms, 'rotateAfterMs' | 'ownJitterMs'>): number {
  return Math.min(ownJitterMs ?? Math.min(rotateAfterMs / 10, 7 * DAY_MS), rotateAfterMs - DAY_MS);
}

/** The policy after a change. @throws KeyringError `invalid_argument` for what no policy may say. */
export function changed(before: PolicyTerms, change: PolicyChange): PolicyTerms {
  const { quietHours, jitterMs, reason } = change;
  if (reason !== undefined) requireGivenReason(reason);
  const after: PolicyTerms = {
    enabled: change.enabled ?? before.enabled,
    // A reason goes with what was changed, not with what will be.
    reason,
    rotateAfterMs: change.rotateAfterMs ?? before.rotateAfterMs,
    maxEncryptions: change.maxEncryptions ?? before.maxEncryptions,
    ownJitterMs: jitterMs === undefined ? before.ownJitterMs : (jitterMs ?? undefined),
    quietHours:
      quietHours === undefined ? before.quietHours : quietHours === null ? undefined : requireQuietHours(quietHours),
    retentionMs: change.retentionMs ?? before.retentionMs,
    destroyAfterRetention: change.destroyAfterRetention ?? before.destroyAfterRetention,
  };
  span('A version is rotated after', after.rotateAfterMs, LEAST_ROTATE_AFTER_MS, MOST_ROTATE_AFTER_MS);
  span('An old version is kept for', after.retentionMs, 0, MOST_RETENTION_MS);
  if (after.ownJitterMs !== undefined) {
    span('Rotations are spread over', after.ownJitterMs, 0, after.rotateAfterMs - LEAST_ROTATE_AFTER_MS);
  }
  if (!Number.isInteger(after.maxEncryptions) || after.maxEncryptions < 1 || after.maxEncryptions > MOST_ENCRYPTIONS) {
    throw new KeyringError('invalid_argument', 'A version may encrypt 1 to 4,294,967,296 times.');
  }
  if (!after.enabled && reason === undefined) {
    throw new KeyringError('invalid_argument', 'Switching a schedule off wants a reason.', {
      remedy: 'Say why: whoever finds keys that are too old will ask.',
    });
  }
  return after;
}

function span(what: string, ms: number, least: number, most: number): void {
  // Whole seconds: what two people approve is told in them.
  if (Number.isInteger(ms / 1000) && ms >= least && ms <= most) return;
  throw new KeyringError('invalid_argument', `${what} ${durationInWords(least)} to ${durationInWords(most)}.`, {
    remedy: 'Write it as `90d`, `12 weeks` or `36 hours`.',
  });
}
