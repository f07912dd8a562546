import { createDecipheriv, createSecretKey } from 'node:crypto';
import { isUtf8 } from 'node:buffer';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AdoptOptions, AdoptReport } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database } from '../db/port.ts';
import { secretAad } from '../envelope/aad.ts';
import { MAX_PLAINTEXT_BYTES } from '../envelope/format.ts';
import { seal } from '../envelope/seal.ts';
import { KeyringError } from '../errors.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import { wipe } from '../secret-bytes.ts';
import { requireUuid } from '../validate.ts';
import {
  countUnadopted,
  finishAdoption,
  lockUnadopted,
  readUnadopted,
  selectUnadopted,
  storeAdopted,
  type UnadoptedRow,
} from './adopt-store.ts';
import { SECRETS_LABEL } from './store.ts';

const BATCH = 200;
// Passes over rows that others held, each after a longer wait; what is left then is reported as remaining.
const PASSES = 8;

/**
 * Encrypts a column's rows from before the keyring, batch by batch, each batch in a transaction that holds its rows. Interrupted,
 * it is simply run again: what is adopted names its key. `updated_at` of a secret stays.
 */
export async function adoptColumn(
  database: Database,
  dataKeys: DataKeys,
  audit: AuditTrail,
  column: EncryptedColumn,
  options: AdoptOptions,
): Promise<AdoptReport> {
  const { dryRun = false, signal, onProgress } = options;
  const projectId = options.projectId === undefined ? undefined : requireUuid('project id', options.projectId);
  const decode = decoder(options.legacyKey);
  const found = await countUnadopted(database, column, projectId);
  const failed = new Map<string, { projectId: string; rowId: string; reason: string }>();
  let adopted = 0;

  for (let pass = 1; pass <= (dryRun ? 1 : PASSES); pass++) {
    for (let after: string | undefined; ;) {
      if (signal?.aborted === true) throw interrupted(column, adopted);
      const next = await selectUnadopted(database, column, { projectId, after, limit: BATCH });
      after = next.at(-1)?.id;
      const ids = next.map((row) => row.id).filter((id) => !failed.has(id));
      const note = (row: UnadoptedRow, reason: string): void => {
        failed.set(row.id, { projectId: row.project_id, rowId: row.id, reason });
      };
      if (dryRun) {
        for (const row of await readUnadopted(database, column, ids)) {
          const value = decode(row.stored);
          if (typeof value === 'string') note(row, value);
          else wipe(value);
        }
      } else {
        const projectIds = new Set(next.map((row) => row.project_id));
        for (const id of projectIds) {
          const { id: keyId } = await dataKeys.primary(id);
          await dataKeys.usage.spend(keyId, next.length);
        }
        adopted += await adoptBatch(database, dataKeys, audit, column, { ids, projectIds }, decode, note);
      }
      onProgress?.({ adopted, total: found });
      if (next.length < BATCH) break;
    }
    if ((await countUnadopted(database, column, projectId)) <= failed.size) break;
    await sleep(25 * 2 ** pass, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }

  const finished = options.finish === true && !dryRun;
  if (finished) await finish(database, audit, column);
  const remaining = await countUnadopted(database, column, projectId);
  return { found, adopted, failed: [...failed.values()], remaining, finished, dryRun };
}

async function adoptBatch(
  database: Database,
  dataKeys: DataKeys,
  audit: AuditTrail,
  column: EncryptedColumn,
  { ids, projectIds }: { readonly ids: readonly string[]; readonly projectIds: Iterable<string> },
  decode: (stored: Buffer) => Buffer | string,
  note: (row: UnadoptedRow, reason: string) => void,
): Promise<number> {
  if (ids.length === 0) return 0;
  for (let attempt = 1; ; attempt++) {
    try {
      // Before rows are held, on a connection that is given back: whoever held one and asked for another could wait for itself.
      const primaries = new Map<string, DataKey>();
      for (const id of projectIds) primaries.set(id, await dataKeys.primary(id));
      return await transaction(database, async (tx) => {
        const sealed: { id: string; envelope: Buffer; keyId: string }[] = [];
        const perProject = new Map<string, number>();
        for (const row of await lockUnadopted(tx, column, ids)) {
          const primary = primaries.get(row.project_id);
          if (primary === undefined) continue;
          const value = decode(row.stored);
          if (typeof value === 'string') {
            note(row, value);
            continue;
          }
          const { id: keyId, key } = primary;
          const aad = secretAad({ projectId: row.project_id, label: column.label, rowId: row.id, keyId });
          sealed.push({ id: row.id, envelope: seal(key, keyId, value, aad), keyId });
          wipe(value);
          perProject.set(row.project_id, (perProject.get(row.project_id) ?? 0) + 1);
        }
        if (sealed.length === 0) return 0;
        const stored = await storeAdopted(tx, column, sealed);
        for (const [id, count] of perProject) {
          await audit.record(tx, {
            action: 'secret.adopted',
            projectId: id,
            subject: `project:${id}`,
            details: column.label === SECRETS_LABEL ? { secrets: count } : { label: column.label, rows: count },
          });
        }
        return stored;
      });
    } catch (error) {
      const stale = sqlState(error) === sqlStates.staleVersion;
      if (stale) dataKeys.tally.fenceRefusals += 1;
      const again = stale || isTransient(error);
      if (!again || attempt === 10) throw error;
      // A promote came between: the whole set of pointers is cheap to read again.
      dataKeys.clear();
    }
  }
}

async function finish(database: Database, audit: AuditTrail, column: EncryptedColumn): Promise<void> {
  if (!column.acceptsPlaintext) {
    // It never did, or does no more: there is no door to close, only rows to have been left behind.
    if ((await countUnadopted(database, column, undefined)) > 0) throw rowsLeft(column);
    return;
  }
  try {
    await transaction(database, async (tx) => {
      if (!(await finishAdoption(tx, column.label))) return;
      await audit.record(tx, { action: 'secret.adoption_finished', subject: `column:${column.label}` });
    });
  } catch (error) {
    throw sqlState(error) === sqlStates.inUse ? rowsLeft(column) : error;
  }
}

function rowsLeft(column: EncryptedColumn): KeyringError {
  return new KeyringError('illegal_state', 'Rows that are not encrypted yet are left, so the door stays open.', {
    remedy: `Run \`${adoptCommand(column)}\` and mend what it names, then finish.`,
  });
}

/** From what is stored to the value, or the reason why that cannot be. */
function decoder(legacyKey: Uint8Array | undefined): (stored: Buffer) => Buffer | string {
  if (legacyKey === undefined) return (stored) => checked(Buffer.from(stored), { text: true });
  if (legacyKey.length !== 32) throw new KeyringError('invalid_argument', 'The legacy key does not have 32 bytes.');
  const key = createSecretKey(legacyKey);
  return (stored) => {
    if (stored.length < 28) return 'does_not_open';
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, stored.subarray(0, 12), { authTagLength: 16 });
      decipher.setAuthTag(stored.subarray(-16));
      return checked(Buffer.concat([decipher.update(stored.subarray(12, -16)), decipher.final()]), { text: false });
    } catch {
      return 'does_not_open';
    }
  };
}

function checked(value: Buffer, { text }: { text: boolean }): Buffer | string {
  if (value.length === 0) return 'empty';
  if (value.length > MAX_PLAINTEXT_BYTES) return 'too_long';
  // Somebody's ciphertext taken for plaintext would be encrypted twice and never be a value again.
  if (text && (!isUtf8(value) || value.includes(0))) return 'not_text';
  return value;
}

function interrupted(column: EncryptedColumn, adopted: number): KeyringError {
  return new KeyringError('interrupted', `Interrupted after ${String(adopted)} rows. Nothing is lost.`, {
    remedy: `Run \`${adoptCommand(column)}\` again: it goes on where it stopped.`,
  });
}

/** The command that adopts a column's rows. */
export function adoptCommand({ label }: EncryptedColumn): string {
  return label === SECRETS_LABEL ? 'mh-keys secrets adopt' : `mh-keys columns adopt ${label}`;
}
