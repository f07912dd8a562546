import type { ProjectIds } from '../api.ts';
import type { Policies, PolicyChange, PolicyDates, RotationPolicy } from '../api-schedule.ts';
import { orAskApproval, withApproval, type Consume } from '../access/approvals.ts';
import type { Queryable } from '../db/port.ts';
import { retried } from '../db/retried.ts';
import { KeyringError } from '../errors.ts';
import { requireGivenReason, requireUuid } from '../validate.ts';
import { datesOf, nextStarts, type Dates } from './arithmetic/start.ts';
import { policyInWords } from './arithmetic/words.ts';
import type { ScheduleContext } from './context.ts';
import { noteWhatIsOverdue, overdueProjects, requestDue } from './due.ts';
import { readQuietHours } from './arithmetic/read-quiet-hours.ts';
import { destroyRetired } from './retired.ts';
import { changed, jitterOf, type PolicyTerms } from './policy.ts';
import {
  deletePolicy,
  insertPolicy,
  selectFirstByDefault,
  selectNow,
  selectPolicies,
  selectPolicy,
  selectProjectName,
  selectVersion,
  updatePolicy,
  type StoredPolicy,
} from './store.ts';

const DEFAULT_COUNT = 5;
const MOST_COUNT = 50;

/** Policies: how, and whether, versions are rotated by themselves; and what comes of them. */
export function policies(context: ScheduleContext): Policies {
  const { database, audit } = context;

  const inForce = async (given: string | undefined): Promise<StoredPolicy> => {
    const projectId = given === undefined ? undefined : requireUuid('project id', given);
    const own = await selectPolicy(database, projectId);
    if (own !== undefined || projectId === undefined) return own ?? missingDefault();
    const projectName = await selectProjectName(database, projectId);
    if (projectName === undefined) throw unknownProject(projectId);
    return { ...((await selectPolicy(database, undefined)) ?? missingDefault()), projectId, projectName, revision: 0 };
  };

  const after = async (before: StoredPolicy, change: PolicyChange): Promise<PolicyTerms> => {
    const terms = changed(before, change);
    if (change.quietHours !== undefined && change.quietHours !== null) {
      const quiet = await readQuietHours(terms.quietHours);
      if (quiet?.from((await selectNow(database)).getTime()) === undefined) {
        throw new KeyringError('invalid_argument', 'These quiet hours never open.', {
          remedy: 'Name days and times that come, as `sat,sun 22:00-06:00`.',
        });
      }
    }
    return terms;
  };

  /** Old versions that will go sooner than they would have: two people say so. PostgreSQL holds it, by the same subject. */
  const shortening = async <T>(
    before: StoredPolicy,
    retentionMs: number,
    reason: string | undefined,
    work: (tx: Queryable) => Promise<T>,
  ): Promise<T> => {
    const act = (consume?: Consume): Promise<T> =>
      retried(database, async (tx) => {
        await consume?.(tx);
        return work(tx);
      });
    const { projectId } = before;
    const subject = `${subjectOf(projectId)}:${String(Math.floor(retentionMs / 1000))}`;
    const what = { action: 'retention.shorten', subject, projectId, reason } as const;
    return retentionMs < before.retentionMs
      ? withApproval(database, audit, what, act)
      : orAskApproval(database, audit, what, () => act());
  };

  return {
    show: async (projectId) => toPolicy(await inForce(projectId)),
    async list({ limit = 1000, among = 'all', after } = {}) {
      if (after?.projectId !== undefined) requireUuid('project id', after.projectId);
      const most = Math.min(Math.max(limit, 1), 10_000);
      return (await selectPolicies(database, { among, limit: most, after })).map(toPolicy);
    },

    async set(change, { projectId, revision }) {
      const before = await inForce(projectId);
      if (before.revision !== revision) throw conflict();
      const terms = await after(before, change);
      return shortening(before, terms.retentionMs, change.reason, async (tx) => {
        const stored =
          before.projectId !== undefined && revision === 0
            ? await insertPolicy(tx, before.projectId, terms, audit.actor.name)
            : await updatePolicy(tx, before.projectId, revision, terms, audit.actor.name);
        if (stored === undefined) throw conflict();
        await audit.record(tx, {
          action: 'policy.changed',
          projectId: before.projectId,
          subject: subjectOf(before.projectId),
          reason: change.reason,
          details: { before: told(before), after: told(stored), revision: stored.revision },
        });
        return toPolicy(stored);
      });
    },

    async unset(given, { revision, reason }) {
      if (reason !== undefined) requireGivenReason(reason);
      const before = await inForce(given);
      if (before.revision === 0) {
        throw new KeyringError('illegal_state', 'The project has no policy of its own: it goes by the default.');
      }
      const { retentionMs } = await inForce(undefined);
      await shortening(before, retentionMs, reason, async (tx) => {
        if (before.revision !== revision || !(await deletePolicy(tx, given, revision))) throw conflict();
        await audit.record(tx, {
          action: 'policy.removed',
          projectId: before.projectId,
          subject: subjectOf(before.projectId),
          reason,
          details: { before: told(before) },
        });
      });
      return toPolicy(await inForce(given));
    },

    async next({ projectId, change, count = DEFAULT_COUNT, among = 'all' } = {}) {
      if (!Number.isInteger(count) || count < 1 || count > MOST_COUNT) {
        throw new KeyringError('invalid_argument', `Between 1 and ${String(MOST_COUNT)} dates can be asked for.`);
      }
      const before = await inForce(projectId);
      const terms = change === undefined ? before : await after(before, change);
      const now = await selectNow(database);
      const { dates: first, fraction, notBefore, of } = await firstDates(context, before.projectId, among, terms, now);
      const quiet = await readQuietHours(terms.quietHours);
      const starts = terms.enabled ? nextStarts(first, agesOf(terms), fraction, quiet, notBefore, count) : [];
      return {
        policy: toPolicy({ ...before, ...terms }),
        dates: starts.map((at) => new Date(at)),
        of,
        promisedAt: new Date(first.promisedAt),
      };
    },

    async overdue({ limit = 1000, among = 'all', after } = {}) {
      if (after !== undefined) requireUuid('project id', after.projectId);
      return overdueProjects(context, { among, limit: Math.min(Math.max(limit, 1), 10_000), after });
    },
    requestDue: ({ atMostEveryMs = 0 } = {}) => requestDue(context, atMostEveryMs),
    noteOverdue: () => noteWhatIsOverdue(context),
    destroyRetired: ({ signal } = {}) => destroyRetired(context, signal),
  };
}

