import type { Queryable } from '../db/port.ts';

export type WrappingKeyState = 'enabled' | 'disabled' | 'compromised' | 'destroyed';

/** A wrapping key as one root key of this process wrapped it. */
export interface WrappedCopy {
  readonly rootFingerprint: string;
  readonly wrapped: Buffer;
}

export interface WrappingKeyRow {
  readonly id: string;
  readonly version: number;
  readonly state: WrappingKeyState;
  /** Key check value. */
  readonly fingerprint: Buffer;
  readonly isPrimary: boolean;
  /** By the root keys that were asked for. */
  readonly copies: readonly WrappedCopy[];
}

/** Every wrapping key, with its bytes as wrapped by the root keys of these fingerprints. */
export async function selectWrappingKeys(
  database: Queryable,
  rootFingerprints: readonly string[],
): Promise<WrappingKeyRow[]> {
  const { rows } = await database.query<{
    id: string;
    version: number;
    state: WrappingKeyState;
    fingerprint: Buffer;
    is_primary: boolean;
    root_fingerprint: string | null;
    wrapped: Buffer | null;
  }>({
    text: `select w.id, w.version, w.state, w.fingerprint, i.wrapping_key_id is not null as is_primary,
             c.root_fingerprint, c.wrapped
           from keyring.wrapping_keys w
           left join (
             select k.wrapping_key_id, k.wrapped, r.fingerprint as root_fingerprint
             from keyring.wrapped_wrapping_keys k join keyring.root_keys r on r.id = k.root_key_id
             where r.fingerprint = any ($1::text[])
           ) c on c.wrapping_key_id = w.id
           left join keyring.installation i on i.wrapping_key_id = w.id
           order by w.version, array_position($1::text[], c.root_fingerprint)`,
    values: [rootFingerprints],
  });
  const keys = new Map<string, WrappingKeyRow & { copies: WrappedCopy[] }>();
  for (const { id, version, state, fingerprint, is_primary: isPrimary, root_fingerprint, wrapped } of rows) {
    const key = keys.get(id) ?? { id, version, state, fingerprint, isPrimary, copies: [] };
    keys.set(id, key);
    if (root_fingerprint !== null && wrapped !== null) {
      key.copies.push({ rootFingerprint: root_fingerprint, wrapped });
    }
  }
  return [...keys.values()];
}

export interface KnownRoot {
  readonly uri: string;
  readonly fingerprint: string;
}

/** Root keys that are in use: those that something is wrapped by. */
export async function selectRootKeys(database: Queryable): Promise<KnownRoot[]> {
  const { rows } = await database.query<KnownRoot & Record<string, unknown>>({
    text: `select uri, fingerprint from keyring.root_keys where state = 'enabled' order by created_at, id`,
  });
  return rows.map(({ uri, fingerprint }) => ({ uri, fingerprint }));
}

/** Records a wrapping key, the root key it is under, and the pointer to it. Fails on a second first one. */
export async function insertFirstWrappingKey(
  tx: Queryable,
  key: { id: string; fingerprint: Buffer; wrapped: Uint8Array; rootUri: string; rootFingerprint: string },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.root_keys (uri, fingerprint) values ($1, $2) on conflict (fingerprint) do nothing`,
    values: [key.rootUri, key.rootFingerprint],
  });
  await tx.query({
    text: 'insert into keyring.wrapping_keys (id, version, fingerprint) values ($1, 1, $2)',
    values: [key.id, key.fingerprint],
  });
  await tx.query({
    text: `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
           select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3`,
    values: [key.id, key.wrapped, key.rootFingerprint],
  });
  await tx.query({ text: 'insert into keyring.installation (wrapping_key_id) values ($1)', values: [key.id] });
}
