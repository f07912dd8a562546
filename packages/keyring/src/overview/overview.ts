import type { ProjectIds } from '../api.ts';
import type { Overview } from '../api-overview.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import {
  selectAges,
  selectCounts,
  selectDue,
  selectNextByDefault,
  selectNextByOwnPolicy,
  selectOldest,
  selectRecentRotations,
  selectRotationStates,
} from './store.ts';

const NEXT = 10;
const RECENT = 10;

/** How things stand: a few statements in one snapshot, none of which reads every project's rows. */
export async function overview(database: Database, among: ProjectIds): Promise<Overview> {
  const look = async (tx: Queryable): Promise<Overview> => {
    await tx.query({ text: 'set local jit = off' });
    const { at, total, compromised, suspended, quarantined } = await selectCounts(tx, among);
    const { ages, withKey } = await selectAges(tx, among);
    const { due, overdue } = await selectDue(tx, among);
    const { running, paused, blocked } = await selectRotationStates(tx, among);
    const next = [...(await selectNextByDefault(tx, among, NEXT)), ...(await selectNextByOwnPolicy(tx, among, NEXT))];
    return {
      at,
      projects: { total, withKey, due, overdue },
      keys: { compromised, suspended },
      oldest: await selectOldest(tx, among),
      ages,
      rotations: { running, paused, blocked, recent: await selectRecentRotations(tx, among, RECENT) },
      quarantined,
      next: next.toSorted((a, b) => Number(a.dueAt) - Number(b.dueAt)).slice(0, NEXT),
    };
  };
  return transaction(database, look, { snapshot: true });
}
