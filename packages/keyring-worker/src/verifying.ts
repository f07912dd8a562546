import type { Audit, AuditLook, AuditScope } from '@meshhook/keyring';
import { KeyringError } from '@meshhook/keyring';
import { count, type Log } from './log.ts';
import type { ResolvedOptions } from './options.ts';

// A verification of all of it that is due, or that somebody left behind, waits no longer than this.
const MOST_BETWEEN_LOOKS_MS = 60_000;

type Settings = Pick<ResolvedOptions, 'verifyEveryMs' | 'verifyWholeEveryMs' | 'verifyShare' | 'readCheckpoint'>;

/** What a worker does, and how often, so that the trail is verified though nobody asks. */
export function verifying(
  audit: Pick<Audit, 'verifyDue'>,
  { verifyEveryMs, verifyWholeEveryMs, verifyShare: share, readCheckpoint: checkpoint }: Settings,
  log: Log,
  signal: AbortSignal,
): { everyMs: number; round: () => Promise<void> }[] {
  const round = (scope: AuditScope, everyMs: number) => async (): Promise<void> => {
    try {
      tell(log, scope, await audit.verifyDue(scope, { everyMs, share, checkpoint, signal }));
    } catch (error) {
      if (!(error instanceof KeyringError) || error.code !== 'interrupted') throw error;
    }
  };
  return [
    // One that looks a little early is not refused because another looked in time.
    { everyMs: verifyEveryMs, round: round('recent', verifyEveryMs / 2) },
    { everyMs: Math.min(verifyWholeEveryMs, MOST_BETWEEN_LOOKS_MS), round: round('whole', verifyWholeEveryMs) },
  ];
}

function tell(log: Log, scope: AuditScope, look: AuditLook | undefined): void {
  if (look?.problem !== undefined) {
    log.error(`The trail is not as it was written: ${look.problem.message}`, { event: 'audit_broken' });
  } else if (look !== undefined && scope === 'whole') {
    log.info(`The trail is as it was written: ${count(look.through - look.after, 'entry', 'entries')} verified.`, {
      event: 'audit_verified',
    });
  }
}
