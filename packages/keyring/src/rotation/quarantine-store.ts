import type { QuarantinedRow } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { ProjectProgress } from './project-store.ts';
import type { Unreadable } from './rows.ts';

/** Makes the quarantine of a project say exactly which rows do not open now. */
export async function replaceQuarantine(
  tx: Queryable,
  of: ProjectProgress,
  unreadable: ReadonlyMap<string, readonly Unreadable[]>,
): Promise<void> {
  await tx.query({ text: 'delete from keyring.quarantine where project_id = $1', values: [of.projectId] });
  const entries = [...unreadable].flatMap(([label, rows]) => rows.map((one) => ({ label, ...one })));
  await tx.query({
    text: `insert into keyring.quarantine (rotation_id, project_id, label, row_id, encryption_key_id, reason)
           select $1, $2, u.label, u.row_id, u.key_id, u.reason
           from unnest($3::text[], $4::text[], $5::uuid[], $6::text[]) as u (label, row_id, key_id, reason)
           on conflict (project_id, label, row_id) do nothing`,
    values: [
      of.rotationId,
      of.projectId,
      entries.map((entry) => entry.label),
      entries.map((entry) => entry.id),
      entries.map((entry) => entry.keyId),
      entries.map((entry) => entry.reason),
    ],
  });
  await tx.query({
    text: 'update keyring.rotation_projects set rows_quarantined = $3 where rotation_id = $1 and project_id = $2',
    values: [of.rotationId, of.projectId, entries.length],
  });
}

export async function selectQuarantine(database: Queryable, rotationId: string): Promise<QuarantinedRow[]> {
  const { rows } = await database.query<{
    project_id: string;
    label: string;
    row_id: string;
    encryption_key_id: string | null;
    reason: QuarantinedRow['reason'];
    noticed_at: Date;
  }>({
    text: `select project_id, label, row_id, encryption_key_id, reason, noticed_at
           from keyring.quarantine where rotation_id = $1 order by id limit 1000`,
    values: [rotationId],
  });
  return rows.map((row) => ({
    projectId: row.project_id,
    label: row.label,
    rowId: row.row_id,
    keyId: row.encryption_key_id ?? undefined,
    reason: row.reason,
    noticedAt: row.noticed_at,
  }));
}
