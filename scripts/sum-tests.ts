/**
 * Adds up test runs from vitest's JSON reports and single steps, and ends with one plain line:
 *
 *   node scripts/sum-tests.ts --step check=0=check.log npm-test.json=0 postgresql-15.json=0
 *   1301 passed, 0 failed, 2 skipped
 *
 * `--step NAME=STATUS[=LOG]` is a step that is one test, by its exit status; a report comes with the exit status of its run, because
 * vitest's report does not know of errors outside every test. Beside `npm-test.json` may be `npm-test.failures`
 * (test/support/failures.ts) and `npm-test.log`, which say what was wrong: it is repeated before the sum. Exits 1 when something
 * failed, a report is missing or says less than it should, or no test ran.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Failure } from '../test/support/failures.ts';
import { inFewLines, type Note } from './failures.ts';

const LINES_OF_LOG = 14;
/** Of `timeout`, by which `.ci/run` bounds everything. */
const CUT_OFF = '124';

export interface Sum {
  passed: number;
  failed: number;
  skipped: number;
  /** For a person. */
  readonly notes: Note[];
}

interface Report {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** Counts a report; one that is missing or cannot be read is a failure, never nothing. `status` is how its run ended. */
export function addReport(sum: Sum, file: string, status: string): void {
  const label = path.basename(file, '.json');
  const log = file.replace(/\.json$/, '.log');
  const note = (title: string, lines: readonly string[] = []): void =>
    void sum.notes.push({ title: `${label}: ${title}`, lines });
  let report: Report;
  try {
    report = JSON.parse(readFileSync(file, 'utf8')) as Report;
    if (!Object.hasOwn(report, 'testResults')) throw new Error('it holds no test results');
  } catch (error) {
    sum.failed += 1;
    if (status === CUT_OFF) note('cut off: it took longer than it may', endOf(log));
    else note(`no report (${error instanceof Error ? error.message : String(error)})`, endOf(log));
    return;
  }
  const before = { ...sum };
  const failures = new Map(readFailures(file).map((one) => [`${one.file} ${spoken(one.name)}`, one]));
  const tell = (name: string, of: string): void => {
    const key = `${of} ${spoken(name)}`;
    note(`failed: ${name}`, [path.relative('.', of), ...inLines(failures.get(key))]);
    failures.delete(key);
  };
  for (const { name, status: outcome, message, assertionResults } of report.testResults) {
    for (const test of assertionResults) {
      if (test.status === 'passed') sum.passed += 1;
      else if (test.status === 'failed') {
        sum.failed += 1;
        tell(test.fullName, name);
      } else sum.skipped += 1;
    }
    // A file that does not load, or whose hooks fail, has failed though none of its tests did.
    if (outcome === 'failed' && !assertionResults.some((test) => test.status === 'failed')) {
      sum.failed += 1;
      if ([...failures.values()].some(({ file: of }) => of === name)) continue;
      note(`failed: ${path.basename(name)}: ${(message ?? '').split('\n')[0] ?? ''}`);
    }
  }
  // What belongs to no test: hooks, files that do not load, errors that nobody caught.
  for (const one of failures.values()) note(`failed: ${one.name}`, [path.relative('.', one.file), ...inLines(one)]);
  const ran = sum.passed + sum.failed - before.passed - before.failed;
  if (ran === 0) {
    sum.failed += 1;
    note('no test ran', endOf(log));
  } else if ((!report.success || status !== '0') && sum.failed === before.failed) {
    // An error outside every test: an unhandled rejection, a failed teardown.
    sum.failed += 1;
    note(`every test passed, but the run ${ending(status)}`, endOf(log));
  }
}

function readFailures(report: string): Failure[] {
  const file = report.replace(/\.json$/, '.failures');
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Failure);
}

function inLines(failure: Failure | undefined): string[] {
  if (failure === undefined) return [];
  const { errors, seed } = failure;
  return [...(seed === undefined ? [] : [`seed ${String(seed)}`]), ...errors];
}

/** One report joins the titles around a test by blanks, the other by arrows. */
function spoken(name: string): string {
  return name.replaceAll(' > ', ' ');
}

function endOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n').slice(-LINES_OF_LOG) : [];
}

export function addStep(sum: Sum, step: string): void {
  const [name = '', status = '', log = ''] = step.split('=');
  if (status === '0') sum.passed += 1;
  else {
    sum.failed += 1;
    sum.notes.push({ title: `${name}: failed${status === '' ? '' : `: it ${ending(status)}`}`, lines: endOf(log) });
  }
}

function ending(status: string): string {
  return status === CUT_OFF ? 'was cut off: it took longer than it may' : `ended with status ${status}`;
}

export function summaryLine({ passed, failed, skipped }: Sum): string {
  return `${String(passed)} passed, ${String(failed)} failed${skipped > 0 ? `, ${String(skipped)} skipped` : ''}`;
}

if (import.meta.main) {
  const sum: Sum = { passed: 0, failed: 0, skipped: 0, notes: [] };
  const args = process.argv.slice(2);
  let reports = 0;
  while (args.length > 0) {
    const arg = args.shift() ?? '';
    if (arg === '--step') addStep(sum, args.shift() ?? '');
    else {
      reports += 1;
      const [, file = arg, status = ''] = /^(.*)=(\d*)$/.exec(arg) ?? [];
      addReport(sum, file, status);
    }
  }
  if (reports === 0) {
    sum.failed += 1;
    sum.notes.push({ title: 'no test run was reported', lines: [] });
  }
  for (const line of inFewLines(sum.notes)) console.log(line);
  console.log(summaryLine(sum));
  process.exitCode = sum.failed > 0 ? 1 : 0;
}
