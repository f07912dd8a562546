import type { AuditEntry } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { NewAuditEntry } from './audit.ts';

export async function insertEntry(tx: Queryable, actor: string, entry: NewAuditEntry): Promise<void> {
  await tx.query({
    text: `insert into keyring.audit_log (actor, action, outcome, project_id, subject, reason, details)
           values ($1, $2, $3, $4, $5, $6, $7)`,
    values: [
      actor,
      entry.action,
      entry.outcome ?? 'succeeded',
      entry.projectId ?? null,
      entry.subject,
      entry.reason ?? null,
      JSON.stringify(entry.details ?? {}),
    ],
    name: 'audit_insert',
  });
}

export async function selectEntries(
  database: Queryable,
  { projectId, before, limit }: { projectId: string | undefined; before: string | undefined; limit: number },
): Promise<AuditEntry[]> {
  const { rows } = await database.query<{
    id: string;
    at: Date;
    actor: string;
    action: string;
    outcome: AuditEntry['outcome'];
    project_id: string | null;
    subject: string;
    reason: string | null;
    details: Record<string, unknown>;
  }>({
    text: `select id, at, actor, action, outcome, project_id, subject, reason, details
           from keyring.audit_log
           where ($1::uuid is null or project_id = $1) and ($2::bigint is null or id < $2)
           order by id desc limit $3`,
    values: [projectId ?? null, before ?? null, limit],
  });
  return rows.map(({ project_id, reason, ...row }) => ({
    ...row,
    projectId: project_id ?? undefined,
    reason: reason ?? undefined,
  }));
}
