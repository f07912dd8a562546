import { appendFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node';

declare module 'vitest' {
  interface TaskMeta {
    /** What a test drew its random choices from; told with its failure. */
    seed?: number;
  }
}

/** One line of the file: what failed, and everything that was wrong with it. */
export interface Failure {
  readonly name: string;
  /** Its path; empty when it is of none. */
  readonly file: string;
  readonly errors: readonly string[];
  readonly seed?: number;
}

/**
 * Writes every failure, those outside of tests too, to the file that MESHHOOK_FAILURES names, for `scripts/sum-tests.ts` to repeat at
 * the end of all runs: Vitest's own report knows no hooks, no causes and no seeds.
 */
export default class Failures implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    for (const module of modules) {
      const file = module.moduleId;
      this.#write({ name: module.relativeModuleId, file, errors: module.errors().map(inWords) });
      for (const suite of module.children.allSuites()) {
        this.#write({ name: suite.fullName, file, errors: suite.errors().map(inWords) });
      }
      for (const test of module.children.allTests()) this.#write({ file, ...failed(test) });
    }
    this.#write({ name: 'outside of every test', file: '', errors: unhandled.map(inWords) });
  }

  #write(failure: Failure): void {
    const file = process.env['MESHHOOK_FAILURES'];
    if (file !== undefined && failure.errors.length > 0) appendFileSync(file, `${JSON.stringify(failure)}\n`);
  }
}

function failed(test: TestCase): Omit<Failure, 'file'> {
  const { seed } = test.meta();
  const errors = (test.result().errors ?? []).map(inWords);
  return { name: test.fullName, errors, ...(seed === undefined ? {} : { seed }) };
}

/** What it says, where in our files it was thrown, and what caused it. */
function inWords({ name, message, stacks, cause, diff, ...more }: SerializedError): string {
  const [at] = stacks ?? [];
  const where = at === undefined ? '' : `\n    at ${at.file}:${String(at.line)}`;
  const behind = [cause, more['error'], more['suppressed']].filter((one) => one instanceof Object) as SerializedError[];
  const difference = diff === undefined ? '' : `\n${diff}`;
  return [
    `${name ?? 'Error'}: ${message}${difference}${where}`,
    ...behind.map((one) => `because of ${inWords(one)}`),
  ].join('\n');
}
