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

export async function insertEntries(tx: Queryable, actor: string, entries: readonly NewAuditEntry[]): Promise<void> {
  await tx.query({
    text: `insert into keyring.audit_log (actor, action, outcome, project_id, subject, reason, details)
           select $1, e.action, e.outcome, e.project_id, e.subject, e.reason, e.details
           from unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::jsonb[])
             with ordinality as e (action, outcome, project_id, subject, reason, details, place)
           order by e.place`,
    values: [
      actor,
      entries.map((entry) => entry.action),
      entries.map((entry) => entry.outcome ?? 'succeeded'),
      entries.map((entry) => entry.projectId ?? null),
      entries.map((entry) => entry.subject),
      entries.map((entry) => entry.reason ?? null),
      entries.map((entry) => JSON.stringify(entry.details ?? {})),
    ],
    name: 'audit_insert_all',
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
