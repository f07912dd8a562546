import type { BlockingKey } from '../api-upper-keys.ts';
import { dataKeyAadBuilder, dataKeyAadUnder, type DataKeyPlace } from '../envelope/aad.ts';
import { opener, sealer } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import { privateKeyOf, unwrapSeed, wrapSeed } from '../keyring/signing-keys.ts';
import type { WrappingKey, WrappingKeys } from '../keyring/wrapping-keys.ts';
import { equalBytes, keyFingerprint, keyFromBytes, wipe } from '../secret-bytes.ts';
import type { Rewrapped, WrappedDataKey, WrappedSigningKey } from './rewrap-store.ts';

/** Bytes only: a key is opened under the wrapping key that its row names, and wrapped by another. */

/** Where data keys come from. */
interface Origin {
  readonly open: (envelope: Uint8Array, aad: Uint8Array) => Buffer;
  readonly aad: ReturnType<typeof dataKeyAadBuilder>;
}

/** Either what is to be written, or why it cannot be. */
export type Outcome = { readonly rewrapped: Rewrapped } | { readonly lost: BlockingKey };

/**
 * For data keys that go to one wrapping key. What it gives was opened again, and is what it was made of. Whether that is the key of the
 * row's check value is for the read-back that comes after, of every key: working it out here as well would cost a sixth of the whole.
 */
export function dataKeyRewrapper(held: WrappingKeys, to: WrappingKey): (row: WrappedDataKey) => Outcome {
  const origins = new Map<string, Origin>();
  const originOf = (id: string): Origin => {
    const known = origins.get(id);
    if (known !== undefined) return known;
    const made = { open: opener(held.get(id).key, id), aad: dataKeyAadBuilder(id) };
    origins.set(id, made);
    return made;
  };
  const aadUnderIt = dataKeyAadUnder(to.id);
  const sealUnder = sealer(to.key, to.id);
  const openAgain = opener(to.key, to.id);
  return (row) => {
    let bytes: Buffer | undefined;
    let again: Buffer | undefined;
    try {
      const origin = originOf(row.wrapping_key_id);
      const aad = origin.aad(placeOf(row));
      bytes = origin.open(row.wrapped_key, aad);
      const aadAfter = aadUnderIt(aad);
      const after = sealUnder(bytes, aadAfter);
      again = openAgain(after, aadAfter);
      if (!equalBytes(again, bytes)) throw decryptionFailed();
      return { rewrapped: { id: row.id, before: row.wrapped_key, after } };
    } catch (error) {
      return { lost: lostData(row, error) };
    } finally {
      if (bytes !== undefined) wipe(bytes);
      if (again !== undefined) wipe(again);
    }
  };
}

/** Reads data keys back: undefined for one that opens and is the key it was. */
export function dataKeyProver(under: WrappingKey): (row: WrappedDataKey) => BlockingKey | undefined {
  const openUnder = opener(under.key, under.id);
  const aadOf = dataKeyAadBuilder(under.id);
  return (row) => {
    try {
      requireKey(row, openUnder(row.wrapped_key, aadOf(placeOf(row))));
      return undefined;
    } catch (error) {
      return lostData(row, error);
    }
  };
}

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

function placeOf({ id, project_id: projectId, version }: WrappedDataKey): Omit<DataKeyPlace, 'wrappingKeyId'> {
  return { projectId, version, keyId: id };
}

/** Takes the bytes over, and zeroes them. @throws KeyringError `decryption_failed` for another key. */
function requireKey({ id, fingerprint }: WrappedDataKey, bytes: Buffer): void {
  if (!equalBytes(keyFingerprint(keyFromBytes(bytes), id), fingerprint)) throw decryptionFailed();
}

function lostData(row: WrappedDataKey, error: unknown): BlockingKey {
  const { id, project_id: projectId, version } = row;
  return { kind: 'data', id, projectId, version, reason: reasonOf(error) };
}

function lostSigning({ id, version }: WrappedSigningKey, error: unknown): BlockingKey {
  return { kind: 'signing', id, projectId: undefined, version, reason: reasonOf(error) };
}

function reasonOf(error: unknown): BlockingKey['reason'] {
  if (!(error instanceof KeyringError)) throw error;
  if (error.code === 'key_destroyed' || error.code === 'unknown_key') return 'key_unavailable';
  if (error.code === 'decryption_failed') return 'does_not_open';
  throw error;
}
