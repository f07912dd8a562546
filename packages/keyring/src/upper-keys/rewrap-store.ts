import { byteaArray, tidArray, uuidArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';
import { fieldOf, fields, packedInSql, type PackedKeys } from './packed-keys.ts';

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
): Promise<PackedKeys> {
  const { rows } = await database.query<{ keys: Buffer | null }>({
    text: `select string_agg(${packedInSql}, '') as keys
           from keyring.encryption_keys k
           where k.ctid >= $1::tid and k.ctid < $2::tid and k.wrapped_key is not null
             and ($3::uuid is null or k.wrapping_key_id <> $3)`,
    values: [`(${String(from)},0)`, `(${String(to)},0)`, exceptUnder ?? null],
  });
  return new Uint8Array(rows[0]?.keys ?? []);
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

/** What is to stand in the place of wrapped data keys that were read. */
export interface Replacement {
  readonly keys: PackedKeys;
  /** Which of them, by their numbers. */
  readonly which: readonly number[];
  /** The new wrapped keys, in that order. */
  readonly after: readonly Uint8Array[];
}

/**
 * Replaces wrapped data keys whose bytes are still those that were read, passing over rows that somebody holds. An address is only where
 * to look: another row in its place does not match. Gives the ids of those that were not replaced.
 */
export async function replaceWrapped(
  tx: Queryable,
  wrappingKeyId: string,
  { keys, which, after }: Replacement,
): Promise<string[]> {
  const { rows } = await tx.query<{ id: string }>({
    text: `with free as materialized (
             select f.place, w.after
             from unnest($2::tid[], $3::uuid[], $4::bytea[], $5::bytea[]) as w (place, id, before, after)
             cross join lateral (
               select k.ctid as place from keyring.encryption_keys k
               where k.ctid = w.place and k.id = w.id and k.wrapped_key = w.before
               for no key update skip locked) f
           ), moved as (
             update keyring.encryption_keys k set wrapped_key = f.after, wrapping_key_id = $1
             from free f where k.ctid = f.place
             returning k.id
           )
           select w.id from unnest($3::uuid[]) as w (id) where w.id not in (select m.id from moved m)`,
    values: [
      wrappingKeyId,
      tidArray(which.map((number) => fieldOf(keys, number, fields.place))),
      uuidArray(which.map((number) => fieldOf(keys, number, fields.id))),
      byteaArray(which.map((number) => fieldOf(keys, number, fields.wrapped))),
      byteaArray(after),
    ],
  });
  return rows.map((row) => row.id);
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

/** What is to stand in the place of what was read. */
export interface RewrappedSigningKey {
  readonly id: string;
  readonly before: Buffer;
  readonly after: Buffer;
}

/** False when its bytes are no longer those that were read. */
export async function replaceWrappedSigningKey(
  tx: Queryable,
  wrappingKeyId: string,
  key: RewrappedSigningKey,
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.signing_keys set wrapped_key = $3, wrapping_key_id = $4 where id = $1 and wrapped_key = $2`,
    values: [key.id, key.before, key.after, wrappingKeyId],
  });
  return rowCount === 1;
}
