import type { ExposedSecret, KeyVersion } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type * as schemas from '../schemas/keys.ts';
import { time, timeOrNull } from './common.ts';

export function wireKey(key: KeyVersion): z.infer<typeof schemas.key> {
  return {
    id: key.id,
    projectId: key.projectId,
    projectName: key.projectName,
    version: key.version,
    status: key.status,
    active: key.active,
    rows: key.rows,
    fingerprint: key.fingerprint,
    encryptions: key.encryptions,
    lastUsedAt: timeOrNull(key.lastUsedAt),
    createdAt: time(key.createdAt),
    activatedAt: timeOrNull(key.activatedAt),
    deactivatedAt: timeOrNull(key.deactivatedAt),
    retentionUntil: timeOrNull(key.retentionUntil),
    destroyedAt: timeOrNull(key.destroyedAt),
    nextDueAt: timeOrNull(key.nextDueAt),
  };
}

export function wireExposed(secret: ExposedSecret): z.infer<typeof schemas.exposure>['secrets'][number] {
  return {
    label: secret.label,
    rowId: secret.rowId,
    name: secret.name ?? null,
    writtenAt: timeOrNull(secret.writtenAt),
    replacedAt: timeOrNull(secret.replacedAt),
  };
}
