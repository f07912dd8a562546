import type { Actor } from '../api.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import type { SignedRow } from './verify-store.ts';

/** The last checkpoint that was signed before a moment. */
export async function selectLastSignedBefore(database: Queryable, before: Date): Promise<SignedRow | undefined> {
  const { rows } = await database.query<SignedRow>({
    text: `select c.id::text, c.size::text, c.floor_id::text, c.note from keyring.audit_checkpoints c
           where c.signed_at < $1 order by c.size desc, c.id desc limit 1`,
    values: [before],
  });
  return rows[0];
}

/** As a member of `keyring_owner`. Gives how many entries went. */
export async function removeArchived(
  owner: Database,
  archive: { readonly through: number; readonly note: string; readonly actor: Actor; readonly reason: string },
): Promise<number> {
  return transaction(owner, async (tx) => {
    await tx.query({ text: 'set local role keyring_owner' });
    const { rows } = await tx.query<{ entries: string }>({
      text: `select keyring.archive_audit($1, $2, $3, $4, $5) as entries`,
      values: [archive.through, archive.note, archive.actor.name, archive.actor.kind, archive.reason],
    });
    return Number(rows[0]?.entries ?? 0);
  });
}
