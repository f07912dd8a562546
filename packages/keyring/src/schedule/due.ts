import { randomUUID } from 'node:crypto';
import type { ProjectIds } from '../api.ts';
import type { DueRequest, OverduePosition, OverdueVersion } from '../api-schedule.ts';
import { transaction, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog } from '../keyring/columns.ts';
import { insertDueProjects } from '../rotation/scope-store.ts';
import { insertRotation } from '../rotation/rotation-store.ts';
import { remembered, type Openings } from './arithmetic/quiet-hours.ts';
import { startOf } from './arithmetic/start.ts';
import type { ScheduleContext } from './context.ts';
import {
  noteOverdue,
  selectOverdue,
  selectQuietHours,
  selectStartable,
  takeTurn,
  type OpenNow,
  type Startable,
} from './due-store.ts';
import { readQuietHours } from './arithmetic/read-quiet-hours.ts';
import { selectNow } from './store.ts';

// How many minutes after it might have begun a rotation is called late: workers look every minute.
const PUNCTUAL_MS = 5 * 60_000;
const OVERDUE_EVERY_MS = 50_000;
const MOST_NAMED = 20;

const nothing: DueRequest = { rotationId: undefined, projects: 0, plannedFor: undefined };

/**
 * As `Policies.requestDue` says. Its turn, what is due and the rotation are one transaction: a second process waits for it
 * at the turn, and then sees projects that are in an open rotation, or have a new version.
 */
export async function requestDue({ database, audit }: ScheduleContext, atMostEveryMs: number): Promise<DueRequest> {
  return transaction(database, async (tx) => {
    const at = await takeTurn(tx, 'request', atMostEveryMs);
    if (at === undefined) return nothing;
    const quiet = await readAll(tx);
    const startable = await selectStartable(tx, at, openNow(quiet, at.getTime()));
    if (startable.length === 0) return nothing;
    await requireSoundCatalog(tx);
    const plannedFor = firstStart(startable, quiet, at);
    const id = randomUUID();
    const trigger = startable.some(({ byAge }) => byAge) ? 'schedule' : 'usage';
    await insertRotation(tx, {
      id,
      scope: 'projects',
      trigger,
      requestedBy: audit.actor.name,
      reason: undefined,
      pacing: { pace: 'polite', maxRate: undefined },
      plannedFor,
    });
    const projects = await insertDueProjects(tx, id, startable);
    // All of them were rotated by hand in this very moment. The turn goes with it, which costs a look.
    if (projects === 0) throw new NothingLeft();
    const lateMs = at.getTime() - plannedFor.getTime();
    await audit.record(tx, {
      action: 'rotation.requested',
      projectId: projects === 1 ? startable[0]?.projectId : undefined,
      subject: `rotation:${id}`,
      details: {
        scope: 'projects',
        projects,
        trigger,
        plannedFor: plannedFor.toISOString(),
        ...(lateMs > PUNCTUAL_MS ? { lateSeconds: Math.round(lateMs / 1000) } : {}),
      },
    });
    return { rotationId: id, projects, plannedFor };
  }).catch((error: unknown) => {
    if (error instanceof NothingLeft) return nothing;
    throw error;
  });
}

class NothingLeft extends Error {}

type Quiet = ReadonlyMap<string, Openings>;

/** Quiet hours that cannot be read here, for want of croner, are closed here, and their projects become overdue for all to see. */
async function readAll(tx: Queryable): Promise<Quiet> {
  const readable = new Map<string, Openings>();
  for (const { stored, quietHours } of await selectQuietHours(tx)) {
    const quiet = await readQuietHours(quietHours).catch((error: unknown) => {
      if (error instanceof KeyringError) return undefined;
      throw error;
    });
    if (quiet !== undefined) readable.set(stored, remembered(quiet));
  }
  return readable;
}

function openNow(quiet: Quiet, at: number): OpenNow[] {
  const open: OpenNow[] = [];
  for (const [stored, openings] of quiet) {
    const window = openings.from(at);
    if (window === undefined || window.opens > at) continue;
    const next = openings.from(window.closes);
    open.push({
      stored,
      opens: new Date(window.opens),
      closes: window.closes === Infinity ? undefined : new Date(window.closes),
      reopens: next && new Date(next.opens),
    });
  }
  return open;
}

/** When the first of them might have begun, as it was foretold when its version was made: later than that, it is late. */
function firstStart(startable: readonly Startable[], quiet: Quiet, at: Date): Date {
  let first = at.getTime();
  for (const { byAge, madeAt, dueAt, promisedAt, quiet: stored } of startable) {
    // Use has no date.
    if (!byAge) continue;
    const dates = { madeAt: madeAt.getTime(), dueAt: dueAt.getTime(), promisedAt: promisedAt.getTime() };
    const openings = stored === undefined ? undefined : quiet.get(stored);
    first = Math.min(first, startOf(dates, openings, dates.madeAt) ?? first);
  }
  return new Date(first);
}

export async function overdueProjects(
  { database }: ScheduleContext,
  page: { readonly among: ProjectIds; readonly limit: number; readonly after: OverduePosition | undefined },
): Promise<{ total: number; projects: OverdueVersion[]; next: OverduePosition | undefined }> {
  const now = await selectNow(database);
  const { total, projects, next } = await selectOverdue(database, now, page);
  const told = await Promise.all(
    projects.map(async ({ quietHours, cause, ...project }): Promise<OverdueVersion> => {
      if (cause !== undefined) return { ...project, cause };
      const quiet = await readQuietHours(quietHours).catch(() => undefined);
      const isOpen = quietHours === undefined || (quiet?.from(now.getTime())?.opens ?? Infinity) <= now.getTime();
      return { ...project, cause: isOpen ? 'not_requested' : 'waiting' };
    }),
  );
  return { total, projects: told, next };
}

/** One entry for all that became overdue together; each version is in one of them once. */
export async function noteWhatIsOverdue({ database, audit }: ScheduleContext): Promise<number> {
  return transaction(database, async (tx) => {
    const at = await takeTurn(tx, 'overdue', OVERDUE_EVERY_MS);
    if (at === undefined) return 0;
    const projects = await noteOverdue(tx, at);
    if (projects.length === 0) return 0;
    await audit.record(tx, {
      action: 'rotation.overdue',
      outcome: 'failed',
      projectId: projects.length === 1 ? projects[0] : undefined,
      subject: 'policy:overdue',
      details: { projects: projects.length, first: projects.slice(0, MOST_NAMED) },
    });
    return projects.length;
  });
}
