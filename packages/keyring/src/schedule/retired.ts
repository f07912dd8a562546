import type { DestroyedVersions } from '../api-schedule.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { requireSoundCatalog } from '../keyring/columns.ts';
import { eraseKeys } from '../keyring/store.ts';
import type { ScheduleContext } from './context.ts';
import { giveTurnBack, takeTurn } from './due-store.ts';
import { selectReferences, selectRetired, type CountedVersion } from './retired-store.ts';

const EVERY_MS = 3_600_000;
// At two milliseconds each, ten seconds: what else the schedule wants done waits no longer.
const MOST_DESTROYED = 5_000;
// A set holds its versions until the last of them is counted: so many, or the rows of their projects.
const SET = 50;
const SET_ROWS = 50_000;
const LOCK_WAIT_MS = 2_000;
const MOST_NAMED = 20;
const reason = 'Its retention is over.';

/** As `Policies.destroyRetired` says. PostgreSQL decides, by the guard of a version; what is asked here spares it most refusals. */
export async function destroyRetired(context: ScheduleContext, signal?: AbortSignal): Promise<DestroyedVersions> {
  const { database } = context;
  const turn = await transaction(database, async (tx) => {
    const at = await takeTurn(tx, 'destroy', EVERY_MS);
    if (at === undefined) return undefined;
    const first = await selectRetired(tx, at, undefined, MOST_DESTROYED);
    // Otherwise each of them would be refused. The turn goes with it, which costs a look.
    if (first.length > 0) await requireSoundCatalog(tx);
    return { at, first };
  });
  const destroyed: string[] = [];
  const inUse: CountedVersion[] = [];
  let total = 0;
  const result = (more: boolean): DestroyedVersions => ({
    destroyed,
    inUse: { total, versions: inUse.map(told) },
    more,
  });
  if (turn === undefined) return result(false);

  for (let some = turn.first; some.length > 0;) {
    for (let from = 0; from < some.length; from += SET) {
      if (signal?.aborted === true || destroyed.length >= MOST_DESTROYED) {
        await giveTurnBack(database, 'destroy');
        return result(true);
      }
      const set = await destroySet(context, turn.at, ids(some.slice(from, from + SET)));
      destroyed.push(...set.destroyed);
      total += set.inUse.length;
      inUse.push(...set.inUse.slice(0, MOST_NAMED - inUse.length));
    }
    some = some.length < MOST_DESTROYED ? [] : await selectRetired(database, turn.at, some.at(-1), MOST_DESTROYED);
  }
  return result(false);
}

async function destroySet(
  context: ScheduleContext,
  at: Date,
  keyIds: readonly string[],
): Promise<{ destroyed: string[]; inUse: CountedVersion[] }> {
  const counted = await selectReferences(context.database, at, keyIds);
  const inUse = counted.filter(({ rows }) => rows > 0);
  const destroyed: string[] = [];
  const refused: CountedVersion[] = [];
  for (const set of setsOf(counted.filter(({ rows }) => rows === 0))) {
    const erased = await erase(context, set);
    if (erased !== 'refused') {
      destroyed.push(...erased);
      continue;
    }
    // A row names one since it was counted, or a rotation that began needs it: the others go, each by itself.
    for (const one of set) {
      const alone = await erase(context, [one]);
      if (alone === 'refused') refused.push(one);
      else destroyed.push(...alone);
    }
  }
  if (refused.length > 0) {
    await context.audit.recordAll(
      context.database,
      refused.map((one) => entry(one, 'refused')),
    );
    const now = await selectReferences(context.database, at, ids(refused));
    inUse.push(...now.filter(({ rows }) => rows > 0));
  }
  return { destroyed, inUse };
}

/** One transaction. What somebody holds is left for another hour. */
async function erase(
  { database, audit, dataKeys }: ScheduleContext,
  set: readonly CountedVersion[],
): Promise<string[] | 'refused'> {
  const work = transaction(
    database,
    async (tx) => {
      const erased = await eraseKeys(tx, ids(set));
      if (erased.length > 0)
        await audit.recordAll(
          tx,
          erased.map((one) => entry(one)),
        );
      return ids(erased);
    },
    { lockWaitMs: LOCK_WAIT_MS, byIndex: true },
  );
  try {
    return await work;
  } catch (error) {
    const state = sqlState(error);
    if (state === sqlStates.inUse || state === sqlStates.retentionNotOver) return 'refused';
    if (state === sqlStates.lockNotAvailable) return [];
    throw error;
  } finally {
    dataKeys.forget(ids(set));
  }
}

/** Parted so that a set reads no more than so many rows, or is one version. */
function setsOf(versions: readonly CountedVersion[]): CountedVersion[][] {
  const sets: CountedVersion[][] = [];
  let rows = Infinity;
  for (const version of versions) {
    if (rows + version.rowsOfProject > SET_ROWS) {
      sets.push([]);
      rows = 0;
    }
    sets.at(-1)?.push(version);
    rows += version.rowsOfProject;
  }
  return sets;
}

type Version = Pick<CountedVersion, 'keyId' | 'projectId' | 'version'>;

function entry({ keyId, projectId, version }: Version, outcome?: 'refused') {
  const result = outcome === undefined ? {} : { outcome };
  return { action: 'key.destroyed', ...result, projectId, subject: `key:${keyId}`, reason, details: { version } };
}

function told({ keyId, projectId, version, rows }: CountedVersion): DestroyedVersions['inUse']['versions'][number] {
  return { keyId, projectId, version, rows };
}

function ids(versions: readonly { readonly keyId: string }[]): string[] {
  return versions.map(({ keyId }) => keyId);
}
