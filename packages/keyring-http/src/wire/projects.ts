import type { AuditEntry, OpenedSecret, Project, SecretEntry } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type * as schemas from '../schemas/projects.ts';
import type * as secrets from '../schemas/secrets.ts';
import { time, timeOrNull } from './common.ts';

export function wireProject(project: Project): z.infer<typeof schemas.project> {
  return { id: project.id, name: project.name, owner: project.owner, createdAt: time(project.createdAt) };
}

/** Of an entry's details only the version: the rest is for who may read the trail. */
export function wireEvent(entry: AuditEntry): z.infer<typeof schemas.timeline>['events'][number] {
  const { version } = entry.details;
  return {
    id: entry.id,
    at: time(entry.at),
    actor: entry.actor,
    action: entry.action,
    outcome: entry.outcome,
    subject: entry.subject,
    reason: entry.reason ?? null,
    version: typeof version === 'number' ? version : null,
  };
}

export function wireSecret(secret: SecretEntry): z.infer<typeof secrets.secretEntry> {
  return {
    id: secret.id,
    name: secret.name,
    keyId: secret.keyId ?? null,
    version: secret.version ?? null,
    stale: secret.stale,
    createdAt: time(secret.createdAt),
    updatedAt: time(secret.updatedAt),
    writtenAt: timeOrNull(secret.writtenAt),
  };
}

/** As text when it is text, which only a strict decoder tells. */
export function wireRevealed(secret: OpenedSecret): z.infer<typeof secrets.revealedSecret> {
  const { bytes } = secret;
  let value: string;
  let encoding: 'utf8' | 'base64' = 'utf8';
  try {
    value = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    value = bytes.toString('base64');
    encoding = 'base64';
  } finally {
    bytes.fill(0);
  }
  const { id, name, stale, keyId, writtenAt } = secret;
  return { id, name, value, encoding, stale, keyId, writtenAt: timeOrNull(writtenAt) };
}
