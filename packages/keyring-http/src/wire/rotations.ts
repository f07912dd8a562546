import type {
  QuarantineEntry,
  QuarantinedRow,
  Receipt,
  Rotation,
  RotationDetail,
  RotationPreview,
  RotationProject,
} from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type * as quarantine from '../schemas/quarantine.ts';
import type * as schemas from '../schemas/rotations.ts';
import { time, timeOrNull } from './common.ts';

type HeadFields =
  | ('id' | 'scope' | 'trigger' | 'state' | 'requestedBy')
  | ('reason' | 'requestedAt' | 'startedAt' | 'finishedAt' | 'durationMs');

/** What is told of a rotation wherever one is listed. */
export function wireRotationHead(
  rotation: Pick<Rotation, HeadFields>,
): Pick<z.infer<typeof schemas.rotation>, HeadFields> {
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
  };
}

export function wireRotation(rotation: Rotation): z.infer<typeof schemas.rotation> {
  return {
    ...wireRotationHead(rotation),
    plannedFor: timeOrNull(rotation.plannedFor),
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

export function wireRotationProject(project: RotationProject): z.infer<typeof schemas.rotationProject> {
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

export function wireQuarantinedRow(row: QuarantinedRow): z.infer<typeof quarantine.quarantinedRow> {
  return {
    projectId: row.projectId,
    label: row.label,
    rowId: row.rowId,
    keyId: row.keyId ?? null,
    reason: row.reason,
    noticedAt: time(row.noticedAt),
  };
}

export function wireQuarantineEntry(entry: QuarantineEntry): z.infer<typeof quarantine.quarantineEntry> {
  return {
    id: entry.id,
    ...wireQuarantinedRow(entry),
    projectName: entry.projectName,
    rotationId: entry.rotationId,
    name: entry.name ?? null,
  };
}

export function wirePlan(preview: RotationPreview): z.infer<typeof schemas.rotationPlan> {
  const { projects, rows, unreadableRows, unreadable, estimate } = preview;
  return {
    projects,
    rows,
    unreadableRows,
    unreadable: unreadable.map(wireQuarantinedRow),
    estimate:
      estimate === undefined
        ? null
        : { seconds: estimate.seconds, rowsPerSecond: estimate.rowsPerSecond, sampled: estimate.sampled },
  };
}

export function wireReceipt(receipt: Receipt): z.infer<typeof schemas.receipt> {
  const { project } = JSON.parse(receipt.payload) as { readonly project: { readonly id: string } };
  return {
    projectId: project.id,
    payload: receipt.payload,
    signature: receipt.signature,
    publicKey: receipt.publicKey,
    keyId: receipt.keyId,
  };
}
