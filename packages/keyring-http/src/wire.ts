import type { KeyVersion, QuarantinedRow, Rotation, RotationDetail, RotationProject } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type * as schemas from './schemas.ts';

/**
 * From the library's objects to what goes over the wire, member by member: a member that the library gains is not
 * published until somebody writes it here.
 */

const time = (date: Date): string => date.toISOString();
const timeOrNull = (date: Date | undefined): string | null => (date === undefined ? null : date.toISOString());

export function wireRotation(rotation: Rotation): z.infer<typeof schemas.rotation> {
  return {
    id: rotation.id,
    scope: rotation.scope,
    trigger: rotation.trigger,
    state: rotation.state,
    requestedBy: rotation.requestedBy,
    reason: rotation.reason ?? null,
    requestedAt: time(rotation.requestedAt),
    startedAt: timeOrNull(rotation.startedAt),
    finishedAt: timeOrNull(rotation.finishedAt),
    durationMs: rotation.durationMs ?? null,
    runner: rotation.runner ?? null,
    pace: rotation.pace,
    maxRate: rotation.maxRate ?? null,
    projects: { ...rotation.projects },
    rows: {
      total: rotation.rows.total,
      moved: rotation.rows.moved,
      verified: rotation.rows.verified,
      quarantined: rotation.rows.quarantined,
    },
  };
}

export function wireRotationDetail(rotation: RotationDetail): z.infer<typeof schemas.rotationDetail> {
  return {
    ...wireRotation(rotation),
    projectDetails: rotation.projectDetails.map(wireRotationProject),
    quarantine: rotation.quarantine.map(wireQuarantinedRow),
  };
}

function wireRotationProject(project: RotationProject): z.infer<typeof schemas.rotationProject> {
  return {
    projectId: project.projectId,
    projectName: project.projectName,
    state: project.state,
    direction: project.direction,
    sourceKeyId: project.sourceKeyId ?? null,
    sourceVersion: project.sourceVersion ?? null,
    targetKeyId: project.targetKeyId ?? null,
    targetVersion: project.targetVersion ?? null,
    rowsTotal: project.rowsTotal ?? null,
    rowsMoved: project.rowsMoved,
    rowsVerified: project.rowsVerified,
    rowsQuarantined: project.rowsQuarantined,
    errorCode: project.errorCode ?? null,
    errorDetail: project.errorDetail ?? null,
    stagedAt: timeOrNull(project.stagedAt),
    promotedAt: timeOrNull(project.promotedAt),
    sweptAt: timeOrNull(project.sweptAt),
    verifiedAt: timeOrNull(project.verifiedAt),
    finishedAt: timeOrNull(project.finishedAt),
  };
}

function wireQuarantinedRow(row: QuarantinedRow): z.infer<typeof schemas.quarantinedRow> {
  return {
    projectId: row.projectId,
    label: row.label,
    rowId: row.rowId,
    keyId: row.keyId ?? null,
    reason: row.reason,
    noticedAt: time(row.noticedAt),
  };
}

export function wireKey(key: KeyVersion): z.infer<typeof schemas.key> {
  return {
    id: key.id,
    projectId: key.projectId,
    projectName: key.projectName,
    version: key.version,
    status: key.status,
    active: key.active,
    rows: key.rows,
    fingerprint: key.fingerprint,
    createdAt: time(key.createdAt),
    activatedAt: timeOrNull(key.activatedAt),
    deactivatedAt: timeOrNull(key.deactivatedAt),
    retentionUntil: timeOrNull(key.retentionUntil),
    destroyedAt: timeOrNull(key.destroyedAt),
    nextDueAt: timeOrNull(key.nextDueAt),
  };
}
