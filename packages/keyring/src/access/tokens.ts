import type { AccessToken, AccessTokens, NewToken } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { isUuid, requireName, requireUuid } from '../validate.ts';
import { personOf } from './person.ts';
import { isToken, newToken, tokenDigest } from './random-token.ts';
import { permissions as allPermissions, roles } from './roles.ts';
import {
  insertToken,
  selectToken,
  selectTokenByDigest,
  selectTokens,
  updateTokenRevoked,
  updateTokenUse,
} from './token-store.ts';

const DAYS = 90;
const MOST_DAYS = 3_650;
const MOST_PROJECTS = 1_000;
const USE_NOTED_MS = 60_000;

/** API tokens: 256 random bits, shown once, of which only a digest is kept. */
export function accessTokens(database: Database, audit: AuditTrail): AccessTokens {
  const known = async (id: string): Promise<AccessToken> => {
    const token = isUuid(id) ? await selectToken(database, id) : undefined;
    if (token === undefined) {
      throw new KeyringError('unknown_token', `There is no token ${id}.`, { remedy: 'Run `mh-keys token list`.' });
    }
    return token;
  };
  return {
    async create(given) {
      const wanted = requireNewToken(given);
      const token = newToken('token');
      const { actor } = audit;
      const entry = await transaction(database, async (tx) => {
        const made = await insertToken(tx, {
          ...wanted,
          digest: tokenDigest(token),
          person: given.person ?? personOf(actor),
          createdBy: actor.name,
        });
        const { name, role, permissions, projects, person, expiresAt } = made;
        await audit.record(tx, {
          action: 'token.created',
          subject: `token:${made.id}`,
          ...(projects !== 'all' && projects.length === 1 ? { projectId: projects[0] } : {}),
          details: { name, role, permissions, projects, person, expiresAt },
        });
        return made;
      });
      return { token, entry };
    },
    async list({ limit = 100, before, among = 'all' } = {}) {
      if (before !== undefined) requireUuid('token id', before);
      return selectTokens(database, { limit: Math.min(Math.max(limit, 1), 1_000), before, among });
    },
    get: async (id) => (isUuid(id) ? selectToken(database, id) : undefined),
    async revoke(id) {
      const { name, projects } = await known(id);
      await transaction(database, async (tx) => {
        if (!(await updateTokenRevoked(tx, id, audit.actor.name))) return;
        await audit.record(tx, {
          action: 'token.revoked',
          subject: `token:${id.toLowerCase()}`,
          ...(projects !== 'all' && projects.length === 1 ? { projectId: projects[0] } : {}),
          details: { name },
        });
      });
      return known(id);
    },
    async find(presented) {
      if (!isToken('token', presented)) return undefined;
      const token = await selectTokenByDigest(database, tokenDigest(presented));
      if (token?.state !== 'active') return undefined;
      if (token.lastUsedAt === undefined || Date.now() - token.lastUsedAt.getTime() > USE_NOTED_MS) {
        await updateTokenUse(database, token.id);
      }
      return token;
    },
  };
}

function requireNewToken({ name, role, permissions, projects = 'all', expiresInDays: days = DAYS }: NewToken) {
  requireName('token name', name);
  const refuse = (message: string): never => {
    throw new KeyringError('invalid_argument', message, {
      remedy: 'Name a role or permissions, not both; docs/access.md lists what each role may.',
    });
  };
  if ((role === undefined) === (permissions === undefined)) return refuse('A token has either a role or permissions.');
  if (role !== undefined && (!roles.includes(role) || (role as string) === 'project_owner')) {
    return refuse(`There is no role "${role}" that a token could have.`);
  }
  for (const permission of permissions ?? []) {
    if (!allPermissions.includes(permission)) return refuse(`There is no permission "${permission}".`);
  }
  if (permissions?.length === 0) return refuse('A token without a permission is of no use.');
  if (role === 'instance_admin' && projects !== 'all') return refuse('An instance admin is that in all projects.');
  if (!Number.isInteger(days) || days < 1 || days > MOST_DAYS) {
    return refuse(`A token lives for 1 to ${String(MOST_DAYS)} days.`);
  }
  if (projects === 'all') return { name, role, permissions: unique(permissions), projects, days };
  if (projects.length < 1 || projects.length > MOST_PROJECTS) {
    return refuse(`A token is for 1 to ${String(MOST_PROJECTS)} projects, or for all.`);
  }
  const ids = [...new Set(projects.map((id) => requireUuid('project id', id)))];
  return { name, role, permissions: unique(permissions), projects: ids, days };
}

function unique<T>(some: readonly T[] | undefined): T[] | undefined {
  return some && [...new Set(some)];
}
