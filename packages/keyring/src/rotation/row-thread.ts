/** The thread that `row-threads.ts` starts. */
import { answerTasks, type Handed } from '../threads.ts';
import { tryBatch } from './row-batch.ts';
import { packOutcomes, unpackBatch, type PackedBatch, type PackedOutcomes } from './row-packing.ts';

answerTasks((batch: PackedBatch): Handed<PackedOutcomes> => {
  const outcomes = packOutcomes(batch, tryBatch(unpackBatch(batch)));
  return [outcomes, [outcomes.envelopes.buffer]];
});
