import type { Queryable } from '../../db/port.ts';
import { markRolledBack, movePrimaries } from '../../keyring/store.ts';
import type { RotationContext } from '../context.ts';
import { finalizeAll, Overtaken, recordCanceled, type ProvedProject } from '../endings.ts';
import { promotedEntry, rolledBackEntry, sweptEntry } from '../entries.ts';
import type { ProjectProgress } from '../project-store.ts';
import type { Direction } from '../rotation-store.ts';
import { totals, type ColumnSizes } from './rows.ts';
import { moveProjects, promoteProjects, selectHeads, stageProjects } from './fleet-store.ts';
import { setTransaction, together } from './together.ts';

/** A project of a rotation that has its versions. */
export interface StagedProject extends ProjectProgress {
  readonly sourceKeyId: string;
  readonly targetKeyId: string;
}

/** Each step takes the projects of one rotation that stand before it, and gives those that it took further, as they stand now. */
export type Step<From, To> = (context: RotationContext, rotationId: string, projects: readonly From[]) => Promise<To[]>;

/** requested → staged: a new version each, wrapped and committed. */
export const stage: Step<ProjectProgress, StagedProject> = (context, rotationId, projects) =>
  together(projects, async (part) => {
    const heads = await selectHeads(
      context.database,
      part.map((one) => one.projectId),
    );
    const next = new Map(
      await Promise.all(
        heads.map(async ({ projectId, primaryKeyId, latestVersion }) => {
          const key = await context.dataKeys.create(projectId, latestVersion + 1);
          return [projectId, { source: primaryKeyId, key }] as const;
        }),
      ),
    );
    const staged = part.flatMap((one): StagedProject[] => {
      const versions = next.get(one.projectId);
      if (versions === undefined) return [];
      return [{ ...one, state: 'staged', sourceKeyId: versions.source, targetKeyId: versions.key.id }];
    });
    const { done, opened } = await setTransaction(context.database, async (tx) => {
      const ours = await stageProjects(tx, rotationId, staged);
      const keys = [...next].filter(([projectId]) => ours.has(projectId)).map(([, { key }]) => key);
      await context.dataKeys.insertAll(tx, keys);
      return {
        done: staged.filter(({ projectId }) => ours.has(projectId)),
        opened: await context.dataKeys.usage.open(
          tx,
          keys.map((key) => key.id),
        ),
      };
    });
    opened();
    return done;
  });

/**
 * staged → sweeping: each new version read back and tried, then the pointers moved. New writes are under them from its commit on.
 * `sizes`: what there is to move.
 */
export async function promote(
  context: RotationContext,
  rotationId: string,
  projects: readonly StagedProject[],
  sizes: readonly ColumnSizes[],
): Promise<StagedProject[]> {
  const rows = new Map(totals(sizes).map((size) => [size.projectId, size.rows]));
  const tried = await context.dataKeys.selfTestAll(
    projects.map(({ projectId, targetKeyId }) => ({ projectId, keyId: targetKeyId })),
  );
  const usable = projects.filter(({ targetKeyId }) => tried.has(targetKeyId));
  return together(usable, (part) =>
    movePointers(context, part, 'forward', async (tx, moved) => {
      const toMove = moved.map(({ projectId }) => ({ projectId, rows: rows.get(projectId) }));
      if ((await promoteProjects(tx, rotationId, toMove)) < moved.length) throw new Overtaken();
      await context.audit.recordAll(
        tx,
        moved.map((one) => promotedEntry(rotationId, one)),
      );
      return moved.map((one) => ({ ...one, state: 'sweeping', promoted: true }));
    }),
  );
}

/** sweeping, verifying → rolling back: the pointers to where the rotation found them, and the versions left for ever. */
export const turnBack: Step<StagedProject, StagedProject> = async (context, rotationId, projects) => {
  const tried = await context.dataKeys.selfTestAll(
    projects.map(({ projectId, sourceKeyId }) => ({ projectId, keyId: sourceKeyId })),
  );
  const usable = projects.filter(({ sourceKeyId }) => tried.has(sourceKeyId));
  return together(usable, (part) =>
    movePointers(context, part, 'back', async (tx, moved) => {
      await markRolledBack(
        tx,
        moved.map(({ targetKeyId }) => targetKeyId),
      );
      if ((await moveProjects(tx, rotationId, moved, 'turnBack')) < moved.length) throw new Overtaken();
      await context.audit.recordAll(
        tx,
        moved.map((one) => rolledBackEntry(rotationId, one)),
      );
      return moved.map((one) => ({ ...one, state: 'rolling_back', direction: 'back' }));
    }),
  );
};

/** requested, staged → canceled: nothing was promoted, and what was staged is never used. Gives the ids of those that ended. */
export async function cancel(
  context: RotationContext,
  rotationId: string,
  projects: readonly ProjectProgress[],
): Promise<string[]> {
  return together(projects, (part) =>
    setTransaction(context.database, async (tx) => {
      if ((await moveProjects(tx, rotationId, part, 'cancel')) < part.length) throw new Overtaken();
      await recordCanceled(context, tx, rotationId, part);
      return part.map(({ projectId }) => projectId);
    }),
  );
}

/** sweeping → verifying: no row is left under another version. */
export const endSweep: Step<StagedProject, StagedProject> = (context, rotationId, projects) =>
  together(projects, (part) =>
    setTransaction(context.database, async (tx) => {
      if ((await moveProjects(tx, rotationId, part, 'endSweep')) < part.length) throw new Overtaken();
      await context.audit.recordAll(
        tx,
        part.map(({ projectId }) => sweptEntry(rotationId, projectId)),
      );
      return part.map((one) => ({ ...one, state: 'verifying' }));
    }),
  );

/** The end, with retention and receipts. Gives the ids of those that ended. */
export async function end(
  context: RotationContext,
  proved: readonly ProvedProject[],
  to: 'completed' | 'rolled_back',
): Promise<string[]> {
  if (proved.length === 0) return [];
  const signer = await context.signer();
  return together(proved, (part) =>
    setTransaction(context.database, async (tx) => {
      await finalizeAll(context, tx, part, to, signer);
      return part.map(({ progress }) => progress.projectId);
    }),
  );
}

/** Moves the pointers of those projects whose turn it is at once, and does `rest` for them in the same transaction. */
async function movePointers(
  context: RotationContext,
  projects: readonly StagedProject[],
  direction: Direction,
  rest: (tx: Queryable, moved: readonly StagedProject[]) => Promise<StagedProject[]>,
): Promise<StagedProject[]> {
  const done = await setTransaction(context.database, async (tx) => {
    const ids = await movePrimaries(
      tx,
      projects.map(({ projectId, sourceKeyId, targetKeyId }) =>
        direction === 'forward'
          ? { projectId, from: sourceKeyId, to: targetKeyId }
          : { projectId, from: targetKeyId, to: sourceKeyId },
      ),
    );
    const moved = projects.filter(({ projectId }) => ids.has(projectId));
    return moved.length === 0 ? [] : rest(tx, moved);
  });
  for (const { projectId } of done) context.dataKeys.forgetPrimary(projectId);
  return done;
}
