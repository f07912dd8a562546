import type { KeyObject } from 'node:crypto';
import { keyFromHandle, keyHandle } from '../secret-bytes.ts';
import type { RowBatch, RowOutcome, UnreadableReason } from './row-batch.ts';

/** A batch on its way to a thread: the envelopes in one block of memory that is handed over, keys as handles. */
export interface PackedBatch {
  readonly projectId: string;
  readonly label: string;
  readonly rowIds: readonly string[];
  /** By row: which of `versions` it names. */
  readonly versionOf: Uint32Array;
  readonly versions: readonly (readonly [keyId: string, key: KeyObject | UnreadableReason])[];
  readonly target: readonly [keyId: string, key: KeyObject] | undefined;
  readonly lengths: Uint32Array;
  readonly envelopes: Uint8Array<ArrayBuffer>;
}

/** What comes back: the new envelopes, each as long as the old one and at its place, and which rows have none. */
export interface PackedOutcomes {
  readonly envelopes: Uint8Array<ArrayBuffer>;
  readonly unreadable: ReadonlyMap<number, UnreadableReason>;
}

export function packBatch({ rows, versions, target, ...place }: RowBatch): PackedBatch {
  const numbers = new Map([...versions.keys()].map((keyId, number) => [keyId, number]));
  const envelopes = new Uint8Array(rows.reduce((sum, row) => sum + row.envelope.length, 0));
  const lengths = new Uint32Array(rows.length);
  const versionOf = new Uint32Array(rows.length);
  let at = 0;
  for (const [number, { envelope, keyId }] of rows.entries()) {
    envelopes.set(envelope, at);
    at += envelope.length;
    lengths[number] = envelope.length;
    versionOf[number] = numbers.get(keyId) ?? numbers.size;
  }
  return {
    ...place,
    rowIds: rows.map((row) => row.id),
    versionOf,
    versions: [...versions].map(([keyId, key]) => [keyId, typeof key === 'string' ? key : keyHandle(key)] as const),
    target: target && [target.keyId, keyHandle(target.key)],
    lengths,
    envelopes,
  };
}

export function unpackBatch(packed: PackedBatch): RowBatch {
  const { projectId, label, rowIds, versionOf, versions, target, lengths, envelopes } = packed;
  let at = 0;
  return {
    projectId,
    label,
    rows: rowIds.map((id, number) => {
      const envelope = envelopes.subarray(at, (at += lengths[number] ?? 0));
      return { id, envelope, keyId: versions[versionOf[number] ?? -1]?.[0] ?? '' };
    }),
    versions: new Map(
      versions.map(([keyId, key]) => [keyId, typeof key === 'string' ? key : keyFromHandle(key)] as const),
    ),
    target: target && { keyId: target[0], key: keyFromHandle(target[1]) },
  };
}

/** Into the memory that the old envelopes came in. */
export function packOutcomes({ lengths, envelopes }: PackedBatch, outcomes: readonly RowOutcome[]): PackedOutcomes {
  const unreadable = new Map<number, UnreadableReason>();
  let at = 0;
  for (const [number, outcome] of outcomes.entries()) {
    if (typeof outcome === 'string') unreadable.set(number, outcome);
    else if (outcome !== undefined) envelopes.set(outcome, at);
    at += lengths[number] ?? 0;
  }
  return { envelopes, unreadable };
}

/** `resealed`: had the batch a target? */
export function unpackOutcomes(
  { envelopes, unreadable }: PackedOutcomes,
  rows: RowBatch['rows'],
  resealed: boolean,
): RowOutcome[] {
  let at = 0;
  return rows.map(({ envelope: { length } }, number) => {
    const from = at;
    at += length;
    return unreadable.get(number) ?? (resealed ? Buffer.from(envelopes.buffer, from, length) : undefined);
  });
}
