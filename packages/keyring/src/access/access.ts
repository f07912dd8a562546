import type { Access, DoctorFinding, Holding } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { selectRule, updateRule } from './approval-store.ts';
import { approvals, orAskApproval, withApproval } from './approvals.ts';
import { selectGrantsOf } from './grant-store.ts';
import { grants } from './grants.ts';
import { selectOwnProjects } from './own-projects.ts';
import { OPERATOR, userId } from './person.ts';
import { permissionsOf, type Role } from './roles.ts';
import { sessions } from './sessions.ts';
import { accessTokens } from './tokens.ts';

const holding = (role: Role, projects: Holding['projects']): Holding => ({
  role,
  permissions: permissionsOf[role],
  projects,
});

/** Who may do what. */
export function access(database: Database, audit: AuditTrail): Access {
  return {
    tokens: accessTokens(database, audit),
    grants: grants(database, audit),
    approvals: approvals(database, audit),
    sessions: sessions(database, audit),
    async holdings(person) {
      const held = (await selectGrantsOf(database, person)).map(({ role, projectId }) =>
        holding(role, projectId === undefined ? 'all' : [projectId]),
      );
      if (person === OPERATOR) held.push(holding('instance_admin', 'all'));
      const user = userId(person);
      if (user === undefined) return held;
      const own = await selectOwnProjects(database, user);
      return own.length === 0 ? held : [...held, holding('project_owner', own)];
    },
    rule: () => selectRule(database),
    async setRule(twoPeople, { reason }) {
      const change = (consume?: (tx: Queryable) => Promise<void>): Promise<void> =>
        transaction(database, async (tx) => {
          await consume?.(tx);
          if (!(await updateRule(tx, twoPeople))) return;
          await audit.record(tx, {
            action: twoPeople ? 'rule.switched_on' : 'rule.switched_off',
            subject: 'rule:two_people',
            reason,
          });
        });
      const { inForce } = await selectRule(database);
      const act = { action: 'rule.switch_off', subject: 'rule:two_people', reason } as const;
      await (inForce && !twoPeople
        ? withApproval(database, audit, act, change)
        : orAskApproval(database, audit, act, () => change()));
      return selectRule(database);
    },
    noteRefused: ({ tries, sources }) =>
      audit.record(database, {
        action: 'access.refused',
        outcome: 'refused',
        subject: 'access:tries',
        details: { tries, sources: sources.slice(0, 20) },
      }),
    warnings: () => accessWarnings(database),
  };
}

/** What is wrong with who may do what, until it is mended. */
export async function accessWarnings(database: Queryable): Promise<DoctorFinding[]> {
  const { wanted, admins } = await selectRule(database);
  if (!wanted) {
    return [
      {
        severity: 'warning',
        code: 'two_people_off',
        message: 'The rule of two people is switched off: one admin alone can destroy what cannot be had back.',
        remedy: 'Switch it on with `mh-keys approval rule on --reason …`.',
      },
    ];
  }
  if (admins >= 2) return [];
  return [
    {
      severity: 'warning',
      code: 'single_admin',
      message: `There ${admins === 1 ? 'is one instance admin' : 'is no instance admin'} by a grant: nobody could approve what cannot be undone, so it takes no approval.`,
      remedy:
        admins === 1
          ? 'Make a second one with `mh-keys grant add person:NAME instance_admin`.'
          : 'Make two people instance admins: `mh-keys grant add person:NAME instance_admin`, for each.',
    },
  ];
}
