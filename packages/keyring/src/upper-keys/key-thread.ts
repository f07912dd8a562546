/** The thread that `key-threads.ts` starts. */
import { answerTasks, type Handed } from '../threads.ts';
import { tryKeys, type BatchOutcome } from './key-batch.ts';
import { unpackBatch, type PackedBatch } from './key-packing.ts';

answerTasks((batch: PackedBatch): Handed<BatchOutcome> => {
  const outcome = tryKeys(unpackBatch(batch));
  return [outcome, [outcome.after.buffer]];
});
