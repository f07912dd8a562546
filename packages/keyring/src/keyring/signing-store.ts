import type { Queryable } from '../db/port.ts';

export interface SigningKeyRow {
  readonly id: string;
  readonly version: number;
  readonly public_key: Buffer;
  readonly wrapped_key: Buffer;
  readonly wrapping_key_id: string;
}

/** What a signing key is for: receipts of rotations, or checkpoints of the trail. Never both. */
export type SigningPurpose = 'receipts' | 'audit';

export async function selectLatestSigningKey(
  database: Queryable,
  purpose: SigningPurpose,
): Promise<SigningKeyRow | undefined> {
  const { rows } = await database.query<SigningKeyRow>({
    text: `select id, version, public_key, wrapped_key, wrapping_key_id from keyring.signing_keys
           where purpose = $1 order by version desc limit 1`,
    values: [purpose],
  });
  return rows[0];
}

export async function hasSigningKey(database: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await database.query({
    text: 'select from keyring.signing_keys where id = $1',
    values: [id],
    name: 'signing_key_is_there',
  });
  return rowCount === 1;
}

/** Every one, or those of one purpose, the oldest first. */
export async function selectSigningKeys(database: Queryable, purpose?: SigningPurpose): Promise<SigningKeyRow[]> {
  const { rows } = await database.query<SigningKeyRow>({
    text: `select id, version, public_key, wrapped_key, wrapping_key_id from keyring.signing_keys
           where $1::text is null or purpose = $1 order by version`,
    values: [purpose ?? null],
  });
  return rows;
}

export async function selectNextSigningVersion(database: Queryable): Promise<number> {
  const { rows } = await database.query<{ version: number }>({
    text: 'select coalesce(max(version), 0) + 1 as version from keyring.signing_keys',
  });
  return rows[0]?.version ?? 1;
}

/** The first key of its purpose: false when there is one already. Versions are one row of numbers for all purposes (SQLSTATE 23505). */
export async function insertFirstSigningKey(
  tx: Queryable,
  key: {
    id: string;
    version: number;
    purpose: SigningPurpose;
    publicKey: Uint8Array;
    wrappedKey: Buffer;
    wrappingKeyId: string;
  },
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.signing_keys (id, version, public_key, wrapped_key, wrapping_key_id, purpose)
           select $1, $2, $3, $4, $5, $6 where not exists (select from keyring.signing_keys s where s.purpose = $6)`,
    values: [key.id, key.version, key.publicKey, key.wrappedKey, key.wrappingKeyId, key.purpose],
  });
  return rowCount === 1;
}
