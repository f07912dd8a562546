import type { ProjectIds, QuarantinedRow, QuarantineEntry, QuarantineScope, RowPlace } from '../api.ts';
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

/** Every row of these projects opens. */
export async function clearQuarantine(tx: Queryable, projectIds: readonly string[]): Promise<void> {
  await tx.query({ text: 'delete from keyring.quarantine where project_id = any ($1)', values: [projectIds] });
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

interface EntryRow {
  readonly id: string;
  readonly rotation_id: string;
  readonly project_id: string;
  readonly project_name: string;
  readonly label: string;
  readonly row_id: string;
  readonly name: string | null;
  readonly encryption_key_id: string | null;
  readonly reason: QuarantinedRow['reason'];
  readonly noticed_at: Date;
}

// `case`, so that no other table's row id is taken for a secret's.
const selectEntry = `
  select q.id, q.rotation_id, q.project_id, p.name as project_name, q.label, q.row_id, s.key as name,
    q.encryption_key_id, q.reason, q.noticed_at
  from keyring.quarantine q
  join public.projects p on p.id = q.project_id
  left join public.secrets s
    on s.id = case when q.label = 'secrets.value' then q.row_id::uuid end and s.project_id = q.project_id`;

interface QuarantinePage {
  readonly after?: string | undefined;
  readonly upTo?: string | undefined;
  readonly limit: number;
  readonly among?: ProjectIds | undefined;
}

/** Entries in the order in which they were made, after `after`, up to `upTo`. */
export async function selectQuarantineEntries(
  database: Queryable,
  { projectId, rotationId }: QuarantineScope,
  { after, upTo, limit, among = 'all' }: QuarantinePage,
): Promise<QuarantineEntry[]> {
  const { rows } = await database.query<EntryRow>({
    text: `${selectEntry}
           where ($1::uuid is null or q.project_id = $1) and ($2::uuid is null or q.rotation_id = $2)
             and ($3::bigint is null or q.id > $3) and ($4::bigint is null or q.id <= $4)
             and ($6::uuid[] is null or q.project_id = any ($6))
           order by q.id limit $5`,
    values: [projectId ?? null, rotationId ?? null, after ?? null, upTo ?? null, limit, among === 'all' ? null : among],
  });
  return rows.map(toEntry);
}

export async function selectLastEntryId(database: Queryable): Promise<string | undefined> {
  const { rows } = await database.query<{ last: string | null }>({
    text: 'select max(id)::text as last from keyring.quarantine',
  });
  return rows[0]?.last ?? undefined;
}

export async function selectQuarantineEntry(
  database: Queryable,
  { projectId, label, rowId }: RowPlace,
): Promise<QuarantineEntry | undefined> {
  const { rows } = await database.query<EntryRow>({
    text: `${selectEntry} where q.project_id = $1 and q.label = $2 and q.row_id = $3`,
    values: [projectId, label, rowId],
  });
  return rows[0] && toEntry(rows[0]);
}

/** Gives the number that were still there. */
export async function deleteQuarantineEntries(tx: Queryable, ids: readonly string[]): Promise<number> {
  const { rowCount } = await tx.query({
    text: 'delete from keyring.quarantine where id = any ($1::bigint[])',
    values: [ids],
  });
  return rowCount;
}

/** Whoever noted the row anew meanwhile, it is gone. */
export async function deleteQuarantineOf(tx: Queryable, { projectId, label, rowId }: RowPlace): Promise<void> {
  await tx.query({
    text: 'delete from keyring.quarantine where project_id = $1 and label = $2 and row_id = $3',
    values: [projectId, label, rowId],
  });
}

/** Why rows do not open now, where that has changed. */
export async function updateQuarantineReasons(
  tx: Queryable,
  entries: readonly { readonly id: string; readonly keyId: string; readonly reason: QuarantinedRow['reason'] }[],
): Promise<void> {
  await tx.query({
    text: `update keyring.quarantine q set encryption_key_id = u.key_id, reason = u.reason
           from unnest($1::bigint[], $2::uuid[], $3::text[]) as u (id, key_id, reason)
           where q.id = u.id and (q.encryption_key_id, q.reason) is distinct from (u.key_id, u.reason)`,
    values: [entries.map(({ id }) => id), entries.map(({ keyId }) => keyId), entries.map(({ reason }) => reason)],
  });
}

/**
 * Blocked rotations with a project that fewer rows hold up than when it was blocked: rows have left quarantine since, by a
 * retry or a discard, whether or not whoever did that lived to say so.
 */
export async function selectFreedRotations(
  database: Queryable,
  { projectId, rotationId }: QuarantineScope,
): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>({
    text: `select r.id from keyring.rotations r
           where r.state = 'blocked' and ($2::uuid is null or r.id = $2)
             and exists (select from keyring.rotation_projects p
               where p.rotation_id = r.id and p.state = 'blocked' and p.error_code = 'rows_quarantined'
                 and ($1::uuid is null or p.project_id = $1)
                 and p.rows_quarantined > (select count(*) from keyring.quarantine q
                   where q.rotation_id = p.rotation_id and q.project_id = p.project_id))
           order by r.requested_at, r.id limit 1000`,
    values: [projectId ?? null, rotationId ?? null],
  });
  return rows.map((row) => row.id);
}

function toEntry(row: EntryRow): QuarantineEntry {
  return {
    id: row.id,
    rotationId: row.rotation_id,
    projectId: row.project_id,
    projectName: row.project_name,
    label: row.label,
    rowId: row.row_id,
    name: row.name ?? undefined,
    keyId: row.encryption_key_id ?? undefined,
    reason: row.reason,
    noticedAt: row.noticed_at,
  };
}
