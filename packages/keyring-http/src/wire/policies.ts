import type { z } from '@hono/zod-openapi';
import type { OverdueVersion, PolicyDates, QuietHours, RotationPolicy } from '@meshhook/keyring';
import type * as schemas from '../schemas/policies.ts';
import { time, timeOrNull } from './common.ts';

export function wirePolicy(policy: RotationPolicy): z.infer<typeof schemas.policy> {
  return {
    projectId: policy.projectId ?? null,
    projectName: policy.projectName ?? null,
    revision: policy.revision,
    enabled: policy.enabled,
    reason: policy.reason ?? null,
    rotateAfterMs: policy.rotateAfterMs,
    maxEncryptions: policy.maxEncryptions,
    jitterMs: policy.jitterMs,
    quietHours: policy.quietHours === undefined ? null : wireQuietHours(policy.quietHours),
    retentionMs: policy.retentionMs,
    destroyAfterRetention: policy.destroyAfterRetention,
    changedAt: time(policy.changedAt),
    changedBy: policy.changedBy ?? null,
    inWords: policy.inWords,
  };
}

function wireQuietHours(quiet: QuietHours): z.infer<typeof schemas.quietHours> {
  if ('cron' in quiet) return { zone: quiet.zone, cron: quiet.cron, openForMinutes: quiet.openForMinutes };
  return { zone: quiet.zone, windows: quiet.windows.map(({ days, from, to }) => ({ days: [...days], from, to })) };
}

export function wirePolicyDates({ policy, dates, of, promisedAt }: PolicyDates): z.infer<typeof schemas.policyDates> {
  return { policy: wirePolicy(policy), dates: dates.map(time), of, promisedAt: time(promisedAt) };
}

export function wireOverdue(version: OverdueVersion): z.infer<typeof schemas.overdueList>['projects'][number] {
  return {
    projectId: version.projectId,
    projectName: version.projectName,
    keyId: version.keyId,
    promisedAt: timeOrNull(version.promisedAt),
    cause: version.cause,
    rotationId: version.rotationId ?? null,
    retryAt: timeOrNull(version.retryAt),
    errorCode: version.errorCode ?? null,
  };
}
