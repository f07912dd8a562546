import type { BlockingKey } from '../api-upper-keys.ts';
import { dataKeyAadBuilder, dataKeyAadUnder } from '../envelope/aad.ts';
import { uuidToBytes } from '../envelope/format.ts';
import { opener, sealer } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import type { WrappingKey } from '../keyring/wrapping-keys.ts';
import { equalBytes, keyFingerprint, keyFromBytes, wipe, type SecretKey } from '../secret-bytes.ts';
import { countPacked, fieldOf, fields, WRAPPED_BYTES, type PackedKeys } from './packed-keys.ts';

/** Bytes only: keys are opened under the wrapping key that each names, and wrapped by another. Here or in a thread. */

export type HeldKey = Pick<WrappingKey, 'id' | 'key'>;

/** Why a key could not be opened. */
export type LostReason = Exclude<BlockingKey['reason'], 'held'>;

/** Data keys to be wrapped anew. */
export interface RewrapBatch {
  readonly keys: PackedKeys;
  /** The wrapping keys that they are under, or why one is not to be had. */
  readonly from: ReadonlyMap<string, SecretKey | LostReason>;
  readonly to: HeldKey;
}

/** Data keys to be read back. */
export interface ProofBatch {
  readonly keys: PackedKeys;
  readonly under: HeldKey;
}

/** What became of a batch, by each key's number in it. */
export interface BatchOutcome {
  readonly lost: ReadonlyMap<number, LostReason>;
  /** Of a rewrap: the new wrapped keys, one after another, with zeros for what was lost. */
  readonly after: Uint8Array<ArrayBuffer>;
  /** Of a proof: how many are under another wrapping key, and were not looked at. */
  readonly stray: number;
}

export function tryKeys(batch: RewrapBatch | ProofBatch): BatchOutcome {
  return 'to' in batch ? rewrapKeys(batch) : proveKeys(batch);
}

/**
 * What it gives was opened again, and is what it was made of. Whether that is the key of the row's check value is for the read-back that
 * comes after, of every key: working it out here as well would cost a sixth of the whole.
 */
function rewrapKeys({ keys, from, to }: RewrapBatch): BatchOutcome {
  // One, hardly ever two: found by its bytes. A text of every key's would cost more than all else here but the cryptography.
  const origins = [...from].map(([id, key]) => ({
    id: uuidToBytes(id),
    held: typeof key === 'string' ? key : { open: opener(key, id), aad: dataKeyAadBuilder(id) },
  }));
  const aadUnderIt = dataKeyAadUnder(to.id);
  const sealUnder = sealer(to.key, to.id);
  const openAgain = opener(to.key, to.id);
  const count = countPacked(keys);
  const after = new Uint8Array(count * WRAPPED_BYTES);
  const lost = new Map<number, LostReason>();
  for (let number = 0; number < count; number++) {
    const id = fieldOf(keys, number, fields.wrappingKeyId);
    const origin = origins.find((one) => one.id.equals(id))?.held ?? 'key_unavailable';
    if (typeof origin === 'string') {
      lost.set(number, origin);
      continue;
    }
    let bytes: Buffer | undefined;
    let again: Buffer | undefined;
    try {
      const aad = origin.aad(placeOf(keys, number));
      bytes = origin.open(fieldOf(keys, number, fields.wrapped), aad);
      const aadAfter = aadUnderIt(aad);
      const wrapped = sealUnder(bytes, aadAfter);
      again = openAgain(wrapped, aadAfter);
      if (!equalBytes(again, bytes)) throw decryptionFailed();
      after.set(wrapped, number * WRAPPED_BYTES);
    } catch (error) {
      lost.set(number, lostReason(error));
    } finally {
      if (bytes !== undefined) wipe(bytes);
      if (again !== undefined) wipe(again);
    }
  }
  return { lost, after, stray: 0 };
}

/** Reads data keys back: whatever is not lost opens, and is the key it was. */
function proveKeys({ keys, under }: ProofBatch): BatchOutcome {
  const openUnder = opener(under.key, under.id);
  const aadOf = dataKeyAadBuilder(under.id);
  const underId = uuidToBytes(under.id);
  const lost = new Map<number, LostReason>();
  let stray = 0;
  for (let number = 0; number < countPacked(keys); number++) {
    if (!underId.equals(fieldOf(keys, number, fields.wrappingKeyId))) {
      stray += 1;
      continue;
    }
    try {
      const bytes = openUnder(fieldOf(keys, number, fields.wrapped), aadOf(placeOf(keys, number)));
      // Takes the bytes over, and zeroes them.
      const fingerprint = keyFingerprint(keyFromBytes(bytes), fieldOf(keys, number, fields.id));
      if (!equalBytes(fingerprint, fieldOf(keys, number, fields.fingerprint))) throw decryptionFailed();
    } catch (error) {
      lost.set(number, lostReason(error));
    }
  }
  return { lost, after: new Uint8Array(0), stray };
}

function placeOf(keys: PackedKeys, number: number): Parameters<ReturnType<typeof dataKeyAadBuilder>>[0] {
  return {
    projectId: fieldOf(keys, number, fields.projectId),
    version: fieldOf(keys, number, fields.version),
    keyId: fieldOf(keys, number, fields.id),
  };
}

/** @throws whatever says nothing of the key. */
export function lostReason(error: unknown): LostReason {
  if (error instanceof KeyringError && error.code === 'decryption_failed') return 'does_not_open';
  throw error;
}
