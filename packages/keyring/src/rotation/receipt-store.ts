import type { Receipt } from '../api.ts';
import { byteaArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';
import { projectsOf } from './project-store.ts';

/** What a receipt says of a project, as JSON; `others`: rows of it that are under another version than its key. */
export interface ReceiptFacts {
  readonly projectId: string;
  readonly others: number;
  readonly facts: Record<string, unknown>;
}

/** Everything the receipts of these projects say, read in the transaction that finalizes them: JSON, built by PostgreSQL. */
export async function selectReceiptFacts(
  tx: Queryable,
  rotationId: string,
  projects: readonly { readonly projectId: string; readonly keyId: string }[],
): Promise<ReceiptFacts[]> {
  const ids = projects.map((one) => one.projectId);
  const counts = await countColumns(tx, ids);
  const { rows } = await tx.query<{ project_id: string; facts: Record<string, unknown> }>({
    text: `select p.project_id,
             jsonb_build_object(
             'rotation', r.id, 'project', jsonb_build_object('id', p.project_id, 'name', p.project_name),
             'requestedBy', r.requested_by, 'reason', r.reason, 'requestedAt', r.requested_at,
             'promotedAt', p.promoted_at, 'finalizedAt', now(),
             'rows', jsonb_build_object('moved', p.rows_moved, 'verified', p.rows_verified),
             'key', (select jsonb_build_object('id', k.id, 'version', k.version, 'fingerprint', encode(k.fingerprint, 'hex'))
                     from keyring.encryption_keys k where k.id = c.key_id and k.project_id = p.project_id),
             'retired', (select coalesce(jsonb_agg(jsonb_build_object('id', k.id, 'version', k.version,
                           'fingerprint', encode(k.fingerprint, 'hex'), 'retainedUntil', k.retention_until)
                           order by k.version), '[]')
                         from keyring.encryption_keys k
                         where k.project_id = p.project_id and k.id <> c.key_id and k.state <> 'destroyed'
                           and k.activated_at is not null),
             'auditPosition', (select coalesce(max(a.id), 0)::text from keyring.audit_log a
                               where a.project_id = p.project_id)
           ) as facts
           from ${projectsOf('$2::uuid[], $3::uuid[]', 'project_id, key_id')} c
           join keyring.rotations r on r.id = c.rotation_id
           join keyring.rotation_projects p on p.rotation_id = c.rotation_id and p.project_id = c.project_id
           order by p.project_id`,
    values: [rotationId, ids, projects.map((one) => one.keyId)],
  });
  const keyOf = new Map(projects.map((one) => [one.projectId, one.keyId]));
  return rows.map(({ project_id, facts }) => {
    const columns = (counts.get(project_id) ?? []).map(({ label, key_id, row_count }) => ({
      label,
      key: key_id,
      rows: Number(row_count),
    }));
    const others = columns.reduce(
      (sum, { key, rows }) => (key === null || key === keyOf.get(project_id) ? sum : sum + rows),
      0,
    );
    return { projectId: project_id, others, facts: { ...facts, columns } };
  });
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
      receipts.map((receipt) => receipt.payload),
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
