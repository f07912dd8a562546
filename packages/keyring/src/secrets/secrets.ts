import { randomUUID } from 'node:crypto';
import type { OpenedSecret, PutResult, SecretEntry, Secrets } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import type { Database } from '../db/port.ts';
import { secretAad } from '../envelope/aad.ts';
import { MAX_PLAINTEXT_BYTES } from '../envelope/format.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import { requireName, requireUuid } from '../validate.ts';
import { Opened } from './opened-secret.ts';
import {
  deleteSecret,
  insertSecret,
  SECRETS_LABEL,
  selectSecret,
  selectSecretEntries,
  selectSecretRow,
  updateSecret,
  type SecretEntryRow,
} from './store.ts';

// A try is lost to a promote, a first put or a delete that came between; each is over when the next one starts.
const PUT_ATTEMPTS = 20;

/** Puts, gets, lists and removes the secrets of projects. */
export function secrets(database: Database, dataKeys: DataKeys, audit: AuditTrail): Omit<Secrets, 'adopt'> {
  return {
    async put(projectId, name, value) {
      requireUuid('project id', projectId);
      requireName('secret name', name);
      const plaintext = requireValue(value);
      for (let attempt = 1; attempt <= PUT_ATTEMPTS; attempt++) {
        const written = await tryPut(database, dataKeys, audit.actor, projectId, name, plaintext);
        if (written !== undefined) return written;
      }
      throw new KeyringError('contended', `The secret "${name}" is being changed by too many writers at once.`, {
        remedy: 'Try again.',
      });
    },
    async get(projectId, name) {
      requireUuid('project id', projectId);
      const row = await selectSecret(database, projectId, name);
      if (row === undefined) return undefined;
      const keyId = row.encryption_key_id;
      if (keyId === null) throw notAdopted(name);
      const { key } = await dataKeys.get(projectId, keyId).catch((error: unknown) => {
        // A row whose key is not its project's was tampered with: the same answer as for any other tampering.
        throw error instanceof KeyringError && error.code === 'unknown_key' ? decryptionFailed() : error;
      });
      const aad = secretAad({ projectId, label: SECRETS_LABEL, rowId: row.id, keyId });
      return new Opened(open(key, keyId, row.value_encrypted, aad), {
        id: row.id,
        name,
        keyId,
        stale: keyId !== row.primary_key_id,
        writtenAt: row.value_written_at ?? undefined,
      }) satisfies OpenedSecret;
    },
    async list(projectId, { limit = 1000, after } = {}) {
      requireUuid('project id', projectId);
      const rows = await selectSecretEntries(database, {
        projectId,
        after,
        limit: Math.min(Math.max(limit, 1), 10_000),
      });
      return rows.map(secretEntry);
    },
    async remove(projectId, name) {
      requireUuid('project id', projectId);
      return deleteSecret(database, { projectId, name, actor: audit.actor });
    },
  };
}

/** One try: undefined when somebody else came between and it is worth another. */
async function tryPut(
  database: Database,
  dataKeys: DataKeys,
  actor: string,
  projectId: string,
  name: string,
  plaintext: Uint8Array,
): Promise<PutResult | undefined> {
  const existing = await selectSecretRow(database, projectId, name);
  const primary = await dataKeys.primary(projectId);
  await dataKeys.usage.spend(primary.id, 1);
  const id = existing?.id ?? randomUUID();
  const aad = secretAad({ projectId, label: SECRETS_LABEL, rowId: id, keyId: primary.id });
  const envelope = seal(primary.key, primary.id, plaintext, aad);
  const write = { id, projectId, name, envelope, keyId: primary.id, actor };
  try {
    if (existing === undefined) {
      await insertSecret(database, write);
    } else if (!(await updateSecret(database, write, existing.encryption_key_id))) {
      return undefined;
    }
    return { id, created: existing === undefined, keyId: primary.id };
  } catch (error) {
    const state = sqlState(error);
    if (state === sqlStates.staleVersion || state === sqlStates.foreignKeyViolation) {
      dataKeys.forgetPrimary(projectId);
      return undefined;
    }
    if (state === sqlStates.uniqueViolation || isTransient(error)) return undefined;
    throw error;
  }
}

function requireValue(value: string | Uint8Array): Uint8Array {
  if (typeof value === 'string' && !value.isWellFormed()) {
    throw new KeyringError('invalid_value', 'The value is not well-formed Unicode; pass it as bytes.');
  }
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  if (bytes.length === 0) throw new KeyringError('invalid_value', 'The value is empty.');
  if (bytes.length > MAX_PLAINTEXT_BYTES) {
    throw new KeyringError(
      'invalid_value',
      `The value has ${String(bytes.length)} bytes; at most ${String(MAX_PLAINTEXT_BYTES)} are allowed.`,
    );
  }
  return bytes;
}

function notAdopted(name: string): KeyringError {
  return new KeyringError(
    'illegal_state',
    `The secret "${name}" was stored before the keyring and is not adopted yet.`,
    {
      remedy: 'Run `mh-keys secrets adopt`.',
    },
  );
}

function secretEntry(row: SecretEntryRow): SecretEntry {
  return {
    id: row.id,
    name: row.key,
    keyId: row.encryption_key_id ?? undefined,
    version: row.version ?? undefined,
    stale: row.encryption_key_id !== row.primary_key_id,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    writtenAt: row.value_written_at ?? undefined,
  };
}
