import type { Receipt } from '../api.ts';
import type { Queryable } from '../db/port.ts';

/** Everything a receipt says, read in the transaction that finalizes: one JSON value, built by PostgreSQL. */
export async function selectReceiptFacts(
  tx: Queryable,
  rotationId: string,
  projectId: string,
  keyId: string,
): Promise<Record<string, unknown>> {
  const { rows } = await tx.query<{ facts: Record<string, unknown> }>({
    text: `select jsonb_build_object(
             'rotation', r.id, 'project', jsonb_build_object('id', p.project_id, 'name', p.project_name),
             'requestedBy', r.requested_by, 'reason', r.reason, 'requestedAt', r.requested_at,
             'promotedAt', p.promoted_at, 'finalizedAt', now(),
             'rows', jsonb_build_object('moved', p.rows_moved, 'verified', p.rows_verified),
             'key', (select jsonb_build_object('id', k.id, 'version', k.version, 'fingerprint', encode(k.fingerprint, 'hex'))
                     from keyring.encryption_keys k where k.id = $3),
             'retired', (select coalesce(jsonb_agg(jsonb_build_object('id', k.id, 'version', k.version,
                           'fingerprint', encode(k.fingerprint, 'hex'), 'retainedUntil', k.retention_until)
                           order by k.version), '[]')
                         from keyring.encryption_keys k
                         where k.project_id = $2 and k.id <> $3 and k.state <> 'destroyed'
                           and k.activated_at is not null),
             'columns', (select coalesce(jsonb_agg(jsonb_build_object('label', c.label, 'key', c.encryption_key_id,
                           'rows', c.row_count) order by c.label, c.encryption_key_id), '[]')
                         from keyring.reference_counts($2) c),
             'auditPosition', (select coalesce(max(a.id), 0)::text from keyring.audit_log a where a.project_id = $2)
           ) as facts
           from keyring.rotations r
           join keyring.rotation_projects p on p.rotation_id = r.id and p.project_id = $2
           where r.id = $1`,
    values: [rotationId, projectId, keyId],
  });
  return rows[0]?.facts ?? {};
}

export async function insertReceipt(
  tx: Queryable,
  receipt: { rotationId: string; projectId: string; payload: string; signature: Buffer; signingKeyId: string },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.receipts (rotation_id, project_id, payload, signature, signing_key_id)
           values ($1, $2, $3, $4, $5)`,
    values: [receipt.rotationId, receipt.projectId, receipt.payload, receipt.signature, receipt.signingKeyId],
  });
}

export async function selectReceipts(database: Queryable, rotationId: string): Promise<Receipt[]> {
  const { rows } = await database.query<{
    payload: string;
    signature: Buffer;
    key_id: string;
    public_key: Buffer;
  }>({
    text: `select c.payload, c.signature, s.id as key_id, s.public_key
           from keyring.receipts c join keyring.signing_keys s on s.id = c.signing_key_id
           where c.rotation_id = $1 order by c.project_id limit 1000`,
    values: [rotationId],
  });
  return rows.map((row) => ({
    payload: row.payload,
    signature: row.signature.toString('base64'),
    publicKey: row.public_key.toString('base64'),
    keyId: row.key_id,
  }));
}
