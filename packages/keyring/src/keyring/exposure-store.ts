import type { Exposure, ExposedSecret } from '../api.ts';
import type { Queryable } from '../db/port.ts';

export async function selectExposure(database: Queryable, keyId: string): Promise<Exposure> {
  const secrets = await selectExposed(database, keyId);
  // Afterwards: what is archived meanwhile is said to be missing, though it is not.
  return { secrets, archivedUntil: await selectArchivedUntil(database, keyId) };
}

async function selectExposed(database: Queryable, keyId: string): Promise<ExposedSecret[]> {
  const { rows } = await database.query<{
    label: string;
    row_id: string;
    name: string | null;
    written_at: Date | null;
    replaced_at: Date | null;
  }>({
    text: `select label, row_id, name, written_at, replaced_at from keyring.seen_exposed_secrets($1)`,
    values: [keyId],
  });
  return rows.map((row) => ({
    label: row.label,
    rowId: row.row_id,
    name: row.name ?? undefined,
    writtenAt: row.written_at ?? undefined,
    replacedAt: row.replaced_at ?? undefined,
  }));
}

/** When the last archive's range ended, if the version was there by then: the checkpoint at its end is kept, and is as old. */
async function selectArchivedUntil(database: Queryable, keyId: string): Promise<Date | undefined> {
  const { rows } = await database.query<{ until: Date }>({
    text: `select e.until
           from (select a.through, a.archived_at from keyring.audit_archives a order by a.through desc limit 1) a
           cross join lateral (
             select coalesce(max(c.signed_at), a.archived_at) as until from keyring.audit_checkpoints c where c.size = a.through) e
           join keyring.encryption_keys k on k.id = $1 and k.created_at <= e.until`,
    values: [keyId],
  });
  return rows[0]?.until;
}
