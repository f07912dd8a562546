import { randomUUID } from 'node:crypto';
import type { Actor, OpenedSecret, PutResult, SecretEntry, Secrets } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import type { Database } from '../db/port.ts';
import { resent } from '../db/retried.ts';
import { secretAad, secretAadBuilder } from '../envelope/aad.ts';
import { opener, seal } from '../envelope/seal.ts';
import { KeyringError } from '../errors.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import { requireGivenReason, requireName, requireUuid } from '../validate.ts';
import { OpenedStoredSecret } from './opened-secret.ts';
import {
  deleteSecret,
  insertSecret,
  SECRETS_LABEL,
  selectSecret,
  selectSecretEntries,
  selectSecretRow,
  updateSecret,
  type SecretEntryRow,
  type SecretRow,
} from './store.ts';
import { isLostTry, untilDone, withKey } from './tries.ts';
import { Turnstile } from './turnstile.ts';
import { withValue } from './value.ts';

// Of the connections of a pool, one project's writers take a few: those that wait for a row somebody holds must not keep the
// readers of all projects waiting.
const WRITERS_PER_PROJECT = 4;

/** Where the writers of a process queue up, in whosever name they write. */
export function secretWriters(): Turnstile {
  return new Turnstile(WRITERS_PER_PROJECT);
}

/** Puts, gets, lists and removes the secrets of projects. What is read is read by way of `sight`: it may show fewer rows. */
export function secrets(
  database: Database,
  dataKeys: DataKeys,
  audit: AuditTrail,
  writers: Turnstile,
  noteRead: (projectId: string) => void,
  sight: Database = database,
): Omit<Secrets, 'adopt'> {
  const used = (name: string, row: SecretRow, key: DataKey): OpenedSecret => {
    dataKeys.uses.note(key.id);
    return opened(name, row, key);
  };
  const read = async (projectId: string, name: string): Promise<OpenedSecret | undefined> => {
    if (isUnstorable(name)) return undefined;
    const row = await selectSecret(sight, projectId, name);
    if (row === undefined) return undefined;
    const key = dataKeys.cached(projectId, keyIdOf(row, name));
    if (key !== undefined) return used(name, row, key);
    const again = (): Promise<SecretRow | undefined> => selectSecret(sight, projectId, name);
    const found = await withKey(dataKeys, projectId, row, (one) => keyIdOf(one, name), again);
    return found && used(name, found.row, found.key);
  };
  // A migration takes the tables of a read in another order: one of the two is given up.
  const get = async (givenId: string, name: string): Promise<OpenedSecret | undefined> => {
    const projectId = requireUuid('project id', givenId);
    return resent(() => read(projectId, name));
  };
  return {
    async get(projectId, name) {
      const secret = await get(projectId, name);
      if (secret !== undefined) noteRead(projectId.toLowerCase());
      return secret;
    },
    async reveal(givenId, name, { reason }) {
      requireGivenReason(reason);
      const secret = await get(givenId, name);
      if (secret === undefined) return undefined;
      const { id, keyId } = secret;
      const entry = { action: 'secret.revealed', projectId: givenId.toLowerCase(), subject: `secret:${id}`, reason };
      await audit.record(database, { ...entry, details: { name, key: keyId } });
      return secret;
    },
    async put(givenId, name, value) {
      const projectId = requireUuid('project id', givenId);
      requireName('secret name', name);
      const written = await withValue(value, (plaintext) =>
        writers.run(projectId, () =>
          untilDone(() => tryPut(database, dataKeys, audit.actor, projectId, name, plaintext)),
        ),
      );
      if (written !== undefined) return written;
      throw new KeyringError('contended', `The secret "${name}" is being changed by too many writers at once.`, {
        remedy: 'Try again.',
      });
    },
    async list(givenId, { limit = 1000, after } = {}) {
      const projectId = requireUuid('project id', givenId);
      const page = { projectId, after, limit: Math.min(Math.max(limit, 1), 10_000) };
      const rows = await resent(() => selectSecretEntries(sight, page));
      return rows.map(secretEntry);
    },
    async remove(givenId, name) {
      const projectId = requireUuid('project id', givenId);
      if (isUnstorable(name)) return false;
      const removal = { projectId, name, actor: audit.actor };
      return writers
        .run(projectId, () => deleteSecret(database, removal))
        .catch((error: unknown) => {
          throw sqlState(error) === sqlStates.lockNotAvailable ? held(name) : error;
        });
    },
  };
}

// What depends on the key alone is worked out once for as long as the key is held.
const openersOfKeys = new WeakMap<DataKey, (rowId: string, envelope: Uint8Array) => Buffer>();

function openRow(dataKey: DataKey, row: SecretRow): Buffer {
  let openWithKey = openersOfKeys.get(dataKey);
  if (openWithKey === undefined) {
    const aadOf = secretAadBuilder(dataKey.projectId, SECRETS_LABEL, dataKey.id);
    const openUnder = opener(dataKey.key, dataKey.id);
    openWithKey = (rowId, envelope) => openUnder(envelope, aadOf(rowId));
    openersOfKeys.set(dataKey, openWithKey);
  }
  return openWithKey(row.id, row.value_encrypted);
}

function keyIdOf({ encryption_key_id }: SecretRow, name: string): string {
  if (encryption_key_id === null) throw notAdopted(name);
  return encryption_key_id;
}

function opened(name: string, row: SecretRow, key: DataKey): OpenedSecret {
  return new OpenedStoredSecret(openRow(key, row), {
    id: row.id,
    name,
    keyId: key.id,
    stale: key.id !== row.primary_key_id,
    writtenAt: row.value_written_at ?? undefined,
  });
}

/** One try: undefined when somebody else came between and it is worth another. */
async function tryPut(
  database: Database,
  dataKeys: DataKeys,
  actor: Actor,
  projectId: string,
  name: string,
  plaintext: Uint8Array,
): Promise<PutResult | undefined> {
  try {
    const existing = await selectSecretRow(database, projectId, name);
    const primary = await dataKeys.primary(projectId);
    await dataKeys.usage.spend(primary.id, 1);
    const id = existing?.id ?? randomUUID();
    const aad = secretAad({ projectId, label: SECRETS_LABEL, rowId: id, keyId: primary.id });
    const envelope = seal(primary.key, primary.id, plaintext, aad);
    const write = { id, projectId, name, envelope, keyId: primary.id, actor };
    if (existing === undefined) {
      await insertSecret(database, write);
    } else if (!(await updateSecret(database, write, existing.encryption_key_id))) {
      return undefined;
    }
    dataKeys.uses.note(primary.id);
    return { id, created: existing === undefined, keyId: primary.id };
  } catch (error) {
    const state = sqlState(error);
    if (isLostTry(dataKeys, projectId, error) || state === sqlStates.uniqueViolation) return undefined;
    throw state === sqlStates.lockNotAvailable ? held(name) : error;
  }
}

/** No text of PostgreSQL holds a NUL. Other odd names may be there, from before the keyring. */
function isUnstorable(name: string): boolean {
  return name.includes('\0');
}

function held(name: string): KeyringError {
  return new KeyringError('contended', `Another transaction holds the secret "${name}".`, {
    remedy: 'Try again. If it lasts, look for an idle transaction in pg_stat_activity.',
  });
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
