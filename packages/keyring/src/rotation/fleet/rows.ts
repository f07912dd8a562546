import { transaction, type Queryable } from '../../db/port.ts';
import type { EncryptedColumn } from '../../keyring/columns.ts';
import type { DataKey } from '../../keyring/key-cache.ts';
import { wipe } from '../../secret-bytes.ts';
import type { RotationContext } from '../context.ts';
import type { ProvedProject } from '../endings.ts';
import { inLanes } from '../lanes.ts';
import { noteRowsToMove } from '../project-store.ts';
import { isUnreadable, RowCrypto, type OpenedRow } from '../rows.ts';
import { moveRows, replacement, type Replacement } from '../rows-store.ts';
import {
  selectRowsOfProjects,
  selectSizes,
  type ProjectChoice,
  type ProjectRow,
  type ProjectSize,
} from './fleet-store.ts';
import type { StagedProject } from './steps.ts';
import { isOfOne, SET_LOCK_WAIT_MS, setTransaction } from './together.ts';

// Projects of more are swept alone: by lanes of their own, in passes, by blocks of the table where that is faster.
const MOST_ROWS_EACH = 1_000;
// Ciphertext in memory at once, per lane.
const MOST_BYTES = 2 * 2 ** 20;
// One batch is encrypted here while PostgreSQL works on the other.
const LANES = 2;

/** A project, and the version that its rows are to be under. */
export interface Destination {
  readonly project: StagedProject;
  readonly keyId: string;
}

/**
 * Moves every row of small projects to their versions, many projects a batch, by compare-and-set. Gives those of which no row
 * is left: of the others, a row does not open, somebody holds one, or there are too many.
 */
export async function sweepTogether(
  context: RotationContext,
  rotationId: string,
  destinations: readonly Destination[],
  columns: readonly EncryptedColumn[],
  signal: AbortSignal,
): Promise<StagedProject[]> {
  const left = new Set<string>();
  const keys = await context.dataKeys.load(
    destinations.flatMap(({ project: { projectId, sourceKeyId, targetKeyId } }) => [
      { projectId, keyId: sourceKeyId },
      { projectId, keyId: targetKeyId },
    ]),
  );
  const ready = destinations.filter(({ keyId }) => keys.has(keyId));
  const targets = new Map(ready.map(({ project, keyId }) => [project.projectId, keys.get(keyId)]));
  const begin = (projects: readonly ProjectSize[]): Promise<void> =>
    setTransaction(context.database, (tx) => noteRowsToMove(tx, rotationId, projects));
  const sweepRows = async (column: EncryptedColumn, rows: readonly ProjectRow[]): Promise<void> => {
    const read = new Map<string, number>();
    for (const { projectId } of rows) read.set(projectId, (read.get(projectId) ?? 0) + 1);
    await context.dataKeys.usage.spendAll(
      [...read].map(([projectId, count]) => ({ keyId: targets.get(projectId)?.id ?? '', count })),
      { lockWaitMs: SET_LOCK_WAIT_MS },
    );
    const replacements = await reseal(context, column, rows, targets);
    const moved = await moveRows(context.database, column, {
      rotationId,
      projectIds: [...read.keys()],
      rows: replacements,
    });
    for (const [projectId, count] of read) if (moved.get(projectId) !== count) left.add(projectId);
  };
  await eachColumn(context, columns, ready, { kind: 'sweep', begin, rows: sweepRows }, left, signal);
  return ready.filter(({ project }) => !left.has(project.projectId)).map(({ project }) => project);
}

/**
 * Reads back every row of small projects and opens it, on its own, as `verifyProject` does. Gives those of which every row
 * opens under the version that they went to.
 */
export async function proveTogether(
  context: RotationContext,
  destinations: readonly Destination[],
  columns: readonly EncryptedColumn[],
  signal: AbortSignal,
): Promise<ProvedProject[]> {
  const left = new Set<string>();
  const verified = new Map<string, number>();
  const expected = new Map(destinations.map(({ project, keyId }) => [project.projectId, keyId]));
  const readBack = async (column: EncryptedColumn, rows: readonly ProjectRow[]): Promise<void> => {
    for (const { projectId, row, opened } of await open(context, column, rows)) {
      if (opened === undefined || row.keyId !== expected.get(projectId)) left.add(projectId);
      if (opened !== undefined) wipe(opened.plaintext);
      verified.set(projectId, (verified.get(projectId) ?? 0) + 1);
    }
  };
  await eachColumn(context, columns, destinations, { kind: 'verify', rows: readBack }, left, signal);
  return destinations
    .filter(({ project }) => !left.has(project.projectId))
    .map(({ project, keyId }) => ({ progress: project, keyId, verified: verified.get(project.projectId) ?? 0 }));
}

interface Work {
  readonly kind: 'sweep' | 'verify';
  /** Told of the projects that are small enough, before any of their rows is handed out. */
  readonly begin?: (projects: readonly ProjectSize[]) => Promise<void>;
  readonly rows: (column: EncryptedColumn, rows: readonly ProjectRow[]) => Promise<void>;
}

