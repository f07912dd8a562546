import type { Queryable } from '../db/port.ts';

export interface RootKeyRow {
  readonly id: string;
  readonly uri: string;
  readonly fingerprint: string;
  readonly state: string;
}

/** Registers a root key, if it is not yet, and gives its row. */
export async function ensureRootKey(tx: Queryable, uri: string, fingerprint: string): Promise<RootKeyRow | undefined> {
  await tx.query({
    text: 'insert into keyring.root_keys (uri, fingerprint) values ($1, $2) on conflict (fingerprint) do nothing',
    values: [uri, fingerprint],
  });
  const { rows } = await tx.query<RootKeyRow>({
    text: 'select id, uri, fingerprint, state from keyring.root_keys where fingerprint = $1',
    values: [fingerprint],
  });
  return rows[0];
}

export async function selectOtherRootKeys(database: Queryable, fingerprint: string): Promise<RootKeyRow[]> {
  const { rows } = await database.query<RootKeyRow>({
    text: `select id, uri, fingerprint, state from keyring.root_keys
           where fingerprint <> $1 and state <> 'destroyed' order by created_at, id`,
    values: [fingerprint],
  });
  return rows;
}

/** Stores a wrapping key as a root key wrapped it. False when it is under that root key already. */
export async function insertWrapped(
  tx: Queryable,
  one: { wrappingKeyId: string; rootKeyId: string; wrapped: Uint8Array },
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped) values ($1, $2, $3)
           on conflict (wrapping_key_id, root_key_id) do nothing`,
    values: [one.wrappingKeyId, one.rootKeyId, one.wrapped],
  });
  return rowCount === 1;
}
