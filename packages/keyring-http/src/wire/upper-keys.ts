import type {
  BackupRecord,
  Instance,
  RootKeyEntry,
  RootRotation,
  WrappingKeyVersion,
  WrappingRotation,
} from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type { WorkerView } from '../options.ts';
import type * as schemas from '../schemas/upper-keys.ts';
import { time, timeOrNull } from './common.ts';

/** A URI may hold a credential, a path or an account: of it only the scheme goes out. */
function wireRootReference({ uri, fingerprint }: { readonly uri: string; readonly fingerprint: string }) {
  return { scheme: /^[a-z0-9+.-]{1,30}(?=:)/i.exec(uri)?.[0].toLowerCase() ?? 'unknown', fingerprint };
}

/** `WHERE: CODE`: where it is stays here. */
const codeOf = (trouble: string): string => trouble.slice(trouble.lastIndexOf(': ') + 2);

export function wireInstance(instance: Instance): z.infer<typeof schemas.instance> {
  return {
    id: instance.id,
    host: instance.host,
    pid: instance.pid,
    actor: instance.actor,
    version: instance.version,
    startedAt: time(instance.startedAt),
    seenAt: time(instance.seenAt),
    alive: instance.alive,
    usableRoots: [...instance.usableRoots],
    wrappingKeys: [...instance.wrappingKeys],
    troubles: instance.troubles.map(codeOf),
  };
}

export function wireWorker(worker: WorkerView): z.infer<typeof schemas.worker> {
  return {
    id: worker.id,
    host: worker.host,
    pid: worker.pid,
    version: worker.version,
    concurrency: worker.concurrency,
    startedAt: time(worker.startedAt),
    seenAt: time(worker.seenAt),
    alive: worker.alive,
    units: worker.units.map(({ rotationId, projects, since }) => ({ rotationId, projects, since: time(since) })),
    driving: [...worker.driving],
  };
}

export function wireRootKey(key: RootKeyEntry): z.infer<typeof schemas.rootKey> {
  return {
    ...wireRootReference(key),
    state: key.state ?? null,
    wrappingKeys: key.wrappingKeys,
    createdAt: timeOrNull(key.createdAt),
    usableHere: key.usableHere,
    usableBy: [...key.usableBy],
  };
}

/** To whom a backup is encrypted, and under which root key, stays here. */
export function wireBackup(backup: BackupRecord): z.infer<typeof schemas.rootKeyBackup> {
  return {
    id: backup.id,
    createdAt: time(backup.createdAt),
    writtenAt: timeOrNull(backup.writtenAt),
    verifiedAt: timeOrNull(backup.verifiedAt),
    complete: backup.complete,
  };
}

export function wireRootRotation(rotation: RootRotation): z.infer<typeof schemas.rootRotation> {
  return {
    ...wireUpperRotation(rotation),
    state: rotation.state,
    from: wireRootReference(rotation.from),
    to: wireRootReference(rotation.to),
  };
}

export function wireWrappingKey(key: WrappingKeyVersion): z.infer<typeof schemas.wrappingKey> {
  return {
    id: key.id,
    version: key.version,
    state: key.state,
    active: key.active,
    keys: key.keys,
    fingerprint: key.fingerprint,
    rootKeys: [...key.rootKeys],
    createdAt: time(key.createdAt),
    promotedAt: timeOrNull(key.promotedAt),
    exposedAt: timeOrNull(key.exposedAt),
    destroyedAt: timeOrNull(key.destroyedAt),
  };
}

export function wireWrappingRotation(rotation: WrappingRotation): z.infer<typeof schemas.wrappingRotation> {
  return {
    ...wireUpperRotation(rotation),
    state: rotation.state,
    fromKeyId: rotation.fromKeyId,
    fromVersion: rotation.fromVersion,
    toKeyId: rotation.toKeyId ?? null,
    toVersion: rotation.toVersion ?? null,
    promotedAt: timeOrNull(rotation.promotedAt),
    keys: {
      total: rotation.keys.total ?? null,
      moved: rotation.keys.moved,
      verified: rotation.keys.verified,
    },
    blockedBy: rotation.blockedBy.map(({ kind, id, projectId, version, reason }) => ({
      ...{ kind, id, version, reason },
      projectId: projectId ?? null,
    })),
  };
}

/** Not `errorDetail`: it may say where a root key is. */
function wireUpperRotation(rotation: RootRotation | WrappingRotation) {
  return {
    id: rotation.id,
    leaked: rotation.leaked,
    requestedBy: rotation.requestedBy,
    reason: rotation.reason ?? null,
    requestedAt: time(rotation.requestedAt),
    preparedAt: timeOrNull(rotation.preparedAt),
    finishedAt: timeOrNull(rotation.finishedAt),
    forced: [...rotation.forced],
    errorCode: rotation.errorCode ?? null,
  };
}
