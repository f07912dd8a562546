import type { ApprovableAct, Approval, Approvals } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { refusals, sqlState } from '../db/failures.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { isUuid, requireReason, requireUuid } from '../validate.ts';
import {
  closeExpired,
  consumeApproved,
  countOpenApprovals,
  decideApproval,
  insertApproval,
  isAdmin,
  selectApproval,
  selectApprovals,
  selectOpenApproval,
  selectRule,
  type Who,
} from './approval-store.ts';
import { personOf } from './person.ts';

/**
 * Two people for what cannot be undone: one asks, another approves, and who asked acts. PostgreSQL holds the rule
 * (migration `approvals`); this says it in words, and writes the trail.
 */
export function approvals(database: Database, audit: AuditTrail): Approvals {
  const decide = async (id: string, state: 'approved' | 'rejected'): Promise<Approval> => {
    const approval = await known(database, id);
    const who = whoOf(audit);
    const entry = { action: `approval.${state}`, ...about(approval) };
    if (state === 'approved') {
      const told = await whyNot(database, approval, who);
      if (told !== undefined) {
        await audit.record(database, { ...entry, outcome: 'refused' });
        throw told;
      }
    }
    const decided = await transaction(database, async (tx) => {
      if (!(await decideApproval(tx, approval.id, state, who))) return false;
      await audit.record(tx, entry);
      return true;
    }).catch(async (error: unknown) => {
      // Who was an admin a moment ago is none any more.
      const told = sqlState(error) === refusals.approvalNeeded ? await whyNot(database, approval, who) : undefined;
      if (told === undefined) throw error;
      await audit.record(database, { ...entry, outcome: 'refused' });
      throw told;
    });
    const now = await known(database, id);
    if (!decided) {
      throw new KeyringError(
        'illegal_state',
        `The approval ${approval.id} is ${now.state}: nothing is left to decide.`,
        {
          remedy: 'Ask anew by doing again what it was for.',
        },
      );
    }
    return now;
  };
  return {
    request: (act) => requestApproval(database, audit, act),
    async list({ limit = 100, open = false, before } = {}) {
      if (before !== undefined) requireUuid('approval id', before);
      return selectApprovals(database, { limit: Math.min(Math.max(limit, 1), 1_000), open, before });
    },
    countOpen: () => countOpenApprovals(database),
    get: async (id) => (isUuid(id) ? selectApproval(database, id) : undefined),
    approve: (id) => decide(id, 'approved'),
    reject: (id) => decide(id, 'rejected'),
  };
}

/** Takes the approval of an act, in the transaction that does it. */
export type Consume = (tx: Queryable) => Promise<void>;

/**
 * Does what takes two people: `act` calls `consume` first thing in its transaction. Where an approval is wanting, one is asked
 * for, and nothing is done.
 * @throws KeyringError `approval_needed` with `details.approval`, an id, and `details.state`.
 */
export async function withApproval<T>(
  database: Database,
  audit: AuditTrail,
  what: ApprovableAct,
  act: (consume: Consume) => Promise<T>,
): Promise<T> {
  return orAskApproval(database, audit, what, () => act((tx) => consume(tx, audit, what)));
}

/**
 * Does what takes no approval as far as was seen before. Where PostgreSQL says that by now it does, one is asked for.
 * @throws KeyringError `approval_needed`, as `withApproval`.
 */
export async function orAskApproval<T>(
  database: Database,
  audit: AuditTrail,
  what: ApprovableAct,
  act: () => Promise<T>,
): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error !== wanting && sqlState(error) !== refusals.approvalNeeded) throw error;
  }
  throw approvalNeeded(await requestApproval(database, audit, what));
}

// Thrown inside a transaction, to roll it back; never told to anybody.
const wanting = new Error('an approval is wanting');

async function consume(tx: Queryable, audit: AuditTrail, what: ApprovableAct): Promise<void> {
  const who = whoOf(audit);
  const { inForce } = await selectRule(tx);
  if (inForce) {
    const id = await consumeApproved(tx, what, who);
    if (id === undefined) throw wanting;
    await audit.record(tx, { action: 'approval.consumed', ...about({ ...what, id }) });
    return;
  }
  const waived = await insertApproval(tx, 'waived', what, who);
  if (waived === undefined) throw new Error('a waiver has no rival');
  await audit.record(tx, { action: 'approval.waived', ...about(waived) });
}

async function requestApproval(database: Database, audit: AuditTrail, act: ApprovableAct): Promise<Approval> {
  requireReason(act.reason);
  if (act.projectId !== undefined) requireUuid('project id', act.projectId);
  const who = whoOf(audit);
  return transaction(database, async (tx) => {
    await closeExpired(tx, act, who);
    const made = await insertApproval(tx, 'pending', act, who);
    if (made !== undefined) {
      await audit.record(tx, { action: 'approval.requested', ...about(made) });
      return made;
    }
    const open = await selectOpenApproval(tx, act, who);
    if (open === undefined)
      throw new KeyringError('contended', 'The request was decided at this very moment. Ask again.');
    return open;
  });
}

/** What PostgreSQL would refuse, in words. */
async function whyNot(database: Queryable, approval: Approval, who: Who): Promise<KeyringError | undefined> {
  if (approval.requester === who.person) {
    return new KeyringError('forbidden', 'Nobody approves what they asked for, not with another token either.', {
      remedy: 'Ask another instance admin.',
    });
  }
  if (!(await isAdmin(database, who.person))) {
    return new KeyringError('forbidden', 'Only an instance admin by a grant approves.', {
      remedy: 'Ask one: `mh-keys grant list` names them.',
    });
  }
  return undefined;
}

async function known(database: Queryable, id: string): Promise<Approval> {
  const approval = isUuid(id) ? await selectApproval(database, id) : undefined;
  if (approval === undefined) {
    throw new KeyringError('unknown_approval', `There is no approval ${id}.`, {
      remedy: 'Run `mh-keys approval list`.',
    });
  }
  return approval;
}

function approvalNeeded({ id, action, subject, state, expiresAt }: Approval): KeyringError {
  return new KeyringError(
    'approval_needed',
    `Another admin has to approve this first (${action}). Nothing was done yet.`,
    {
      remedy: `Have another admin run \`mh-keys approval approve ${id}\`, then do this again.`,
      details: { approval: id, action, subject, state, expiresAt },
    },
  );
}

function whoOf({ actor }: AuditTrail): Who {
  return { name: actor.name, person: personOf(actor) };
}

function about(approval: ApprovableAct & { readonly id: string }) {
  const { id, action, subject, projectId, reason } = approval;
  return { projectId, subject: `approval:${id}`, reason, details: { for: action, of: subject } };
}
