import type { Queryable } from '../db/port.ts';
import { reserveUsage } from './usage-store.ts';

// A process that dies loses at most this much of a version's budget of thousands of millions.
const BLOCK = 1_000;

/**
 * Counts the encryptions of each version (SP 800-38D, 8.3: at most 2^32 with random nonces) by reserving blocks in the
 * database before using them.
 */
export class UsageMeter {
  readonly #database: Queryable;
  readonly #left = new Map<string, number>();

  constructor(database: Queryable) {
    this.#database = database;
  }

  /** Resolves once `count` encryptions under a version are accounted for. */
  async spend(keyId: string, count: number): Promise<void> {
    for (;;) {
      const left = this.#left.get(keyId) ?? 0;
      if (left >= count) {
        this.#left.set(keyId, left - count);
        return;
      }
      const block = Math.max(BLOCK, count);
      await reserveUsage(this.#database, keyId, block);
      // Others may have reserved, and spent, meanwhile: add to what is there now.
      if (this.#left.size >= 100_000) this.#left.clear();
      this.#left.set(keyId, (this.#left.get(keyId) ?? 0) + block);
    }
  }
}
