import type { Audit } from '../api.ts';
import { KeyringError } from '../errors.ts';
import type { Tally } from '../tally.ts';

/** The trail, which remembers for monitoring who last found it changed, and whether its last checkpoint is kept elsewhere. */
export function watchedAudit(audit: Omit<Audit, 'keptOutside'>, tally: Tally): Audit {
  const brokenFor = tally.auditBrokenFor;
  return {
    ...audit,
    async seal() {
      try {
        const sealing = await audit.seal();
        // Whoever found nothing to seal, or another at it, has not looked at the chain; and who did, at its end alone.
        if (sealing.sealed > 0) brokenFor.delete('sealing');
        return sealing;
      } catch (error) {
        if (error instanceof KeyringError && error.code === 'audit_broken') brokenFor.add('sealing');
        throw error;
      }
    },
    async holds(note) {
      const isHeld = await audit.holds(note);
      if (!isHeld) brokenFor.add('keeping');
      return isHeld;
    },
    keptOutside(kept) {
      tally.checkpointUnkept = !kept;
      if (kept) brokenFor.delete('keeping');
    },
  };
}
