import { z } from '@hono/zod-openapi';
import { permissions, roles } from '@meshhook/keyring';
import { count, next, page, projectReference, reason, storedName, text, time, uuid } from './common.ts';

const role = z.enum(roles);
const grantable = z.enum(['instance_admin', 'project_admin', 'auditor', 'service']);
const permission = z.enum(permissions);
const projectIds = z
  .union([z.literal('all'), z.array(uuid)])
  .openapi({ description: 'Ids of projects, or `all` there are.' });

export const person = z
  .string()
  .regex(/^(operator|user:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|person:[a-z0-9._@-]{1,100})$/)
  .openapi({ description: '`user:ID` of Supabase Auth, `person:NAME`, or `operator`.' });

export const newSession = z
  .strictObject({ link: z.string().min(1).max(200).openapi({ description: 'The secret of a sign-in link.' }) })
  .openapi('NewSession');

export const session = z.object({ person: z.string(), expiresAt: time }).openapi('Session');

export const whoAmI = z
  .object({
    id: z.string(),
    kind: z.enum(['user', 'token', 'session']),
    name: z.string(),
    person: z.string(),
    roles: z.array(role),
    permissions: z
      .partialRecord(permission, projectIds)
      .openapi({ description: 'What you may do, and in which projects.' }),
    warnings: z
      .array(z.object({ code: z.string(), message: z.string(), remedy: z.string() }))
      .openapi({ description: 'For who manages access to the instance: what to mend.' }),
  })
  .openapi('WhoAmI');

export const accessToken = z
  .object({
    id: uuid,
    name: z.string(),
    role: grantable.nullable(),
    permissions: z.array(permission).nullable(),
    projects: projectIds,
    person: z.string(),
    createdBy: z.string(),
    createdAt: time,
    expiresAt: time,
    lastUsedAt: time.nullable().openapi({ description: 'To the minute.' }),
    revokedAt: time.nullable(),
    state: z.enum(['active', 'expired', 'revoked']),
  })
  .openapi('AccessToken');

export const newToken = z
  .strictObject({
    name: text(1, 200),
    role: grantable.optional(),
    permissions: z.array(permission).min(1).max(20).optional(),
    projects: z
      .array(projectReference)
      .min(1)
      .max(1000)
      .optional()
      .openapi({ description: 'Ids or names. Default: all.' }),
    expiresInDays: z.int().min(1).max(3650).optional().openapi({ description: 'Default 90.' }),
  })
  .refine((body) => (body.role === undefined) !== (body.permissions === undefined), {
    error: 'give either role or permissions',
  })
  .openapi('NewToken');

export const madeToken = z
  .object({
    token: z.string().openapi({ description: 'Shown this once.' }),
    entry: accessToken,
  })
  .openapi('MadeToken');

export const tokensQuery = z.strictObject(page(500, 100));
export const tokenList = z.object({ tokens: z.array(accessToken), next }).openapi('AccessTokenList');

export const grant = z
  .object({
    id: uuid,
    person: z.string(),
    role: grantable,
    projectId: uuid.nullable().openapi({ description: 'Null: in the whole instance.' }),
    reason: z.string().nullable(),
    grantedBy: z.string(),
    grantedAt: time,
  })
  .openapi('Grant');

export const newGrant = z
  .strictObject({ person, role: grantable, project: projectReference.optional(), reason: reason.optional() })
  .openapi('NewGrant');

export const grantList = z.object({ grants: z.array(grant), next }).openapi('GrantList');
export const grantsQuery = z.strictObject(page(1000, 100));
export const grantPosition = z.strictObject({ person: storedName, role: grantable, projectId: uuid.nullable() });

const action = z.enum([
  'key.destroy_early',
  'retention.shorten',
  'quarantine.discard',
  'admin.grant',
  'admin.remove',
  'rule.switch_off',
]);

export const approval = z
  .object({
    id: uuid,
    action,
    subject: z.string(),
    projectId: uuid.nullable(),
    reason: z.string().nullable(),
    state: z.enum(['pending', 'approved', 'rejected', 'expired', 'consumed', 'waived']),
    requestedBy: z.string(),
    requester: z.string().openapi({ description: 'The person who asked, and who alone may then act.' }),
    requestedAt: time,
    expiresAt: time,
    decidedBy: z.string().nullable(),
    decidedAt: time.nullable(),
    consumedAt: time.nullable(),
  })
  .openapi('Approval');

export const approvalList = z.object({ approvals: z.array(approval), next }).openapi('ApprovalList');
export const approvalsQuery = z.strictObject({
  ...page(500, 100),
  open: z.enum(['true', 'false']).default('false'),
});

/** The answer to what takes another admin: not done, but asked for. */
export const approvalNeeded = z
  .object({
    approval: z.object({ id: uuid, action, subject: z.string(), state: z.string(), expiresAt: time }),
  })
  .openapi('ApprovalNeeded');

export const rule = z
  .object({
    wanted: z.boolean(),
    admins: count,
    inForce: z.boolean().openapi({ description: 'Wanted, and there are two admins.' }),
  })
  .openapi('TwoPersonRule');

export const ruleChange = z.strictObject({ wanted: z.boolean(), reason: text(1, 1000) }).openapi('TwoPersonRuleChange');
