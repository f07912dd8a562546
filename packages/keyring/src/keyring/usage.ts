import { transaction, type Database, type Queryable, type TransactionOptions } from '../db/port.ts';
import { reserveUsage, type Reservation } from './usage-store.ts';

// A process that dies loses at most this much of a version's budget of thousands of millions.
const BLOCK = 1_000;
const MOST_VERSIONS = 100_000;

/**
 * Counts the encryptions of each version (SP 800-38D, 8.3: at most 2^32 with random nonces) by reserving blocks in the
 * database before using them.
 */
export class UsageMeter {
  readonly #database: Database;
  readonly #left = new Map<string, number>();

  constructor(database: Database) {
    this.#database = database;
  }

  /** Resolves once `count` encryptions under a version are accounted for. */
  spend(keyId: string, count: number, options: TransactionOptions = {}): Promise<void> {
    return this.spendAll([{ keyId, count }], options);
  }

  /** The same for many versions, each named once, by one statement at most. A delete of a project that is under way holds its row. */
  async spendAll(
    wanted: readonly { readonly keyId: string; readonly count: number }[],
    options: TransactionOptions = {},
  ): Promise<void> {
    for (let missing = this.#take(wanted); missing.length > 0; missing = this.#take(missing)) {
      const blocks = missing.map(({ keyId, count }) => ({ keyId, encryptions: Math.max(BLOCK, count) }));
      await transaction(this.#database, (tx) => reserveUsage(tx, blocks), options);
      // Others may have reserved, and spent, meanwhile: add to what is there now.
      this.#add(blocks);
    }
  }

  /**
   * Reserves a first block for each of these new versions in the caller's transaction. What it gives makes them known here:
   * to be called once that has committed.
   */
  async open(tx: Queryable, keyIds: readonly string[]): Promise<() => void> {
    const blocks = keyIds.map((keyId) => ({ keyId, encryptions: BLOCK }));
    await reserveUsage(tx, blocks);
    return () => {
      this.#add(blocks);
    };
  }

  #add(blocks: readonly Reservation[]): void {
    if (this.#left.size >= MOST_VERSIONS) this.#left.clear();
    for (const { keyId, encryptions } of blocks) this.#left.set(keyId, (this.#left.get(keyId) ?? 0) + encryptions);
  }

  /** Takes what is reserved already; gives those for which it is not enough. */
  #take<Wanted extends { readonly keyId: string; readonly count: number }>(wanted: readonly Wanted[]): Wanted[] {
    return wanted.filter(({ keyId, count }) => {
      const left = this.#left.get(keyId) ?? 0;
      if (left < count) return true;
      this.#left.set(keyId, left - count);
      return false;
    });
  }
}
