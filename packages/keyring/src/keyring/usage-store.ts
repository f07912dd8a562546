import type { Queryable } from '../db/port.ts';

/** So many encryptions under a version that will be. */
export interface Reservation {
  readonly keyId: string;
  readonly encryptions: number;
}

/** Adds to what is reserved of each version. */
export async function reserveUsage(database: Queryable, reservations: readonly Reservation[]): Promise<void> {
  await database.query({
    // In one order, whoever reserves: two that reserve for the same versions never wait for each other crosswise.
    text: `insert into keyring.key_usage (key_id, project_id, reserved)
           select k.id, k.project_id, c.encryptions
           from unnest($1::uuid[], $2::bigint[]) as c (key_id, encryptions)
           join keyring.encryption_keys k on k.id = c.key_id order by k.id
           on conflict (key_id) do update set reserved = keyring.key_usage.reserved + excluded.reserved`,
    values: [reservations.map((one) => one.keyId), reservations.map((one) => one.encryptions)],
  });
}
