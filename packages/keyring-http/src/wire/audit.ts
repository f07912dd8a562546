import type { AuditCheckpoint, AuditEntry, AuditVerification } from '@meshhook/keyring';
import { time, timeOrNull } from './common.ts';

export function wireAuditEntry(entry: AuditEntry) {
  const { id, at, actor, kind, address, action, outcome, projectId, subject, reason, details } = entry;
  return {
    ...{ id, at: time(at), actor, kind: kind ?? null, address: address ?? null, action, outcome },
    ...{ projectId: projectId ?? null, subject, reason: reason ?? null, details: { ...details } },
  };
}

export function wireCheckpoint({ size, hash, floor, signedAt, note }: AuditCheckpoint) {
  return { size, hash, floor, signedAt: time(signedAt), note };
}

export function wireUnsealed({ entries, oldestAt }: AuditVerification['unsealed']) {
  return { entries, oldestAt: timeOrNull(oldestAt) };
}

export function wireVerification(verification: AuditVerification) {
  const { intact, problem, entries, archived, checkpoints, checkpoint, given, unsealed } = verification;
  return {
    ...{ intact, entries, archived, checkpoints, given: given ?? null },
    problem:
      problem === undefined
        ? null
        : {
            ...{ kind: problem.kind, place: problem.place ?? null, after: problem.after ?? null },
            ...{ entryId: problem.entryId ?? null, message: problem.message },
          },
    checkpoint: checkpoint === undefined ? null : wireCheckpoint(checkpoint),
    unsealed: wireUnsealed(unsealed),
  };
}
