import { describe } from 'vitest';

/** What takes minutes: the same proofs as in packages/keyring/test/engine, at more points. In files of their own, so that they run side by side. */
export const describeLong = describe.skipIf(process.env['MESHHOOK_LONG'] !== '1');

export const LONG_MS = 3_600_000;
