import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { tryBatch, type RowBatch, type RowOutcome } from './row-batch.ts';
import { packBatch, unpackOutcomes, type PackedOutcomes } from './row-packing.ts';
import type { Answered, Asked } from './row-thread.ts';

// Below this, handing over costs more than it frees.
const LEAST_ROWS = 200;
// This thread has half as much to do for a row as one of those: more than two would wait for it.
const MOST_THREADS = 2;
const IDLE_MS = 10_000;
const YOUNG_MB = 8;

/**
 * Threads that encrypt beside this one, so that it can talk to PostgreSQL meanwhile. Started when first wanted, ended when idle. Where
 * there is one core, or no thread to be had, as in a program that was bundled into a file, the work is done here.
 */
export class RowThreads {
  readonly #threads: RowThread[] = [];
  readonly #most: number;
  readonly #leastRows: number;
  #idle: NodeJS.Timeout | undefined;
  readonly #done = { there: 0, here: 0 };

  constructor({ threads = Math.min(MOST_THREADS, availableParallelism() - 1), leastRows = LEAST_ROWS } = {}) {
    this.#most = threads;
    this.#leastRows = leastRows;
  }

  /** Batches done so far: in threads, and by whoever asked. */
  get report(): { readonly there: number; readonly here: number } {
    return this.#done;
  }

  /** `tryBatch`, there or here. */
  async tryBatch(batch: RowBatch): Promise<RowOutcome[]> {
    const wanted = batch.rows.length >= this.#leastRows && this.#most > 0;
    const outcomes = wanted ? await this.#thread().ask(batch) : undefined;
    this.#done[outcomes === undefined ? 'here' : 'there'] += 1;
    if (outcomes === undefined) return tryBatch(batch);
    return unpackOutcomes(outcomes, batch.rows, batch.target !== undefined);
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await Promise.all(this.#threads.splice(0).map((thread) => thread.end()));
  }

  #thread(): RowThread {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => void this.#endIdle(), IDLE_MS);
    this.#idle.unref();
    const [least] = this.#threads.sort((a, b) => a.waiting - b.waiting);
    if (least !== undefined && (least.waiting === 0 || this.#threads.length >= this.#most)) return least;
    const thread = new RowThread();
    this.#threads.push(thread);
    return thread;
  }

  async #endIdle(): Promise<void> {
    if (this.#threads.every((thread) => thread.waiting === 0)) await this.close();
  }
}

class RowThread {
  readonly #worker: Worker | undefined;
  readonly #waiting = new Map<number, (outcomes: PackedOutcomes | undefined) => void>();
  #asked = 0;
  #failed = false;

  constructor() {
    try {
      // As this file is called: .ts in the sources, .js in what is built.
      const file = new URL(`./row-thread${extname(import.meta.url)}`, import.meta.url);
      // Nothing of ours is on its command line or in its environment.
      this.#worker = new Worker(file, {
        ...{ name: 'keyring rows', env: {}, argv: [], execArgv: [] },
        // Nothing lives longer than its batch: more would only be more memory.
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
      });
    } catch {
      this.#failed = true;
      return;
    }
    this.#worker.unref();
    this.#worker.on('message', ({ number, outcomes }: Answered) => {
      this.#answer(number, outcomes);
    });
    const lost = (): void => {
      this.#failed = true;
      for (const number of [...this.#waiting.keys()]) this.#answer(number, undefined);
    };
    this.#worker.on('error', lost);
    this.#worker.on('exit', lost);
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Undefined when it cannot be done there. */
  ask(batch: RowBatch): Promise<PackedOutcomes | undefined> {
    const worker = this.#worker;
    if (worker === undefined || this.#failed) return Promise.resolve(undefined);
    const number = this.#asked++;
    const packed = packBatch(batch);
    return new Promise((resolve) => {
      this.#waiting.set(number, resolve);
      // A process whose last work is there must not end before it.
      worker.ref();
      worker.postMessage({ number, batch: packed } satisfies Asked, [packed.envelopes.buffer]);
    });
  }

  async end(): Promise<void> {
    await this.#worker?.terminate();
  }

  #answer(number: number, outcomes: PackedOutcomes | undefined): void {
    this.#waiting.get(number)?.(outcomes);
    this.#waiting.delete(number);
    if (this.#waiting.size === 0) this.#worker?.unref();
  }
}
