import type { Actor, AuditEntry, PrincipalKind } from '../api.ts';
import { jsonbArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';
import type { NewAuditEntry } from './audit.ts';
import type { EntryFilter } from './filter.ts';

/** As the columns `actor, principal_kind, source_address` take them. */
export function actorValues({ name, kind, address }: Actor): [string, PrincipalKind, string | null] {
  return [name, kind, address ?? null];
}

export async function insertEntry(tx: Queryable, actor: Actor, entry: NewAuditEntry): Promise<void> {
  await tx.query({
    text: `insert into keyring.audit_log
             (actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    values: [
      ...actorValues(actor),
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

export async function insertEntries(tx: Queryable, actor: Actor, entries: readonly NewAuditEntry[]): Promise<void> {
  await tx.query({
    text: `insert into keyring.audit_log
             (actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details)
           select $1, $2, $3, e.action, e.outcome, e.project_id, e.subject, e.reason, e.details
           from unnest($4::text[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::jsonb[])
             with ordinality as e (action, outcome, project_id, subject, reason, details, place)
           order by e.place`,
    values: [
      ...actorValues(actor),
      entries.map((entry) => entry.action),
      entries.map((entry) => entry.outcome ?? 'succeeded'),
      entries.map((entry) => entry.projectId ?? null),
      entries.map((entry) => entry.subject),
      entries.map((entry) => entry.reason ?? null),
      jsonbArray(entries.map((entry) => JSON.stringify(entry.details ?? {}))),
    ],
    name: 'audit_insert_all',
  });
}

interface EntryRow {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  readonly principal_kind: PrincipalKind | null;
  readonly source_address: string | null;
  readonly action: string;
  readonly outcome: AuditEntry['outcome'];
  readonly project_id: string | null;
  readonly subject: string;
  readonly reason: string | null;
  readonly details: Record<string, unknown>;
}

const columns = `l.id, l.at, l.actor, l.principal_kind, l.source_address, l.action, l.outcome, l.project_id, l.subject, l.reason,
             l.details`;

const matches = `($1::uuid[] is null or l.project_id = any($1)) and ($2::text is null or l.actor = $2)
             and ($3::text is null or l.principal_kind = $3) and ($4::text is null or l.action = $4)
             and ($5::text is null or starts_with(l.action, $5)) and ($6::text is null or l.outcome = $6)
             and ($7::text is null or l.subject = $7) and ($8::timestamptz is null or l.at >= $8)
             and ($9::timestamptz is null or l.at < $9)`;

function filterValues(filter: EntryFilter): unknown[] {
  const { projectIds, actor, kind, action, actionPrefix, outcome, subject, since, until } = filter;
  return [projectIds, actor, kind, action, actionPrefix, outcome, subject, since, until];
}

/** The newest first. */
export async function selectEntries(
  database: Queryable,
  filter: EntryFilter,
  { before, limit }: { before: string | undefined; limit: number },
): Promise<AuditEntry[]> {
  const { rows } = await database.query<EntryRow>({
    text: `select ${columns} from keyring.audit_log l
           where ${matches} and ($10::bigint is null or l.id < $10) order by l.id desc limit $11`,
    values: [...filterValues(filter), before ?? null, limit],
  });
  return rows.map(toEntry);
}

/** The oldest first, after one. */
export async function selectEntriesUpwards(
  database: Queryable,
  filter: EntryFilter,
  { after, limit }: { after: string | undefined; limit: number },
): Promise<AuditEntry[]> {
  const { rows } = await database.query<EntryRow>({
    text: `select ${columns} from keyring.audit_log l
           where ${matches} and ($10::bigint is null or l.id > $10) order by l.id limit $11`,
    values: [...filterValues(filter), after ?? null, limit],
  });
  return rows.map(toEntry);
}

function toEntry({ project_id, reason, principal_kind, source_address, ...row }: EntryRow): AuditEntry {
  return {
    ...row,
    kind: principal_kind ?? undefined,
    address: source_address ?? undefined,
    projectId: project_id ?? undefined,
    reason: reason ?? undefined,
  };
}