/** Hands out the rows of the projects in each column, whole projects at a time; those that are too large go to `left`. */
async function eachColumn(
  context: RotationContext,
  columns: readonly EncryptedColumn[],
  destinations: readonly Destination[],
  { kind, begin, rows: work }: Work,
  left: Set<string>,
  signal: AbortSignal,
): Promise<void> {
  const { database, pacer, sweepBatchSize } = context;
  const choices = destinations.map(({ project: { projectId }, keyId }): ProjectChoice => ({
    projectId,
    exceptKeyId: kind === 'sweep' ? keyId : undefined,
  }));
  const choiceOf = new Map(choices.map((choice) => [choice.projectId, choice]));
  const most = (): number => Math.min(pacer?.batchSize(sweepBatchSize) ?? sweepBatchSize, MOST_ROWS_EACH);
  const sizes = new Map<EncryptedColumn, readonly ProjectSize[]>();
  for (const column of columns) {
    const found = await transaction(database, (tx) => selectSizes(tx, column, choices, MOST_ROWS_EACH), {
      byIndex: true,
    });
    // A batch is whole projects, and no larger than the pace allows.
    for (const { projectId, rows, bytes } of found) if (rows > most() || bytes > MOST_BYTES) left.add(projectId);
    sizes.set(column, found);
  }
  await begin?.(totals([...sizes.values()].flat().filter(({ projectId }) => !left.has(projectId))));
  for (const [column, found] of sizes) {
    const batch = async ({ projects, rows }: Batch): Promise<void> => {
      const go = async (): Promise<void> => {
        const chosen = projects.flatMap((id) => choiceOf.get(id) ?? []);
        const read = (tx: Queryable): Promise<ProjectRow[]> => selectRowsOfProjects(tx, column, chosen);
        await work(column, await transaction(database, read, { byIndex: true }));
      };
      try {
        await (pacer === undefined ? go() : pacer.batch(rows, kind, go, signal));
      } catch (error) {
        if (!isOfOne(error)) throw error;
        for (const projectId of projects) left.add(projectId);
      }
    };
    const small = found.filter(({ projectId }) => !left.has(projectId));
    await inLanes(batches(small, most), LANES, batch, signal);
  }
}

function totals(sizes: readonly ProjectSize[]): ProjectSize[] {
  const projects = new Map<string, ProjectSize>();
  for (const { projectId, rows, bytes } of sizes) {
    const before = projects.get(projectId);
    projects.set(projectId, { projectId, rows: (before?.rows ?? 0) + rows, bytes: (before?.bytes ?? 0) + bytes });
  }
  return [...projects.values()];
}

interface Batch {
  readonly projects: readonly string[];
  readonly rows: number;
}

function* batches(
  sizes: readonly { readonly projectId: string; readonly rows: number; readonly bytes: number }[],
  most: () => number,
): Generator<Batch> {
  let projects: string[] = [];
  let rows = 0;
  let bytes = 0;
  for (const size of sizes) {
    if (projects.length > 0 && (rows + size.rows > most() || bytes + size.bytes > MOST_BYTES)) {
      yield { projects, rows };
      [projects, rows, bytes] = [[], 0, 0];
    }
    projects.push(size.projectId);
    rows += size.rows;
    bytes += size.bytes;
  }
  if (projects.length > 0) yield { projects, rows };
}

interface Tried {
  readonly projectId: string;
  readonly row: ProjectRow;
  /** Undefined when it does not open. */
  readonly opened: OpenedRow | undefined;
}

async function open(context: RotationContext, column: EncryptedColumn, rows: readonly ProjectRow[]): Promise<Tried[]> {
  const tried: Tried[] = [];
  for (const [projectId, own] of byProject(rows)) {
    const openRow = await new RowCrypto(context.dataKeys, projectId, column.label).opener(own);
    for (const row of own) {
      const opened = openRow(row);
      tried.push({ projectId, row, opened: isUnreadable(opened) ? undefined : opened });
    }
  }
  return tried;
}

async function reseal(
  context: RotationContext,
  column: EncryptedColumn,
  rows: readonly ProjectRow[],
  targets: ReadonlyMap<string, DataKey | undefined>,
): Promise<Replacement[]> {
  const replacements: Replacement[] = [];
  for (const [projectId, own] of byProject(rows)) {
    const target = targets.get(projectId);
    if (target === undefined) continue;
    const crypto = new RowCrypto(context.dataKeys, projectId, column.label);
    const openRow = await crypto.opener(own);
    const sealAgain = crypto.sealer(target);
    for (const row of own) {
      const opened = openRow(row);
      if (isUnreadable(opened)) continue;
      replacements.push(replacement(row, sealAgain(opened)));
    }
  }
  return replacements;
}

function byProject(rows: readonly ProjectRow[]): Map<string, ProjectRow[]> {
  const projects = new Map<string, ProjectRow[]>();
  for (const row of rows) {
    const own = projects.get(row.projectId);
    if (own === undefined) projects.set(row.projectId, [row]);
    else own.push(row);
  }
  return projects;
}
