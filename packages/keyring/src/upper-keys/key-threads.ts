import { extname } from 'node:path';
import { Threads } from '../threads.ts';
import { tryKeys, type BatchOutcome, type ProofBatch, type RewrapBatch } from './key-batch.ts';
import { packBatch, type PackedBatch } from './key-packing.ts';
import { countPacked } from './packed-keys.ts';

// Below this, handing over costs more than it frees.
const LEAST_KEYS = 200;
// One that is worked on, and one to go on with: what comes beyond is done here meanwhile.
const MOST_AHEAD = 2;
// As this file is called: .ts in the sources, .js in what is built.
const file = new URL(`./key-thread${extname(import.meta.url)}`, import.meta.url);

/** Wraps and proves keys beside this thread (docs/decisions/0018-crypto-in-threads.md), and in it while those are busy. */
export class KeyThreads {
  readonly #threads: Threads<PackedBatch, BatchOutcome>;
  readonly #leastKeys: number;
  readonly #done = { there: 0, here: 0 };

  constructor({ threads, leastKeys = LEAST_KEYS }: { threads?: number; leastKeys?: number } = {}) {
    this.#threads = new Threads(file, 'keyring keys', threads);
    this.#leastKeys = leastKeys;
  }

  /** Batches done so far: in threads, and by whoever asked. */
  get report(): { readonly there: number; readonly here: number } {
    return this.#done;
  }

  /** `tryKeys`, there or here. */
  async tryKeys(batch: RewrapBatch | ProofBatch): Promise<BatchOutcome> {
    const goes = countPacked(batch.keys) >= this.#leastKeys && this.#threads.ahead < MOST_AHEAD;
    const outcome = goes ? await this.#threads.ask(() => packBatch(batch)) : undefined;
    this.#done[outcome === undefined ? 'here' : 'there'] += 1;
    return outcome ?? tryKeys(batch);
  }

  close(): Promise<void> {
    return this.#threads.close();
  }
}
