/** In every process that runs tests: notes each key that is made there, so that the end of the run can look for it. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { afterAll } from 'vitest';
import { noteKeys } from './needles.ts';

const pending: string[] = [];
const flush = (): void => {
  noteKeys(pending.splice(0));
};

const { createSecretKey } = crypto;
crypto.createSecretKey = ((...args: Parameters<typeof createSecretKey>) => {
  const key = createSecretKey(...args);
  const bytes = key.export();
  // Made-up ones, all of one byte, are everywhere.
  if (bytes.length === 32 && new Set(bytes).size > 8) {
    pending.push(bytes.toString('hex'));
    if (pending.length >= 1_000) flush();
  }
  return key;
}) as typeof createSecretKey;
syncBuiltinESMExports();

afterAll(flush);
