import type { Keyring, Policies } from '@meshhook/keyring';

export interface Kept {
  /** The rotation that was asked for. */
  readonly rotationId: string | undefined;
  readonly projects: number;
  /** Projects that became overdue. */
  readonly overdue: number;
  /** Versions that were destroyed, their retention being over. */
  readonly destroyed: number;
  /** Versions that were kept long enough and are named by rows all the same; the first of them, in words. */
  readonly inUse: { readonly total: number; readonly first: string | undefined };
}

/**
 * Does what policies want done now: asks for the rotation of what is due, notes what is overdue, destroys what was kept long enough.
 * By any number of processes at the same time: each is done by one. What fails keeps nothing of the rest from being done.
 * `signal` stops it between two sets of versions that are destroyed: another process goes on.
 * @throws what failed first, once all was tried.
 */
export async function keepSchedule(
  { policies }: Pick<Keyring, 'policies'>,
  atMostEveryMs = 0,
  signal?: AbortSignal,
): Promise<Kept> {
  const failures: unknown[] = [];
  const attempt = async <T>(what: Promise<T>, otherwise: T): Promise<T> =>
    what.catch((error: unknown) => {
      failures.push(error);
      return otherwise;
    });
  const none: Awaited<ReturnType<Policies['requestDue']>> = {
    rotationId: undefined,
    projects: 0,
    plannedFor: undefined,
  };
  const { rotationId, projects } = await attempt(policies.requestDue({ atMostEveryMs }), none);
  const overdue = await attempt(policies.noteOverdue(), 0);
  const { destroyed, inUse } = await attempt(policies.destroyRetired(signal === undefined ? {} : { signal }), {
    ...{ destroyed: [], inUse: { total: 0, versions: [] }, more: false },
  });
  if (failures.length > 0 && rotationId === undefined) throw failures[0];
  const [first] = inUse.versions;
  return {
    ...{ rotationId, projects, overdue, destroyed: destroyed.length },
    inUse: {
      total: inUse.total,
      first: first && `version ${String(first.version)} of project ${first.projectId}`,
    },
  };
}
