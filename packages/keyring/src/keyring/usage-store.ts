import type { Queryable } from '../db/port.ts';

/** So many encryptions under a version that will be. */
export interface Reservation {
  readonly keyId: string;
  readonly encryptions: number;
}

/** Adds to what is reserved of each version, which is a use of it. */
export async function reserveUsage(database: Queryable, reservations: readonly Reservation[]): Promise<void> {
  await database.query({
    // In one order, whoever reserves: two that reserve for the same versions never wait for each other crosswise.
    text: `insert into keyring.key_usage (key_id, project_id, reserved, last_used_at)
           select k.id, k.project_id, c.encryptions, clock_timestamp()
           from unnest($1::uuid[], $2::bigint[]) as c (key_id, encryptions)
           join keyring.encryption_keys k on k.id = c.key_id order by k.id
           on conflict (key_id) do update set reserved = keyring.key_usage.reserved + excluded.reserved,
             last_used_at = greatest(keyring.key_usage.last_used_at, excluded.last_used_at)`,
    values: [reservations.map((one) => one.keyId), reservations.map((one) => one.encryptions)],
  });
}

/** Notes that these versions were used. What another process noted in the same half hour is good enough. */
export async function noteKeyUses(database: Queryable, keyIds: readonly string[]): Promise<void> {
  await database.query({
    text: `insert into keyring.key_usage (key_id, project_id, reserved, last_used_at)
           select k.id, k.project_id, 0, clock_timestamp()
           from unnest($1::uuid[]) as u (key_id) join keyring.encryption_keys k on k.id = u.key_id order by k.id
           on conflict (key_id) do update set last_used_at = excluded.last_used_at
             where keyring.key_usage.last_used_at is null
               or keyring.key_usage.last_used_at < excluded.last_used_at - interval '30 minutes'`,
    values: [keyIds],
  });
}
