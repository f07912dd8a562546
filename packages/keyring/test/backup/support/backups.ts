import { randomUUID } from 'node:crypto';
import { insecureExportBackup, parseBackup, type Backup, type Database, type RootKeyProvider } from '@meshhook/keyring';
import { dataKeyAad, wrappingKeyAad } from '../../../src/envelope/aad.ts';
import { seal } from '../../../src/envelope/seal.ts';
import { generateKey, insecureExportKey, keyFingerprint } from '../../../src/secret-bytes.ts';
import type { Installation } from '../../engine/support/installation.ts';

/** What goes to `insecureExportBackup` besides: an encryption that is none, so that the core is looked at alone. */
export function inTheClear(database: Database, rootKey: RootKeyProvider) {
  let file: Buffer | undefined;
  return {
    options: {
      ...{ database, rootKey, actor: 'test', recipients: ['age1test'] },
      seal: async (document: Uint8Array) => Buffer.from(document),
      write: async (bytes: Uint8Array) => void (file = Buffer.from(bytes)),
    },
    backup: (): Backup => parseBackup(Buffer.from(file ?? Buffer.alloc(0))),
  };
}

export async function backUp(database: Database, rootKey: RootKeyProvider): Promise<Backup> {
  const { options, backup } = inTheClear(database, rootKey);
  await insecureExportBackup(options);
  return backup();
}

/** A second wrapping key, and a version of a project under it: what a rotation of the wrapping key leaves on its way. */
export async function addWrappingKey(
  { sql, behindTheFence, rootKey }: Installation,
  projectId: string | undefined,
  version = 2,
): Promise<{ id: string }> {
  const id = randomUUID();
  const key = generateKey();
  const { wrapped, fingerprint } = await rootKey.wrap(
    insecureExportKey(key),
    wrappingKeyAad({ version, wrappingKeyId: id }),
  );
  await behindTheFence('insert into keyring.wrapping_keys (id, version, fingerprint) values ($1, $2, $3)', [
    ...[id, version, keyFingerprint(key, id)],
  ]);
  await behindTheFence(
    `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
     select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3`,
    [id, wrapped, fingerprint],
  );
  if (projectId !== undefined) {
    const dataKey = generateKey();
    const keyId = randomUUID();
    const [last] = await sql<{ next: number }>(
      'select max(version) + 1 as next from keyring.encryption_keys where project_id = $1',
      [projectId],
    );
    const next = last?.next ?? 1;
    const aad = dataKeyAad({ projectId, version: next, keyId, wrappingKeyId: id });
    await behindTheFence(
      `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
       values ($1, $2, $3, $4, $5, $6)`,
      [keyId, projectId, next, seal(key, id, insecureExportKey(dataKey), aad), id, keyFingerprint(dataKey, keyId)],
    );
  }
  return { id };
}

/** Back to one wrapping key and no backup, for the next test. */
export async function forgetBackups({ sql, behindTheFence }: Installation): Promise<void> {
  await sql('delete from keyring.root_key_backups');
  await behindTheFence(`delete from keyring.encryption_keys where wrapping_key_id in
    (select id from keyring.wrapping_keys where version > 1)`);
  await behindTheFence(`delete from keyring.wrapped_wrapping_keys where wrapping_key_id in
    (select id from keyring.wrapping_keys where version > 1)`);
  await behindTheFence('delete from keyring.wrapping_keys where version > 1');
  await behindTheFence(`delete from keyring.wrapped_wrapping_keys where root_key_id <>
    (select id from keyring.root_keys order by created_at limit 1)`);
  await behindTheFence(
    `delete from keyring.root_keys where id <> (select id from keyring.root_keys order by created_at limit 1)`,
  );
}
