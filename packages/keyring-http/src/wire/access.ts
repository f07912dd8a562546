import type { AccessToken, Approval, Grant } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type * as schemas from '../schemas/access.ts';
import { time, timeOrNull } from './common.ts';

export function wireToken(token: AccessToken): z.infer<typeof schemas.accessToken> {
  return {
    id: token.id,
    name: token.name,
    role: token.role ?? null,
    permissions: token.permissions === undefined ? null : [...token.permissions],
    projects: token.projects === 'all' ? 'all' : [...token.projects],
    person: token.person,
    createdBy: token.createdBy,
    createdAt: time(token.createdAt),
    expiresAt: time(token.expiresAt),
    lastUsedAt: timeOrNull(token.lastUsedAt),
    revokedAt: timeOrNull(token.revokedAt),
    state: token.state,
  };
}

export function wireGrant(grant: Grant): z.infer<typeof schemas.grant> {
  return {
    id: grant.id,
    person: grant.person,
    role: grant.role,
    projectId: grant.projectId ?? null,
    reason: grant.reason ?? null,
    grantedBy: grant.grantedBy,
    grantedAt: time(grant.grantedAt),
  };
}

export function wireApproval(approval: Approval): z.infer<typeof schemas.approval> {
  return {
    id: approval.id,
    action: approval.action,
    subject: approval.subject,
    projectId: approval.projectId ?? null,
    reason: approval.reason ?? null,
    state: approval.state,
    requestedBy: approval.requestedBy,
    requester: approval.requester,
    requestedAt: time(approval.requestedAt),
    expiresAt: time(approval.expiresAt),
    decidedBy: approval.decidedBy ?? null,
    decidedAt: timeOrNull(approval.decidedAt),
    consumedAt: timeOrNull(approval.consumedAt),
  };
}
