/** What `.ci/run` promises to have, in `MESHHOOK_CI_REQUIRE`: names separated by commas. */
const required = (process.env['MESHHOOK_CI_REQUIRE'] ?? '').split(',');

/**
 * Whether tests that need something run: they do when it was found, and when it is required they run and fail without it.
 * Says why they are skipped.
 */
export function canRun(name: string, found: boolean, why: string): boolean {
  if (found || required.includes(name)) return true;
  console.log(`skipped: ${why}`);
  return false;
}
