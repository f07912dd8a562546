import type { BlockingKey } from '../api-upper-keys.ts';
import { KeyringError } from '../errors.ts';
import { privateKeyOf, unwrapSeed, wrapSeed } from '../keyring/signing-keys.ts';
import type { WrappingKey, WrappingKeys } from '../keyring/wrapping-keys.ts';
import { wipe, type SecretKey } from '../secret-bytes.ts';
import { lostReason, type LostReason } from './key-batch.ts';
import type { RewrappedSigningKey, WrappedSigningKey } from './rewrap-store.ts';

/** Bytes only: a key is opened under the wrapping key that its row names, and wrapped by another. */

/** Either what is to be written, or why it cannot be. */
export type Outcome = { readonly rewrapped: RewrappedSigningKey } | { readonly lost: BlockingKey };

export function rewrapSigningKey(row: WrappedSigningKey, held: WrappingKeys, to: WrappingKey): Outcome {
  let seed: Buffer | undefined;
  try {
    seed = unwrapSeed(row, held.get(row.wrapping_key_id));
    const after = wrapSeed(seed, row, to);
    const lost = proveSigningKey({ ...row, wrapped_key: after }, to);
    return lost === undefined ? { rewrapped: { id: row.id, before: row.wrapped_key, after } } : { lost };
  } catch (error) {
    return { lost: lostSigning(row, error) };
  } finally {
    if (seed !== undefined) wipe(seed);
  }
}

export function proveSigningKey(row: WrappedSigningKey, under: WrappingKey): BlockingKey | undefined {
  let seed: Buffer | undefined;
  try {
    seed = unwrapSeed(row, under);
    privateKeyOf(seed, row.public_key);
    return undefined;
  } catch (error) {
    return lostSigning(row, error);
  } finally {
    if (seed !== undefined) wipe(seed);
  }
}

/** The wrapping key, or why keys under it cannot be opened. */
export function heldOrLost(held: WrappingKeys, id: string): SecretKey | LostReason {
  try {
    return held.get(id).key;
  } catch (error) {
    return reasonOf(error);
  }
}

function lostSigning({ id, version }: WrappedSigningKey, error: unknown): BlockingKey {
  return { kind: 'signing', id, projectId: undefined, version, reason: reasonOf(error) };
}

function reasonOf(error: unknown): LostReason {
  const isGone = error instanceof KeyringError && (error.code === 'key_destroyed' || error.code === 'unknown_key');
  return isGone ? 'key_unavailable' : lostReason(error);
}
