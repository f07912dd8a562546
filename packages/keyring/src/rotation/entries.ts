import type { NewAuditEntry } from '../audit/audit.ts';

/** What the trail says of a project's way through a rotation, whether it went alone or with others. */

interface Versions {
  readonly projectId: string;
  readonly sourceKeyId: string;
  readonly targetKeyId: string;
}

export function promotedEntry(rotationId: string, { projectId, sourceKeyId, targetKeyId }: Versions): NewAuditEntry {
  return {
    action: 'key.promoted',
    projectId,
    subject: `key:${targetKeyId}`,
    details: { rotation: rotationId, from: sourceKeyId },
  };
}

export function rolledBackEntry(rotationId: string, { projectId, sourceKeyId, targetKeyId }: Versions): NewAuditEntry {
  return {
    action: 'key.rolled_back',
    projectId,
    subject: `key:${targetKeyId}`,
    details: { rotation: rotationId, to: sourceKeyId },
  };
}

export function sweptEntry(rotationId: string, projectId: string): NewAuditEntry {
  return { action: 'rotation.project_swept', projectId, subject: `rotation:${rotationId}` };
}

export function canceledEntry(rotationId: string, projectId: string): NewAuditEntry {
  return { action: 'rotation.project_canceled', projectId, subject: `rotation:${rotationId}` };
}
