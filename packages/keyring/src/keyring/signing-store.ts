import type { Queryable } from '../db/port.ts';

export interface SigningKeyRow {
  readonly id: string;
  readonly version: number;
  readonly public_key: Buffer;
  readonly wrapped_key: Buffer;
  readonly wrapping_key_id: string;
}

export async function selectLatestSigningKey(database: Queryable): Promise<SigningKeyRow | undefined> {
  const { rows } = await database.query<SigningKeyRow>({
    text: `select id, version, public_key, wrapped_key, wrapping_key_id from keyring.signing_keys
           order by version desc limit 1`,
  });
  return rows[0];
}

export async function insertSigningKey(
  tx: Queryable,
  key: { id: string; version: number; publicKey: Uint8Array; wrappedKey: Buffer; wrappingKeyId: string },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.signing_keys (id, version, public_key, wrapped_key, wrapping_key_id)
           values ($1, $2, $3, $4, $5)`,
    values: [key.id, key.version, key.publicKey, key.wrappedKey, key.wrappingKeyId],
  });
}
