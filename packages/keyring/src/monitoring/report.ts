import type {
  OffProject,
  OverdueProject,
  Report,
  ReportedKey,
  ReportedRotation,
  ReportOptions,
} from '../api-monitoring.ts';
import type { Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import {
  PAGE,
  selectOff,
  selectOverdue,
  selectReportedKeys,
  selectReportedRotations,
  selectReportedUpperKeys,
  type Range,
} from './report-store.ts';

/** What a compliance report asks, page by page: however large the fleet, a page is in memory. */
export function report(database: Database, now: () => Date, { since, until = now() }: ReportOptions): Report {
  if (Number.isNaN(since.getTime()) || Number.isNaN(until.getTime()) || since >= until) {
    throw new KeyringError('invalid_argument', 'The time from which to report is not before the one until which.', {
      remedy: 'Give an earlier --since or a later --until (`since` and `until` of the API).',
    });
  }
  const range = { since, until };
  return {
    ...range,
    rotations: () => rotationsOf(database, range),
    keys: () => keysOf(database, range),
    overdue: () => byProject((after) => selectOverdue(database, after)),
    off: () => byProject((after) => selectOff(database, after)),
  };
}

async function* rotationsOf(database: Database, range: Range): AsyncGenerator<ReportedRotation> {
  let after: Awaited<ReturnType<typeof selectReportedRotations>>['last'];
  for (;;) {
    const { rotations, last } = await selectReportedRotations(database, range, after);
    yield* rotations;
    if (rotations.length < PAGE) return;
    after = last;
  }
}

async function* keysOf(database: Database, range: Range): AsyncGenerator<ReportedKey> {
  yield* await selectReportedUpperKeys(database, range);
  let after: ReportedKey | undefined;
  for (;;) {
    const keys = await selectReportedKeys(database, range, after);
    yield* keys;
    if (keys.length < PAGE) return;
    after = keys.at(-1);
  }
}

async function* byProject<Row extends OverdueProject | OffProject>(
  select: (after: string | undefined) => Promise<Row[]>,
): AsyncGenerator<Row> {
  let after: string | undefined;
  for (;;) {
    const projects = await select(after);
    yield* projects;
    if (projects.length < PAGE) return;
    after = projects.at(-1)?.projectId;
  }
}
