/**
 * Adds up test runs from vitest's JSON reports and single steps, and ends with one plain line:
 *
 *   node scripts/sum-tests.ts --step check=0 npm-test.json=0 postgresql-15.json=0
 *   1301 passed, 0 failed, 2 skipped
 *
 * `--step NAME=STATUS` is a step that is one test, by its exit status; a report comes with the exit status of its run, because
 * vitest's report does not know of errors outside every test. Exits 1 when something failed, a report is missing
 * or says less than it should, or no test ran.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

export interface Sum {
  passed: number;
  failed: number;
  skipped: number;
  /** One line each, for a person. */
  readonly notes: string[];
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
export function addReport(sum: Sum, label: string, status: string, read: () => string): void {
  let report: Report;
  try {
    report = JSON.parse(read()) as Report;
    if (!Object.hasOwn(report, 'testResults')) throw new Error('it holds no test results');
  } catch (error) {
    sum.failed += 1;
    sum.notes.push(`${label}: no report (${error instanceof Error ? error.message : String(error)})`);
    return;
  }
  const before = { ...sum };
  for (const { name, status: outcome, message, assertionResults } of report.testResults) {
    for (const test of assertionResults) {
      if (test.status === 'passed') sum.passed += 1;
      else if (test.status === 'failed') {
        sum.failed += 1;
        sum.notes.push(`${label}: failed: ${test.fullName}`);
      } else sum.skipped += 1;
    }
    // A file that does not load, or whose hooks fail, has failed though none of its tests did.
    if (outcome === 'failed' && !assertionResults.some((test) => test.status === 'failed')) {
      sum.failed += 1;
      sum.notes.push(`${label}: failed: ${path.basename(name)}: ${(message ?? '').split('\n')[0] ?? ''}`);
    }
  }
  const ran = sum.passed + sum.failed - before.passed - before.failed;
  if (ran === 0) {
    sum.failed += 1;
    sum.notes.push(`${label}: no test ran`);
  } else if ((!report.success || status !== '0') && sum.failed === before.failed) {
    // An error outside every test: an unhandled rejection, a failed teardown.
    sum.failed += 1;
    sum.notes.push(`${label}: every test passed, but the run ended with status ${status}`);
  }
}

export function addStep(sum: Sum, step: string): void {
  const [name = '', status = ''] = step.split('=');
  if (status === '0') sum.passed += 1;
  else {
    sum.failed += 1;
    sum.notes.push(`${name}: failed${status === '' ? '' : ` with status ${status}`}`);
  }
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
      addReport(sum, path.basename(file, '.json'), status, () => readFileSync(file, 'utf8'));
    }
  }
  if (reports === 0) {
    sum.failed += 1;
    sum.notes.push('no test run was reported');
  }
  for (const note of sum.notes) console.log(note);
  console.log(summaryLine(sum));
  process.exitCode = sum.failed > 0 ? 1 : 0;
}
