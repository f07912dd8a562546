import type { KeyObject } from 'node:crypto';
import { keyFromHandle, keyHandle } from '../secret-bytes.ts';
import type { Handed } from '../threads.ts';
import type { HeldKey, LostReason, ProofBatch, RewrapBatch } from './key-batch.ts';

type Handle = readonly [id: string, key: KeyObject];

/** A batch on its way to a thread: wrapping keys as handles. */
export interface PackedBatch {
  readonly keys: RewrapBatch['keys'];
  readonly from?: readonly (Handle | readonly [id: string, why: LostReason])[];
  /** Of a proof: what they should be under. */
  readonly to: Handle;
}

/** The keys are copied: whoever asks needs them to say what they were, and to do it here if need be. */
export function packBatch(batch: RewrapBatch | ProofBatch): Handed<PackedBatch> {
  const keys = new Uint8Array(batch.keys);
  const packed =
    'to' in batch
      ? {
          keys,
          from: [...batch.from].map(([id, key]) => [id, typeof key === 'string' ? key : keyHandle(key)] as const),
          to: handleOf(batch.to),
        }
      : { keys, to: handleOf(batch.under) };
  return [packed, [keys.buffer]];
}

export function unpackBatch({ keys, from, to }: PackedBatch): RewrapBatch | ProofBatch {
  if (from === undefined) return { keys, under: heldBy(to) };
  const held = from.map(([id, key]) => [id, typeof key === 'string' ? key : keyFromHandle(key)] as const);
  return { keys, from: new Map(held), to: heldBy(to) };
}

const handleOf = ({ id, key }: HeldKey): Handle => [id, keyHandle(key)];
const heldBy = ([id, key]: Handle): HeldKey => ({ id, key: keyFromHandle(key) });
