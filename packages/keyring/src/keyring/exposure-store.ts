import type { ExposedSecret } from '../api.ts';
import type { Queryable } from '../db/port.ts';

export async function selectExposure(database: Queryable, keyId: string): Promise<ExposedSecret[]> {
  const { rows } = await database.query<{
    label: string;
    row_id: string;
    name: string | null;
    written_at: Date | null;
    replaced_at: Date | null;
  }>({
    text: `select label, row_id, name, written_at, replaced_at from keyring.exposed_secrets($1)`,
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
