import { randomBytes, randomUUID } from 'node:crypto';
import { makeProject, wrapped } from './support.ts';
import type { Connections, Session } from './support.ts';

/** A further wrapping key, wrapped by one root key and perhaps by others. */
export async function addWrappingKey(by: Session, roots = 1): Promise<string> {
  const id = randomUUID();
  await by.run(
    `insert into keyring.wrapping_keys (id, version, fingerprint)
     select $1, coalesce(max(version), 0) + 1, $2 from keyring.wrapping_keys`,
    [id, randomBytes(32)],
  );
  for (let count = 0; count < roots; count++) {
    const [root] = await by.run<{ id: string }>(
      `insert into keyring.root_keys (uri, fingerprint) values ('test:', $1) returning id`,
      [randomBytes(16).toString('hex')],
    );
    await wrapUnder(by, id, root!.id);
  }
  return id;
}

export const wrapUnder = (by: Session, wrappingKeyId: string, rootId: string) =>
  by.run('insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped) values ($1, $2, $3)', [
    wrappingKeyId,
    rootId,
    randomBytes(78),
  ]);

export const movePointer = (by: Session, to: string) =>
  by.run('update keyring.installation set wrapping_key_id = $1', [to]);

/** A project, whose keys are under the wrapping key that is primary now, and one that is not primary. Nothing else is there. */
export async function twoWrappingKeysOn(on: Connections) {
  const [admin, service, other] = await Promise.all([on.admin(), on.service(), on.service()]);
  await admin.run('set session_replication_role = replica');
  const tables = ['upper_rotations', 'keyrings', 'encryption_keys', 'signing_keys', 'installation'];
  for (const table of [...tables, 'wrapped_wrapping_keys', 'wrapping_keys', 'root_keys']) {
    await admin.run(`delete from keyring.${table}`);
  }
  await admin.run('delete from public.projects');
  await admin.run('set session_replication_role = origin');
  const project = await makeProject(service);
  return { admin, service, other, project, next: await addWrappingKey(service) };
}

export const insertKey = (by: Session, projectId: string, under: string, bytes = wrapped(under), version = 9) =>
  by.run(
    `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
     values ($1, $2, $6, $3, $4, $5)`,
    [randomUUID(), projectId, bytes, under, randomBytes(32), version],
  );

export const rewrap = (by: Session, keyId: string, to: string) =>
  by.run('update keyring.encryption_keys set wrapped_key = $2, wrapping_key_id = $3 where id = $1', [
    keyId,
    wrapped(to),
    to,
  ]);
