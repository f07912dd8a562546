import { test } from 'vitest';

/** Does this run take the time for everything? `.ci/run` does; `npm test` does not. */
export const isLongRun = process.env['MESHHOOK_LONG'] === '1';

/** Tells that one hangs, while `.ci/run` has time for all the others. */
export const LONG_MS = 1_500_000;

/** A test that only a long run has time for; elsewhere it is shown as skipped, and its name says what runs it. */
export function longTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!isLongRun)(`${name} (long run: MESHHOOK_LONG=1)`, body, LONG_MS);
}
