import { byteaArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';

/** A data key, as wrapped. */
export interface WrappedDataKey {
  readonly id: string;
  readonly project_id: string;
  readonly version: number;
  readonly wrapped_key: Buffer;
  readonly wrapping_key_id: string;
  readonly fingerprint: Buffer;
}

/** What stands in the place of what was read. */
export interface Rewrapped {
  readonly id: string;
  readonly before: Buffer;
  readonly after: Buffer;
}

/** Heap blocks that hold data keys. */
export async function selectBlocks(database: Queryable): Promise<number> {
  const { rows } = await database.query<{ blocks: string }>({
    text: `select pg_relation_size('keyring.encryption_keys') / current_setting('block_size')::bigint as blocks`,
  });
  return Number(rows[0]?.blocks ?? 0);
}

/** Data keys on a range of heap blocks that have their bytes; but for those under `exceptUnder`. */
export async function selectWrappedOnBlocks(
  database: Queryable,
  { from, to, exceptUnder }: { from: number; to: number; exceptUnder?: string },
): Promise<WrappedDataKey[]> {
  const { rows } = await database.query<WrappedDataKey>({
    text: `select k.id, k.project_id, k.version, k.wrapped_key, k.wrapping_key_id, k.fingerprint
           from keyring.encryption_keys k
           where k.ctid >= $1::tid and k.ctid < $2::tid and k.wrapped_key is not null
             and ($3::uuid is null or k.wrapping_key_id <> $3)`,
    values: [`(${String(from)},0)`, `(${String(to)},0)`, exceptUnder ?? null],
  });
  return rows;
}

/** How many keys of either kind are under another wrapping key than this one. */
export async function countUnderOthers(database: Queryable, wrappingKeyId: string): Promise<number> {
  const { rows } = await database.query<{ keys: string }>({
    text: `select (select count(*) from keyring.encryption_keys k where k.wrapped_key is not null and k.wrapping_key_id <> $1)
             + (select count(*) from keyring.signing_keys s where s.wrapping_key_id <> $1) as keys`,
    values: [wrappingKeyId],
  });
  return Number(rows[0]?.keys ?? 0);
}

/**
 * Replaces wrapped data keys whose bytes are still those that were read, passing over rows that somebody holds. Gives the ids of
 * those that were replaced.
 */
export async function replaceWrapped(
  tx: Queryable,
  wrappingKeyId: string,
  keys: readonly Rewrapped[],
): Promise<Set<string>> {
  const { rows } = await tx.query<{ id: string }>({
    text: `with free as materialized (
             select k.id, w.after
             from unnest($2::uuid[], $3::bytea[], $4::bytea[]) as w (id, before, after)
             join keyring.encryption_keys k on k.id = w.id
             where k.wrapped_key = w.before
             for no key update of k skip locked
           )
           update keyring.encryption_keys k set wrapped_key = f.after, wrapping_key_id = $1
           from free f where k.id = f.id
           returning k.id`,
    values: [
      wrappingKeyId,
      keys.map((key) => key.id),
      byteaArray(keys.map((key) => key.before)),
      byteaArray(keys.map((key) => key.after)),
    ],
  });
  return new Set(rows.map((row) => row.id));
}

export interface WrappedSigningKey {
  readonly id: string;
  readonly version: number;
  readonly public_key: Buffer;
  readonly wrapped_key: Buffer;
  readonly wrapping_key_id: string;
}

export async function selectSigningKeys(database: Queryable): Promise<WrappedSigningKey[]> {
  const { rows } = await database.query<WrappedSigningKey>({
    text: `select id, version, public_key, wrapped_key, wrapping_key_id from keyring.signing_keys order by version`,
  });
  return rows;
}

/** False when its bytes are no longer those that were read. */
export async function replaceWrappedSigningKey(tx: Queryable, wrappingKeyId: string, key: Rewrapped): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.signing_keys set wrapped_key = $3, wrapping_key_id = $4 where id = $1 and wrapped_key = $2`,
    values: [key.id, key.before, key.after, wrappingKeyId],
  });
  return rowCount === 1;
}
