import { describe } from 'vitest';
import { isLongRun } from '../../support/long.ts';

/** What takes minutes: the same proofs as in packages/keyring/test/engine, at more points. In files of their own, so that they run side by side. */
export const describeLong = describe.skipIf(!isLongRun);

export { LONG_MS } from '../../support/long.ts';