/** Of the version whose rotation comes next; by the terms that are asked about, which need not be those that are stored. */
async function firstDates(
  { database }: ScheduleContext,
  projectId: string | undefined,
  among: ProjectIds,
  terms: PolicyTerms,
  now: Date,
): Promise<{ dates: Dates; fraction: number; notBefore: number; of: PolicyDates['of'] }> {
  const version =
    projectId === undefined ? await selectFirstByDefault(database, among) : await selectVersion(database, projectId);
  const fraction = version?.fraction ?? 0;
  const dates = datesOf((version?.madeAt ?? now).getTime(), agesOf(terms), fraction);
  const of = version === undefined ? 'new version' : projectId === undefined ? 'first project' : 'project';
  return { dates, fraction, notBefore: Math.max(now.getTime(), version?.retryAt?.getTime() ?? 0), of };
}

function agesOf(terms: PolicyTerms): { rotateAfterMs: number; jitterMs: number } {
  return { rotateAfterMs: terms.rotateAfterMs, jitterMs: jitterOf(terms) };
}

function toPolicy({ ownJitterMs, ...stored }: StoredPolicy): RotationPolicy {
  const jitterMs = jitterOf({ ...stored, ownJitterMs });
  return { ...stored, jitterMs, inWords: policyInWords({ ...stored, jitterMs }) };
}

/** For the trail. */
function told(policy: StoredPolicy): Record<string, unknown> {
  const { enabled, rotateAfterMs, maxEncryptions, retentionMs, destroyAfterRetention } = policy;
  const jitterMs = policy.ownJitterMs ?? null;
  const quietHours = policy.quietHours ?? null;
  return { enabled, rotateAfterMs, maxEncryptions, jitterMs, quietHours, retentionMs, destroyAfterRetention };
}

function subjectOf(projectId: string | undefined): string {
  return `policy:${projectId ?? 'default'}`;
}

function conflict(): KeyringError {
  return new KeyringError('conflict', 'Somebody else changed the policy meanwhile.', {
    remedy: 'Look at it as it is now, and change that.',
  });
}

function unknownProject(id: string): KeyringError {
  return new KeyringError('unknown_project', `There is no project ${id}.`);
}

function missingDefault(): never {
  throw new KeyringError('illegal_state', 'There is no default policy in keyring.rotation_policies.', {
    remedy: 'Put it back: `insert into keyring.rotation_policies (project_id) values (null)`.',
  });
}
