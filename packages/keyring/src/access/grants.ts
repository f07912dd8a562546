import type { Grants } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { isUuid, requireReason, requireUuid } from '../validate.ts';
import { selectRule } from './approval-store.ts';
import { orAskApproval, withApproval } from './approvals.ts';
import { deleteGrant, insertGrant, selectGrant, selectGrants, selectSameGrant } from './grant-store.ts';
import { requirePerson } from './person.ts';
import { roles } from './roles.ts';

/** Which person has which role where. Another admin, and one admin less than two, takes two people. */
export function grants(database: Database, audit: AuditTrail): Grants {
  return {
    async add({ person, role, projectId, reason }) {
      requirePerson(person);
      requireReason(reason);
      if (!roles.includes(role) || (role as string) === 'project_owner') {
        throw new KeyringError('invalid_argument', `There is no role "${role}" to grant.`, {
          remedy:
            'Who owns a project is in projects.owner; the others are instance_admin, project_admin, auditor and service.',
        });
      }
      if (role === 'instance_admin' && projectId !== undefined) {
        throw new KeyringError('invalid_argument', 'An instance admin is that in all projects.');
      }
      const grant = {
        ...{ person, role },
        ...(projectId === undefined ? {} : { projectId: requireUuid('project id', projectId) }),
        ...(reason === undefined ? {} : { reason }),
      };
      const same = await selectSameGrant(database, grant);
      if (same !== undefined) return same;
      const insert = async (consume: ((tx: Parameters<typeof insertGrant>[0]) => Promise<void>) | undefined) =>
        transaction(database, async (tx) => {
          await consume?.(tx);
          const made = await insertGrant(tx, grant, audit.actor.name);
          if (made === undefined) return undefined;
          await audit.record(tx, {
            action: 'access.granted',
            projectId: made.projectId,
            subject: `grant:${made.id}`,
            reason,
            details: { person, role },
          });
          return made;
        });
      try {
        const { inForce } = await selectRule(database);
        const act = { action: 'admin.grant', subject: person, reason } as const;
        const made =
          role === 'instance_admin' && inForce
            ? await withApproval(database, audit, act, insert)
            : await orAskApproval(database, audit, act, () => insert(undefined));
        const now = made ?? (await selectSameGrant(database, grant));
        if (now === undefined) throw new KeyringError('contended', 'The grant was taken away at this very moment.');
        return now;
      } catch (error) {
        if (sqlState(error) !== sqlStates.foreignKeyViolation) throw error;
        throw new KeyringError('unknown_project', `There is no project "${String(projectId)}".`);
      }
    },
    async list({ limit = 1_000, among = 'all', after } = {}) {
      if (after?.projectId !== undefined) requireUuid('project id', after.projectId);
      return selectGrants(database, { limit: Math.min(Math.max(limit, 1), 10_000), among, after });
    },
    get: async (id) => (isUuid(id) ? selectGrant(database, id) : undefined),
    async remove(id, { reason } = {}) {
      requireReason(reason);
      const grant = isUuid(id) ? await selectGrant(database, id) : undefined;
      if (grant === undefined) {
        throw new KeyringError('unknown_grant', `There is no grant ${id}.`, { remedy: 'Run `mh-keys grant list`.' });
      }
      const { person, role, projectId } = grant;
      const remove = (consume: ((tx: Parameters<typeof deleteGrant>[0]) => Promise<void>) | undefined) =>
        transaction(database, async (tx) => {
          await consume?.(tx);
          if (!(await deleteGrant(tx, grant.id))) return;
          await audit.record(tx, {
            action: 'access.taken_away',
            projectId,
            subject: `grant:${grant.id}`,
            reason,
            details: { person, role },
          });
        });
      const { inForce, admins } = await selectRule(database);
      const act = { action: 'admin.remove', subject: person, reason } as const;
      await (role === 'instance_admin' && inForce && admins <= 2
        ? withApproval(database, audit, act, remove)
        : orAskApproval(database, audit, act, () => remove(undefined)));
      return grant;
    },
  };
}
