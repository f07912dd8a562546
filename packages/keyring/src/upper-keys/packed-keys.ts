import { uuidFromBytes } from '../envelope/format.ts';

/**
 * Wrapped data keys as they travel: PostgreSQL packs those of a batch one after another, all of one length, and they go as one block of
 * memory to a thread. No object for each, and no text of any id.
 */
export type PackedKeys = Uint8Array<ArrayBuffer>;

/** What packs them in SQL, for a row `k` of `keyring.encryption_keys` that has its bytes. */
export const packedInSql = `tidsend(k.ctid) || uuid_send(k.id) || uuid_send(k.project_id) || int4send(k.version)
  || uuid_send(k.wrapping_key_id) || k.wrapped_key || k.fingerprint`;

/** A table's row address, as PostgreSQL sends it. */
const PLACE = [0, 6] as const;
const ID = [6, 22] as const;
const PROJECT = [22, 38] as const;
const VERSION = [38, 42] as const;
const WRAPPING = [42, 58] as const;
const WRAPPED = [58, 136] as const;
const FINGERPRINT = [136, 168] as const;

const LENGTH = 168;
/** Of a wrapped data key: an envelope of 32 bytes. */
export const WRAPPED_BYTES = 78;

export type Field = readonly [from: number, to: number];
export const fields = {
  place: PLACE,
  id: ID,
  projectId: PROJECT,
  version: VERSION,
  wrappingKeyId: WRAPPING,
  wrapped: WRAPPED,
  fingerprint: FINGERPRINT,
} as const;

export function countPacked(keys: PackedKeys): number {
  if (keys.length % LENGTH !== 0) throw new TypeError('Not a whole number of packed keys.');
  return keys.length / LENGTH;
}

/** A view, not a copy. */
export function fieldOf(keys: PackedKeys, number: number, [from, to]: Field): Uint8Array {
  const at = number * LENGTH;
  return keys.subarray(at + from, at + to);
}

/** The key as people name it. */
export function namedKey(keys: PackedKeys, number: number): { id: string; projectId: string; version: number } {
  const version = fieldOf(keys, number, VERSION);
  return {
    id: uuidFromBytes(fieldOf(keys, number, ID)),
    projectId: uuidFromBytes(fieldOf(keys, number, PROJECT)),
    version: new DataView(version.buffer, version.byteOffset).getInt32(0),
  };
}

/** Ids of the wrapping keys that any of them is under. */
export function wrappingKeysOf(keys: PackedKeys): string[] {
  const found: Uint8Array[] = [];
  for (let number = 0; number < countPacked(keys); number++) {
    const id = fieldOf(keys, number, WRAPPING);
    // A rewrap has one, hardly ever two.
    if (!found.some((one) => Buffer.compare(one, id) === 0)) found.push(id);
  }
  return found.map((id) => uuidFromBytes(id));
}
