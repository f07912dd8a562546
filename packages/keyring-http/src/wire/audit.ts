import type {
  AuditCheckpoint,
  AuditEntry,
  AuditLook,
  AuditProblem,
  AuditVerification,
  AuditVerified,
} from '@meshhook/keyring';
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
    problem: problem === undefined ? null : wireProblem(problem),
    checkpoint: checkpoint === undefined ? null : wireCheckpoint(checkpoint),
    unsealed: wireUnsealed(unsealed),
  };
}

export function wireVerified({ whole, recent, underWay }: AuditVerified) {
  return {
    whole: whole === undefined ? null : wireLook(whole),
    recent: recent === undefined ? null : wireLook(recent),
    underWay: underWay === undefined ? null : { begunAt: time(underWay.begunAt), through: underWay.through },
  };
}

function wireLook({ at, by, after, through, given, problem }: AuditLook) {
  const found = problem === undefined ? null : wireProblem(problem);
  return { at: time(at), by, after, through, given: given ?? null, problem: found };
}

function wireProblem({ kind, place, after, entryId, message }: AuditProblem) {
  return { kind, place: place ?? null, after: after ?? null, entryId: entryId ?? null, message };
}
