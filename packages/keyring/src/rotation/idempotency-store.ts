import type { Queryable } from '../db/port.ts';

/** What a request was called by whom, and what it asked for: SHA-256, both. */
export interface RequestName {
  readonly keyDigest: Buffer;
  readonly requestDigest: Buffer;
}

const LIFETIME = `interval '24 hours'`;
const FORGOTTEN_AT_ONCE = 100;

/** The rotation that a request with this name made, if one did in the last 24 hours; `same`: did it ask for the same? */
export async function selectNamedRequest(
  database: Queryable,
  { keyDigest, requestDigest }: RequestName,
): Promise<{ readonly rotationId: string; readonly same: boolean } | undefined> {
  const { rows } = await database.query<{ rotation_id: string; same: boolean }>({
    text: `select rotation_id, request_digest = $2 as same from keyring.idempotency_keys
           where key_digest = $1 and created_at > now() - ${LIFETIME}`,
    values: [keyDigest, requestDigest],
  });
  return rows[0] && { rotationId: rows[0].rotation_id, same: rows[0].same };
}

/**
 * Remembers that this request makes this rotation. False when there is one with its name: another transaction that writes it is
 * waited for. Forgets a few of those that are too old.
 */
export async function insertNamedRequest(
  tx: Queryable,
  { keyDigest, requestDigest }: RequestName,
  rotationId: string,
): Promise<boolean> {
  await tx.query({
    text: `delete from keyring.idempotency_keys where key_digest in (
             select key_digest from keyring.idempotency_keys where created_at <= now() - ${LIFETIME}
             order by created_at limit $1 for update skip locked)`,
    values: [FORGOTTEN_AT_ONCE],
  });
  const { rowCount } = await tx.query({
    text: `insert into keyring.idempotency_keys as k (key_digest, request_digest, rotation_id) values ($1, $2, $3)
           on conflict (key_digest) do update
             set request_digest = excluded.request_digest, rotation_id = excluded.rotation_id, created_at = now()
             where k.created_at <= now() - ${LIFETIME}`,
    values: [keyDigest, requestDigest, rotationId],
  });
  return rowCount === 1;
}
