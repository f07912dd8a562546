import type { Queryable } from '../db/port.ts';

export async function reserveUsage(database: Queryable, keyId: string, encryptions: number): Promise<void> {
  await database.query({
    text: `insert into keyring.key_usage (key_id, project_id, reserved)
           select k.id, k.project_id, $2 from keyring.encryption_keys k where k.id = $1
           on conflict (key_id) do update set reserved = keyring.key_usage.reserved + excluded.reserved`,
    values: [keyId, encryptions],
  });
}
