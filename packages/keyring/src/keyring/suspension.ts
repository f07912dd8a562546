import type { Keys, KeyVersion } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireGivenReason } from '../validate.ts';
import type { DataKeys } from './data-keys.ts';
import { refusal, unknownKey } from './refusal.ts';
import { suspendKey, unsuspendKey } from './store.ts';

/** How long a suspension waits for a transaction that has rows of its version in flight. */
const LOCK_WAIT_MS = 5_000;

/** Taking a version out of use before it is destroyed, and bringing it back. */
export function suspension(
  database: Database,
  dataKeys: DataKeys,
  audit: AuditTrail,
  get: Keys['get'],
): Pick<Keys, 'disable' | 'restore'> {
  const change = async (
    keyId: string,
    reason: string,
    action: 'key.disabled' | 'key.restored',
    move: (tx: Queryable) => Promise<boolean>,
  ): Promise<KeyVersion> => {
    requireGivenReason(reason);
    const key = await get(keyId);
    if (key === undefined) throw unknownKey(keyId);
    const entry = { action, projectId: key.projectId, subject: `key:${key.id}`, reason };
    const details = { version: key.version };
    try {
      const moved = await transaction(database, async (tx) => {
        if (!(await move(tx))) return false;
        await audit.record(tx, { ...entry, details });
        return true;
      });
      const now = await get(keyId);
      if (now === undefined) throw unknownKey(keyId);
      const ended = endOf(now);
      if (ended !== undefined) throw ended;
      if (!moved && action === 'key.restored') throw notSuspended(now);
      return now;
    } catch (error) {
      const told = refusal(error, key);
      if (told === undefined && !(error instanceof KeyringError && isEnd(error))) throw error;
      await audit.record(database, { ...entry, outcome: 'refused', details });
      throw told ?? error;
    } finally {
      dataKeys.clear();
    }
  };

  return {
    disable: (keyId, { reason }) =>
      change(keyId, reason, 'key.disabled', (tx) => suspendKey(tx, keyId, LOCK_WAIT_MS)).catch((error: unknown) => {
        if (sqlState(error) !== sqlStates.lockNotAvailable) throw error;
        throw new KeyringError('contended', 'A transaction with rows under this version stays open.', {
          remedy: 'End it (docs/runbooks/a-rotation-does-not-finish.md shows how to find it), and try again.',
          details: { keyId },
        });
      }),
    restore: (keyId, { reason }) => change(keyId, reason, 'key.restored', (tx) => unsuspendKey(tx, keyId)),
  };
}

function notSuspended({ id, version, projectName, status }: KeyVersion): KeyringError {
  return new KeyringError(
    'illegal_state',
    `Version ${String(version)} of ${projectName} is ${status}, not suspended: there is nothing to restore.`,
    { details: { keyId: id } },
  );
}

/** Why a version is past being suspended or restored, if it is. */
function endOf({ id, version, projectName, status }: KeyVersion): KeyringError | undefined {
  const name = `Version ${String(version)} of ${projectName}`;
  if (status === 'destroyed') {
    return new KeyringError('key_destroyed', `${name} is destroyed: nothing brings it back.`, {
      remedy: 'A value that was under it alone has to be set again.',
      details: { keyId: id },
    });
  }
  if (status !== 'compromised') return undefined;
  return new KeyringError(
    'illegal_state',
    `${name} is compromised, which is for good: it opens its rows until they moved.`,
    {
      details: { keyId: id },
      remedy: 'Rotate the project, then destroy the version when its retention is over.',
    },
  );
}

function isEnd({ code }: KeyringError): boolean {
  return code === 'key_destroyed' || code === 'illegal_state';
}
