import fc from 'fast-check';

/**
 * Of random input: the same in every run, so that what has passed passes again, or what MESHHOOK_SEED says. fast-check tells it with
 * what fails.
 */
export const seed = Number(process.env['MESHHOOK_SEED'] ?? 20261127);

fc.configureGlobal({ seed });

/** fast-check, which begins with that seed in every file that has it from here. */
export default fc;
