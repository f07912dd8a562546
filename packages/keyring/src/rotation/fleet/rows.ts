import { transaction, type Database, type Queryable } from '../../db/port.ts';
import type { EncryptedColumn } from '../../keyring/columns.ts';
import type { DataKey } from '../../keyring/key-cache.ts';
import { wipe } from '../../secret-bytes.ts';
import type { RotationContext } from '../context.ts';
import type { ProvedProject } from '../endings.ts';
import { inLanes } from '../lanes.ts';
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
import { isOfOne, SET_LOCK_WAIT_MS } from './together.ts';

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

/** How much there is in a column, of each project that has any. */
export interface ColumnSizes {
  readonly column: EncryptedColumn;
  readonly projects: readonly ProjectSize[];
}

/** What is to be moved to these versions. */
export async function measure(
  { database }: RotationContext,
  destinations: readonly Destination[],
  columns: readonly EncryptedColumn[],
): Promise<ColumnSizes[]> {
  return sizesOf(
    database,
    destinations.map(({ project: { projectId }, keyId }) => ({ projectId, exceptKeyId: keyId })),
    columns,
  );
}

async function sizesOf(
  database: Database,
  choices: readonly ProjectChoice[],
  columns: readonly EncryptedColumn[],
): Promise<ColumnSizes[]> {
  const sizes: ColumnSizes[] = [];
  if (choices.length === 0) return sizes;
  for (const column of columns) {
    const select = (tx: Queryable): Promise<ProjectSize[]> => selectSizes(tx, column, choices, MOST_ROWS_EACH);
    sizes.push({ column, projects: await transaction(database, select, { byIndex: true }) });
  }
  return sizes;
}

/** The rows over all columns, of those projects that are small enough to be counted to the end. */
export function totals(sizes: readonly ColumnSizes[]): { projectId: string; rows: number }[] {
  const totals = new Map<string, number>();
  for (const { projectId, rows } of sizes.flatMap(({ projects }) => projects)) {
    totals.set(projectId, (totals.get(projectId) ?? 0) + (rows > MOST_ROWS_EACH ? Infinity : rows));
  }
  return [...totals].filter(([, rows]) => rows < Infinity).map(([projectId, rows]) => ({ projectId, rows }));
}

/**
 * Moves every row of small projects to their versions, many projects a batch, by compare-and-set. Gives those of which no row
 * is left: of the others, a row does not open, somebody holds one, or there are too many. `sizes` is what `measure` found; a project that
 * had nothing then is not looked at.
 */
export async function sweepTogether(
  context: RotationContext,
  rotationId: string,
  destinations: readonly Destination[],
  sizes: readonly ColumnSizes[],
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
  await eachColumn(context, ready, sizes, { kind: 'sweep', rows: sweepRows }, left, signal);
  return ready.filter(({ project }) => !left.has(project.projectId)).map(({ project }) => project);
}

/**
 * Reads back every row of small projects and opens it, on its own, as `verifyProject` does. Gives those of which every row
 * opens under the version that they went to. `swept` is what `measure` found of those that were swept just now: they have about as many
 * rows as they had then.
 */
export async function proveTogether(
  context: RotationContext,
  destinations: readonly Destination[],
  columns: readonly EncryptedColumn[],
  swept: readonly ColumnSizes[],
  signal: AbortSignal,
): Promise<ProvedProject[]> {
  const sizes = await sizesToProve(context, destinations, columns, swept);
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
  await eachColumn(context, destinations, sizes, { kind: 'verify', rows: readBack }, left, signal);
  return destinations
    .filter(({ project }) => !left.has(project.projectId))
    .map(({ project, keyId }) => ({
      progress: project,
      keyId,
      verified: verified.get(project.projectId) ?? 0,
      columns,
    }));
}

/** As rows and bytes are only what batches are made up by, those that were measured are not measured again. */
async function sizesToProve(
  { database }: RotationContext,
  destinations: readonly Destination[],
  columns: readonly EncryptedColumn[],
  swept: readonly ColumnSizes[],
): Promise<ColumnSizes[]> {
  const before = new Map(swept.map(({ column, projects }) => [column.label, sizesById(projects)]));
  const isKnown = ({ project: { projectId } }: Destination): boolean =>
    [...before.values()].some((projects) => projects.has(projectId));
  const known = destinations.filter(isKnown).map(({ project }) => project.projectId);
  const measured = await sizesOf(
    database,
    destinations
      .filter((one) => !isKnown(one))
      .map(({ project: { projectId } }) => ({ projectId, exceptKeyId: undefined })),
    columns,
  );
  return columns.map((column, at) => {
    const ofColumn = before.get(column.label);
    // A project that had none in this column may have some by now.
    const again = known.map((projectId) => ofColumn?.get(projectId) ?? { projectId, rows: 0, bytes: 0 });
    return { column, projects: [...again, ...(measured[at]?.projects ?? [])] };
  });
}

function sizesById(sizes: readonly ProjectSize[]): Map<string, ProjectSize> {
  return new Map(sizes.map((size) => [size.projectId, size]));
}

interface Work {
  readonly kind: 'sweep' | 'verify';
  readonly rows: (column: EncryptedColumn, rows: readonly ProjectRow[]) => Promise<void>;
}

/** Hands out the rows of the projects in each column, whole projects at a time; those that are too large go to `left`. */
async function eachColumn(
  context: RotationContext,
  destinations: readonly Destination[],
  sizes: readonly ColumnSizes[],
  { kind, rows: work }: Work,
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
  for (const { projectId, rows, bytes } of sizes.flatMap(({ projects }) => projects)) {
    // A batch is whole projects, and no larger than the pace allows.
    if (rows > most() || bytes > MOST_BYTES) left.add(projectId);
  }
  for (const { column, projects: found } of sizes) {
    const batch = async ({ projects, rows }: Batch): Promise<void> => {
      const go = async (): Promise<void> => {
        const chosen = projects.flatMap((id) => choiceOf.get(id) ?? []);
        // One more than is counted: a project that has grown past it since is not read to its end here.
        const most = MOST_ROWS_EACH + 1;
        const read = (tx: Queryable): Promise<ProjectRow[]> => selectRowsOfProjects(tx, column, chosen, most);
        const found = await transaction(database, read, { byIndex: true });
        for (const [projectId, own] of Map.groupBy(found, (row) => row.projectId)) {
          if (own.length === most) left.add(projectId);
        }
        await work(column, found);
      };
      try {
        await (pacer === undefined ? go() : pacer.batch(rows, kind, go, signal));
      } catch (error) {
        if (!isOfOne(error)) throw error;
        for (const projectId of projects) left.add(projectId);
      }
    };
    const small = found.filter(({ projectId }) => choiceOf.has(projectId) && !left.has(projectId));
    await inLanes(batches(small, most), LANES, batch, signal);
  }
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
  for (const [projectId, own] of Map.groupBy(rows, (row) => row.projectId)) {
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
  for (const [projectId, own] of Map.groupBy(rows, (row) => row.projectId)) {
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
