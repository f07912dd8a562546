import type { EncryptedColumn } from '../../keyring/columns.ts';
import type { DataKey } from '../../keyring/key-cache.ts';
import { wipe } from '../../secret-bytes.ts';
import type { RotationContext } from '../context.ts';
import type { ProvedProject } from '../endings.ts';
import { inLanes } from '../lanes.ts';
import { isUnreadable, RowCrypto, type OpenedRow } from '../rows.ts';
import { moveRows, replacement, type Replacement } from '../rows-store.ts';
import { selectRowsOfProjects, selectSizes, type ProjectChoice, type ProjectRow } from './fleet-store.ts';
import type { StagedProject } from './steps.ts';
import { isOfOne } from './together.ts';

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
  await eachColumn(context, columns, ready, 'sweep', left, signal, async (column, rows) => {
    const read = new Map<string, number>();
    for (const { projectId } of rows) read.set(projectId, (read.get(projectId) ?? 0) + 1);
    await context.dataKeys.usage.spendAll(
      [...read].map(([projectId, count]) => ({ keyId: targets.get(projectId)?.id ?? '', count })),
    );
    const replacements = await reseal(context, column, rows, targets);
    const moved = await moveRows(context.database, column, {
      rotationId,
      projectIds: [...read.keys()],
      rows: replacements,
    });
    for (const [projectId, count] of read) if (moved.get(projectId) !== count) left.add(projectId);
  });
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
  await eachColumn(context, columns, destinations, 'verify', left, signal, async (column, rows) => {
    for (const { projectId, row, opened } of await open(context, column, rows)) {
      if (opened === undefined || row.keyId !== expected.get(projectId)) left.add(projectId);
      if (opened !== undefined) wipe(opened.plaintext);
      verified.set(projectId, (verified.get(projectId) ?? 0) + 1);
    }
  });
  return destinations
    .filter(({ project }) => !left.has(project.projectId))
    .map(({ project, keyId }) => ({ progress: project, keyId, verified: verified.get(project.projectId) ?? 0 }));
}

/** Hands out the rows of the projects in each column, whole projects at a time; those that are too large go to `left`. */
async function eachColumn(
  context: RotationContext,
  columns: readonly EncryptedColumn[],
  destinations: readonly Destination[],
  kind: 'sweep' | 'verify',
  left: Set<string>,
  signal: AbortSignal,
  work: (column: EncryptedColumn, rows: readonly ProjectRow[]) => Promise<void>,
): Promise<void> {
  const { database, pacer, sweepBatchSize } = context;
  const exceptKey = new Map(
    destinations.map(({ project, keyId }) => [project.projectId, kind === 'sweep' ? keyId : undefined]),
  );
  for (const column of columns) {
    const choices = [...exceptKey]
      .filter(([projectId]) => !left.has(projectId))
      .map(([projectId, exceptKeyId]) => ({ projectId, exceptKeyId }));
    const sizes = await selectSizes(database, column, choices);
    for (const { projectId, rows, bytes } of sizes) {
      if (rows > MOST_ROWS_EACH || bytes > MOST_BYTES) left.add(projectId);
    }
    const small = sizes.filter(({ projectId }) => !left.has(projectId));
    const most = (): number => pacer?.batchSize(sweepBatchSize) ?? sweepBatchSize;
    const batch = async ({ projects, rows }: Batch): Promise<void> => {
      const of = projects.map((projectId): ProjectChoice => ({ projectId, exceptKeyId: exceptKey.get(projectId) }));
      const go = async (): Promise<void> => {
        await work(column, await selectRowsOfProjects(database, column, of));
      };
      try {
        await (pacer === undefined ? go() : pacer.batch(rows, kind, go, signal));
      } catch (error) {
        if (!isOfOne(error)) throw error;
        for (const projectId of projects) left.add(projectId);
      }
    };
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
