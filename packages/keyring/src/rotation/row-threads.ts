import { extname } from 'node:path';
import { Threads } from '../threads.ts';
import { tryBatch, type RowBatch, type RowOutcome } from './row-batch.ts';
import { packBatch, unpackOutcomes, type PackedBatch, type PackedOutcomes } from './row-packing.ts';

// Below this, handing over costs more than it frees.
const LEAST_ROWS = 200;
// As this file is called: .ts in the sources, .js in what is built.
const file = new URL(`./row-thread${extname(import.meta.url)}`, import.meta.url);

/** Encrypts rows beside this thread (docs/decisions/0018-crypto-in-threads.md). */
export class RowThreads {
  readonly #threads: Threads<PackedBatch, PackedOutcomes>;
  readonly #leastRows: number;
  readonly #done = { there: 0, here: 0 };

  constructor({ threads, leastRows = LEAST_ROWS }: { threads?: number; leastRows?: number } = {}) {
    this.#threads = new Threads(file, 'keyring rows', threads);
    this.#leastRows = leastRows;
  }

  /** Batches done so far: in threads, and by whoever asked. */
  get report(): { readonly there: number; readonly here: number } {
    return this.#done;
  }

  /** `tryBatch`, there or here. */
  async tryBatch(batch: RowBatch): Promise<RowOutcome[]> {
    const pack = () => {
      const packed = packBatch(batch);
      return [packed, [packed.envelopes.buffer]] as const;
    };
    const outcomes = batch.rows.length >= this.#leastRows ? await this.#threads.ask(pack) : undefined;
    this.#done[outcomes === undefined ? 'here' : 'there'] += 1;
    if (outcomes === undefined) return tryBatch(batch);
    return unpackOutcomes(outcomes, batch.rows, batch.target !== undefined);
  }

  close(): Promise<void> {
    return this.#threads.close();
  }
}
