import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { KeyringError, type RootKeyProvider } from '@meshhook/keyring';
import { dataKeyAad, wrappingKeyAad } from '../../../src/envelope/aad.ts';
import { open, seal } from '../../../src/envelope/seal.ts';
import {
  generateKey,
  insecureExportKey,
  keyFingerprint,
  keyFromBytes,
  type SecretKey,
} from '../../../src/secret-bytes.ts';
import { memoryRootKey, type Installation } from './installation.ts';

export interface FlakyRootKey extends RootKeyProvider {
  /** How often it was asked to wrap or unwrap. */
  asked: number;
  /** While it is down, everything but its name fails. */
  down: boolean;
  /** How long it takes to answer. */
  slowMs: number;
  /** Nothing is answered before this resolves: a network that drops everything. */
  silence: Promise<void>;
}

/** A root key in memory whose provider can be switched off. */
export function flakyRootKey(uri = 'memory:flaky'): FlakyRootKey {
  const inner = memoryRootKey();
  const asking = async <T>(root: FlakyRootKey, work: () => Promise<T>): Promise<T> => {
    root.asked += 1;
    if (root.slowMs > 0) await sleep(root.slowMs);
    await root.silence;
    if (!root.down) return work();
    throw new KeyringError('root_key_unreachable', `The root key ${uri} does not answer.`, { remedy: 'Wait.' });
  };
  return {
    uri,
    asked: 0,
    down: false,
    slowMs: 0,
    silence: Promise.resolve(),
    wrap(key, context) {
      return asking(this, () => inner.wrap(key, context));
    },
    unwrap(wrapped, context) {
      return asking(this, () => inner.unwrap(wrapped, context));
    },
    status: () => inner.status(),
  };
}

export interface MadeWrappingKey {
  readonly id: string;
  readonly key: SecretKey;
}

/** A further wrapping key, as another process would have committed it; nothing is under it. */
export async function addWrappingKey({ sql }: Installation, root: RootKeyProvider): Promise<MadeWrappingKey> {
  const id = randomUUID();
  const key = generateKey();
  const [row] = await sql<{ version: number }>('select max(version) + 1 as version from keyring.wrapping_keys');
  const version = row?.version ?? 0;
  const { wrapped, fingerprint } = await root.wrap(
    insecureExportKey(key),
    wrappingKeyAad({ version, wrappingKeyId: id }),
  );
  await sql('insert into keyring.wrapping_keys (id, version, fingerprint) values ($1, $2, $3)', [
    id,
    version,
    keyFingerprint(key, id),
  ]);
  await sql(
    `insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped)
     select $1, r.id, $2 from keyring.root_keys r where r.fingerprint = $3`,
    [id, wrapped, fingerprint],
  );
  return { id, key };
}

/** The wrapping key that the pointer names, unwrapped. */
export async function primaryWrappingKey({ sql }: Installation, root: RootKeyProvider): Promise<MadeWrappingKey> {
  const [row] = await sql<{ id: string; version: number; wrapped: Buffer }>(
    `select w.id, w.version, c.wrapped from keyring.installation i
     join keyring.wrapping_keys w on w.id = i.wrapping_key_id
     join keyring.wrapped_wrapping_keys c on c.wrapping_key_id = w.id
     join keyring.root_keys r on r.id = c.root_key_id and r.fingerprint = $1`,
    [(await root.status()).fingerprint],
  );
  if (row === undefined) throw new Error('The primary wrapping key is not under this root key.');
  const place = { version: row.version, wrappingKeyId: row.id };
  return { id: row.id, key: keyFromBytes(await root.unwrap(row.wrapped, wrappingKeyAad(place))) };
}

/** Wraps every data key of a project under another wrapping key, behind the fence. */
export async function rewrapBehindTheFence(
  { sql, behindTheFence }: Installation,
  projectId: string,
  from: MadeWrappingKey,
  to: MadeWrappingKey,
): Promise<void> {
  const rows = await sql<{ id: string; version: number; wrapped_key: Buffer }>(
    'select id, version, wrapped_key from keyring.encryption_keys where project_id = $1 and wrapping_key_id = $2',
    [projectId, from.id],
  );
  for (const { id: keyId, version, wrapped_key } of rows) {
    const place = { projectId, version, keyId };
    const bytes = open(from.key, from.id, wrapped_key, dataKeyAad({ ...place, wrappingKeyId: from.id }));
    await behindTheFence('update keyring.encryption_keys set wrapped_key = $2, wrapping_key_id = $3 where id = $1', [
      keyId,
      seal(to.key, to.id, bytes, dataKeyAad({ ...place, wrappingKeyId: to.id })),
      to.id,
    ]);
  }
}

/** Nobody but who says so from now on is waited for. */
export async function forgetInstances({ sql }: Installation): Promise<void> {
  await sql('delete from keyring.instances');
}

/** Rotations of upper keys, and what they left of wrapping keys that nothing is under. */
export async function clearUpperRotations({ behindTheFence }: Installation): Promise<void> {
  await behindTheFence('delete from keyring.upper_rotations');
  await behindTheFence(
    `delete from keyring.wrapped_wrapping_keys where wrapping_key_id not in (select wrapping_key_id from keyring.installation)`,
  );
  await behindTheFence(
    `delete from keyring.wrapping_keys where id not in (select wrapping_key_id from keyring.installation)`,
  );
}

/** Further versions of a project, staged and never promoted: data keys without rows, made as the library makes them. */
export async function addStagedVersions(
  { sql, staged }: Installation,
  projectId: string,
  count: number,
): Promise<void> {
  const [row] = await sql<{ version: number }>(
    'select max(version) as version from keyring.encryption_keys where project_id = $1',
    [projectId],
  );
  await staged(projectId, (row?.version ?? 0) + 1, count);
}

/** How many data and signing keys are under each wrapping key, by its version. */
export async function keysByWrappingVersion({ sql }: Installation): Promise<Record<string, number>> {
  const rows = await sql<{ version: number; keys: number }>(
    `select w.version, count(*)::int as keys from keyring.wrapping_keys w join (
       select wrapping_key_id from keyring.encryption_keys where wrapped_key is not null
       union all select wrapping_key_id from keyring.signing_keys) k on k.wrapping_key_id = w.id
     group by 1 order by 1`,
  );
  return Object.fromEntries(rows.map((row) => [String(row.version), row.keys]));
}
