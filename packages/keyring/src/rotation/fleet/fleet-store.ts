import type { Queryable } from '../../db/port.ts';
import type { RotationProjectState } from '../../api.ts';
import type { EncryptedColumn } from '../../keyring/columns.ts';
import { projectsOf } from '../project-store.ts';
import type { StoredRow } from '../rows.ts';

/** Where projects stand as to their versions: what a rotation's next one follows. */
export async function selectHeads(
  database: Queryable,
  projectIds: readonly string[],
): Promise<{ projectId: string; primaryKeyId: string; latestVersion: number }[]> {
  const { rows } = await database.query<{ project_id: string; primary_key_id: string; latest: number }>({
    text: `select r.project_id, r.primary_key_id,
             (select max(k.version) from keyring.encryption_keys k where k.project_id = r.project_id) as latest
           from keyring.keyrings r where r.project_id = any ($1)`,
    values: [projectIds],
  });
  return rows.map((row) => ({
    projectId: row.project_id,
    primaryKeyId: row.primary_key_id,
    latestVersion: row.latest,
  }));
}

/** requested → staged, for those that are requested still: gives their ids. */
export async function stageProjects(
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly sourceKeyId: string; readonly targetKeyId: string }[],
): Promise<Set<string>> {
  const { rows } = await tx.query<{ project_id: string }>({
    text: `update keyring.rotation_projects p
           set state = 'staged', staged_at = now(), source_key_id = c.source, target_key_id = c.target,
             error_code = null, error_detail = null
           from ${projectsOf('$2::uuid[], $3::uuid[], $4::uuid[]', 'project_id, source, target', 'requested')} c
           where p.rotation_id = c.rotation_id and p.project_id = c.project_id and p.state = c.state
           returning p.project_id`,
    values: [
      rotationId,
      projects.map((one) => one.projectId),
      projects.map((one) => one.sourceKeyId),
      projects.map((one) => one.targetKeyId),
    ],
  });
  return new Set(rows.map((row) => row.project_id));
}

/** staged → sweeping, with what there is to move, where that is known: how many moved. */
export async function promoteProjects(
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly rows: number | undefined }[],
): Promise<number> {
  const { rowCount } = await tx.query({
    text: `update keyring.rotation_projects p
           set state = 'sweeping', promoted_at = coalesce(promoted_at, now()), rows_total = coalesce(p.rows_moved + c.rows, p.rows_total),
             rows_quarantined = 0, error_code = null, error_detail = null
           from ${projectsOf('$2::uuid[], $3::bigint[]', 'project_id, rows', 'staged')} c
           where p.rotation_id = c.rotation_id and p.project_id = c.project_id and p.state = c.state`,
    values: [rotationId, projects.map((one) => one.projectId), projects.map((one) => one.rows ?? null)],
  });
  return rowCount;
}

/** The other moves that many projects make at once, and what each sets besides. */
const moves = {
  turnBack: `state = 'rolling_back', direction = 'back', error_code = null`,
  cancel: `state = 'canceled', finished_at = now(), error_code = 'rolled_back_before_promote'`,
  endSweep: `state = 'verifying', swept_at = coalesce(swept_at, now()), error_code = null`,
} as const;

/** Compare-and-set on the states that the caller acted on: how many moved. */
export async function moveProjects(
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly state: RotationProjectState }[],
  move: keyof typeof moves,
): Promise<number> {
  const { rowCount } = await tx.query({
    text: `update keyring.rotation_projects p set ${moves[move]}, error_detail = null
           from ${projectsOf('$2::uuid[], $3::text[]', 'project_id, state')} c
           where p.rotation_id = c.rotation_id and p.project_id = c.project_id and p.state = c.state`,
    values: [rotationId, projects.map((one) => one.projectId), projects.map((one) => one.state)],
  });
  return rowCount;
}

/** Rows of one project in one column, and the bytes of their ciphertexts. */
export interface ProjectSize {
  readonly projectId: string;
  readonly rows: number;
  readonly bytes: number;
}

/**
 * Encrypted rows of each project, those under its `exceptKeyId` left out, counted up to one more than `most`; projects without any
 * are not in the answer.
 */
export async function selectSizes(
  database: Queryable,
  column: EncryptedColumn,
  projects: readonly ProjectChoice[],
  most: number,
): Promise<ProjectSize[]> {
  const { rows } = await database.query<{ project_id: string; rows: string; bytes: string }>({
    text: `select c.project_id, n.rows, n.bytes from ${chosen}
           cross join lateral (
             select count(*) as rows, coalesce(sum(o.bytes), 0) as bytes
             from (
               select octet_length(t.${column.ciphertext}) as bytes
               from ${column.table} t where ${ofChosen(column)} limit $3 + 1) o) n
           where n.rows > 0`,
    values: [...choiceValues(projects), most],
  });
  return rows.map((row) => ({ projectId: row.project_id, rows: Number(row.rows), bytes: Number(row.bytes) }));
}

/** Which encrypted rows of a project: not those under `exceptKeyId`, if there is one. */
export interface ProjectChoice {
  readonly projectId: string;
  readonly exceptKeyId: string | undefined;
}

export interface ProjectRow extends StoredRow {
  readonly projectId: string;
}

/** The rows that `selectSizes` counts, `most` of each at most, by each project's index, in one statement: as one moment saw them. */
export async function selectRowsOfProjects(
  database: Queryable,
  column: EncryptedColumn,
  projects: readonly ProjectChoice[],
  most: number,
): Promise<ProjectRow[]> {
  const { rows } = await database.query<{
    project_id: string;
    id: string;
    place: string;
    envelope: Buffer;
    key_id: string;
  }>({
    text: `select c.project_id, n.id, n.place, n.envelope, n.key_id from ${chosen}
           cross join lateral (
             select t.${column.rowId}::text as id, t.ctid::text as place, t.${column.ciphertext} as envelope, t.${column.keyId} as key_id
             from ${column.table} t where ${ofChosen(column)}
             limit $3) n`,
    values: [...choiceValues(projects), most],
  });
  return rows.map((row) => ({
    projectId: row.project_id,
    id: row.id,
    place: row.place,
    envelope: row.envelope,
    keyId: row.key_id,
  }));
}

const chosen = 'unnest($1::uuid[], $2::uuid[]) as c (project_id, except_key_id)';

function ofChosen(column: EncryptedColumn): string {
  return `t.${column.project} = c.project_id and t.${column.keyId} is not null
               and (c.except_key_id is null or t.${column.keyId} <> c.except_key_id)`;
}

function choiceValues(projects: readonly ProjectChoice[]): unknown[] {
  return [projects.map((one) => one.projectId), projects.map((one) => one.exceptKeyId ?? null)];
}
