import type { Receipt } from '../api.ts';
import { byteaArray, textArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';
import { projectsOf } from './project-store.ts';

/** What a receipt says of a project, as JSON; `others`: rows of it that are under another version than its key. */
export interface ReceiptFacts {
  readonly projectId: string;
  readonly others: number;
  readonly facts: Record<string, unknown>;
}

/**
 * Everything the receipts of these projects say, read in the transaction that finalizes them. Times are as PostgreSQL writes them in JSON.
 */
export async function selectReceiptFacts(
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly keyId: string }[],
): Promise<ReceiptFacts[]> {
  const ids = projects.map((one) => one.projectId);
  const keyIds = projects.map((one) => one.keyId);
  const counts = await countColumns(tx, ids);
  const versions = await selectVersions(tx, ids, keyIds);
  const { rows } = await tx.query<FactsRow>({
    text: `select p.project_id, p.project_name, p.rows_moved, p.rows_verified, r.requested_by, r.reason,
             to_json(r.requested_at) as requested_at, to_json(p.promoted_at) as promoted_at, to_json(now()) as finalized_at,
             (select coalesce(max(a.id), 0)::text from keyring.audit_log a where a.project_id = p.project_id) as audit_position
           from ${projectsOf('$2::uuid[]', 'project_id')} c
           cross join (select * from keyring.rotations where id = $1 offset 0) r
           join keyring.rotation_projects p on p.rotation_id = c.rotation_id and p.project_id = c.project_id
           order by p.project_id`,
    values: [rotationId, ids],
  });
  const keyOf = new Map(projects.map((one) => [one.projectId, one.keyId]));
  return rows.map((row) => {
    const keyId = keyOf.get(row.project_id);
    const columns = (counts.get(row.project_id) ?? []).map(({ label, key_id, row_count }) => ({
      label,
      key: key_id,
      rows: Number(row_count),
    }));
    const others = columns.reduce((sum, { key, rows }) => (key === null || key === keyId ? sum : sum + rows), 0);
    const own = versions.get(row.project_id) ?? [];
    const [key = null] = own
      .filter(({ id }) => id === keyId)
      .map(({ id, version, fingerprint }) => ({ id, version, fingerprint }));
    const retired = own
      .filter(({ id }) => id !== keyId)
      .map(({ id, version, fingerprint, retained_until }) => ({
        id,
        version,
        fingerprint,
        retainedUntil: retained_until,
      }));
    const facts = {
      rotation: rotationId,
      project: { id: row.project_id, name: row.project_name },
      requestedBy: row.requested_by,
      reason: row.reason,
      requestedAt: row.requested_at,
      promotedAt: row.promoted_at,
      finalizedAt: row.finalized_at,
      rows: { moved: Number(row.rows_moved), verified: Number(row.rows_verified) },
      key,
      retired,
      auditPosition: row.audit_position,
      columns,
    };
    return { projectId: row.project_id, others, facts };
  });
}

interface FactsRow {
  readonly project_id: string;
  readonly project_name: string;
  readonly rows_moved: string;
  readonly rows_verified: string;
  readonly requested_by: string;
  readonly reason: string | null;
  readonly requested_at: string;
  readonly promoted_at: string | null;
  readonly finalized_at: string;
  readonly audit_position: string;
}

interface VersionRow {
  readonly project_id: string;
  readonly id: string;
  readonly version: number;
  readonly fingerprint: string;
  readonly retained_until: string | null;
}

/** Of each of these projects: the version that its rows are under, and the others that were primary once and still decrypt. */
async function selectVersions(
  tx: Queryable,
  projectIds: readonly string[],
  keyIds: readonly string[],
): Promise<Map<string, VersionRow[]>> {
  const { rows } = await tx.query<VersionRow>({
    text: `select c.project_id, k.id, k.version, encode(k.fingerprint, 'hex') as fingerprint, to_json(k.retention_until) as retained_until
           from unnest($1::uuid[], $2::uuid[]) as c (project_id, key_id)
           join keyring.encryption_keys k on k.project_id = c.project_id
             and (k.id = c.key_id or k.state <> 'destroyed' and k.activated_at is not null)
           order by k.project_id, k.version`,
    values: [projectIds, keyIds],
  });
  return Map.groupBy(rows, (row) => row.project_id);
}

interface ColumnCount {
  readonly project_id: string;
  readonly key_id: string | null;
  readonly label: string;
  readonly row_count: string;
}

/** Of each of these projects that has rows: how many, by column and version. */
async function countColumns(tx: Queryable, projectIds: readonly string[]): Promise<Map<string, ColumnCount[]>> {
  const { rows } = await tx.query<ColumnCount>({
    text: `select project_id, encryption_key_id as key_id, label, row_count from keyring.reference_counts_of($1)
           order by label, encryption_key_id`,
    values: [projectIds],
  });
  return Map.groupBy(rows, (row) => row.project_id);
}

export async function insertReceipts(
  tx: Queryable,
  rotationId: string,
  signingKeyId: string,
  receipts: readonly { readonly projectId: string; readonly payload: string; readonly signature: Buffer }[],
): Promise<void> {
  await tx.query({
    text: `insert into keyring.receipts (rotation_id, project_id, payload, signature, signing_key_id)
           select $1, c.project_id, c.payload, c.signature, $2
           from unnest($3::uuid[], $4::text[], $5::bytea[]) as c (project_id, payload, signature)`,
    values: [
      rotationId,
      signingKeyId,
      receipts.map((receipt) => receipt.projectId),
      textArray(receipts.map((receipt) => receipt.payload)),
      byteaArray(receipts.map((receipt) => receipt.signature)),
    ],
  });
}

export async function selectReceipts(
  database: Queryable,
  rotationId: string,
  { projectId, after, limit }: { projectId: string | undefined; after: string | undefined; limit: number },
): Promise<Receipt[]> {
  const { rows } = await database.query<{
    payload: string;
    signature: Buffer;
    key_id: string;
    public_key: Buffer;
  }>({
    text: `select c.payload, c.signature, s.id as key_id, s.public_key
           from keyring.receipts c join keyring.signing_keys s on s.id = c.signing_key_id
           where c.rotation_id = $1 and ($2::uuid is null or c.project_id = $2) and ($3::uuid is null or c.project_id > $3)
           order by c.project_id limit $4`,
    values: [rotationId, projectId ?? null, after ?? null, limit],
  });
  return rows.map((row) => ({
    payload: row.payload,
    signature: row.signature.toString('base64'),
    publicKey: row.public_key.toString('base64'),
    keyId: row.key_id,
  }));
}
