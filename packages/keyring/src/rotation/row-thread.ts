/** The thread that `row-threads.ts` starts: batches in, outcomes out, one at a time, nothing kept. */
import { parentPort } from 'node:worker_threads';
import { tryBatch } from './row-batch.ts';
import { packOutcomes, unpackBatch, type PackedBatch, type PackedOutcomes } from './row-packing.ts';

export interface Asked {
  readonly number: number;
  readonly batch: PackedBatch;
}

export interface Answered {
  readonly number: number;
  /** Undefined when the work failed as a whole. */
  readonly outcomes: PackedOutcomes | undefined;
}

parentPort?.on('message', ({ number, batch }: Asked) => {
  try {
    const outcomes = packOutcomes(batch, tryBatch(unpackBatch(batch)));
    parentPort?.postMessage({ number, outcomes } satisfies Answered, [outcomes.envelopes.buffer]);
  } catch {
    // Whoever asked does it again itself, and gets the error as it is.
    parentPort?.postMessage({ number, outcomes: undefined } satisfies Answered);
  }
});
