import { randomUUID } from 'node:crypto';
import type { WrappingKeys as Api, WrappingRotation } from '../api-upper-keys.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { isUuid, requireGivenReason, requireReason } from '../validate.ts';
import { Overtaken, type UpperContext } from './context.ts';
import { driveUpper, hasEnded, requireUpper } from './drive.ts';
import { alreadyOpen, orRetried } from './requests.ts';
import { selectUpperRotations, type UpperRotation } from './rotation-store.ts';
import { entry, keysOf, moved, movingPointer, stepTransaction, stepWrapping } from './wrapping-engine.ts';
import {
  disableWrappingKey,
  eraseWrappingKey,
  insertWrappingRotation,
  moveWrappingPointer,
  selectWrappingKeyVersions,
} from './wrapping-rotation-store.ts';

/** The wrapping keys: which there are, the rotation to a next one, and the end of an old one. */
export function wrappingKeys(context: UpperContext): Api {
  const { database, audit } = context;

  const read = async (id: string): Promise<WrappingRotation> =>
    toWrappingRotation(await requireUpper(context, id, 'wrapping'));

  /** Something that is asked of a rotation, in a transaction; asked again when it stands elsewhere by then. */
  const ask = (id: string, change: (rotation: UpperRotation) => Promise<void>): Promise<WrappingRotation> =>
    orRetried(async () => {
      const rotation = await requireUpper(context, id, 'wrapping');
      if (hasEnded(rotation)) throw notOpen(rotation);
      await change(rotation);
      return read(id);
    });

  return {
    list: () => selectWrappingKeyVersions(database),
    async request({ reason, leaked = false } = {}) {
      requireReason(reason);
      const id = randomUUID();
      try {
        await transaction(database, async (tx) => {
          await insertWrappingRotation(tx, { id, requestedBy: audit.actor.name, reason, leaked });
          await recordRequest(context, tx, { id, reason, leaked });
        });
      } catch (error) {
        throw sqlState(error) === sqlStates.uniqueViolation ? await alreadyOpen(database, error) : error;
      }
      return read(id);
    },
    async run(id, { onProgress, ...options } = {}) {
      const rotation = await driveUpper(
        context,
        id,
        'wrapping',
        {
          ...options,
          ...(onProgress === undefined
            ? {}
            : { onProgress: (one, waitingFor) => onProgress(toWrappingRotation(one), waitingFor) }),
        },
        (one, signal, tell) => stepWrapping(context, one, signal, tell),
      );
      return toWrappingRotation(rotation);
    },
    resume: (id) =>
      ask(id, async (rotation) => {
        if (rotation.state !== 'blocked') throw notOpen(rotation);
        await stepTransaction(context, rotation, async (tx) => {
          await moved(tx, rotation, rotation.direction === 'back' ? 'rolling_back' : 'rewrapping');
          await audit.record(tx, entry(rotation, 'rotation_resumed'));
        });
      }),
    cancel: (id) =>
      ask(id, async (rotation) => {
        if (rotation.state !== 'requested' && rotation.state !== 'prepared') {
          throw new KeyringError('illegal_state', 'The new wrapping key is in use already.', {
            remedy: rotation.leaked
              ? 'The old one leaked, so there is no way back: `mh-keys wrapping-key rotate` goes on.'
              : 'Turn back instead: `mh-keys wrapping-key rollback`.',
            details: { rotationId: id },
          });
        }
        await stepTransaction(context, rotation, async (tx) => {
          if (rotation.toKey !== undefined) await disableWrappingKey(tx, rotation.toKey.id);
          await moved(tx, rotation, 'canceled');
          await audit.record(tx, entry(rotation, 'rotation_canceled'));
        });
      }),
    rollback: (id) =>
      ask(id, async (rotation) => {
        if (rotation.state === 'rolling_back' || rotation.direction === 'back') return;
        if (rotation.leaked) throw noWayBack(rotation);
        if (rotation.state === 'requested' || rotation.state === 'prepared') {
          throw new KeyringError('illegal_state', 'Nothing is under the new wrapping key yet.', {
            remedy: 'Cancel the rotation instead: `mh-keys wrapping-key cancel`.',
            details: { rotationId: id },
          });
        }
        await turnBack(context, rotation);
      }),
    async get(id) {
      if (!isUuid(id)) return undefined;
      return read(id).catch((error: unknown) => {
        if (error instanceof KeyringError && error.code === 'unknown_rotation') return undefined;
        throw error;
      });
    },
    async rotations(page = {}) {
      const found = await selectUpperRotations(database, { kind: 'wrapping', ...page });
      return found.map(toWrappingRotation);
    },
    destroy: (keyId, { reason }) => destroy(context, keyId, reason),
  };
}

export function recordRequest(
  { audit }: UpperContext,
  tx: Queryable,
  { id, reason, leaked }: { id: string; reason: string | undefined; leaked: boolean },
): Promise<void> {
  return audit.record(tx, {
    action: 'wrapping_key.rotation_requested',
    subject: `upper_rotation:${id}`,
    reason,
    details: leaked ? { leaked } : {},
  });
}

/** The pointer back to where the rotation found it; the key that it leaves is never primary again. */
async function turnBack(context: UpperContext, rotation: UpperRotation): Promise<void> {
  const { audit, wrappingKeys: held } = context;
  const { from, to } = keysOf(rotation);
  await held.ensure([from]);
  held.get(from);
  const turned = movingPointer(context, rotation, new AbortController().signal, async (tx, waitMs) => {
    if (!(await moveWrappingPointer(tx, { from: to, to: from, waitMs }))) throw new Overtaken();
    await disableWrappingKey(tx, to);
    await moved(tx, rotation, 'rolling_back');
    await audit.record(tx, {
      action: 'wrapping_key.rolled_back',
      subject: `wrapping_key:${to}`,
      details: { rotation: rotation.id, to: from },
    });
  });
  await turned.catch((error: unknown) => {
    throw sqlState(error) === sqlStates.illegalMove ? noWayBack(rotation) : error;
  });
}

async function destroy(context: UpperContext, keyId: string, reason: string) {
  const { database, audit, wrappingKeys: held } = context;
  requireGivenReason(reason);
  const find = async () => (await selectWrappingKeyVersions(database)).find(({ id }) => id === keyId.toLowerCase());
  const key = await find();
  if (key === undefined) {
    throw new KeyringError('unknown_key', `There is no wrapping key ${keyId}.`, {
      remedy: 'Run `mh-keys wrapping-key status`.',
    });
  }
  const made = {
    action: 'wrapping_key.destroyed',
    subject: `wrapping_key:${key.id}`,
    reason,
    details: { version: key.version },
  };
  try {
    await transaction(database, async (tx) => {
      if (await eraseWrappingKey(tx, key.id)) await audit.record(tx, made);
    });
  } catch (error) {
    if (sqlState(error) !== sqlStates.inUse) throw error;
    await audit.record(database, { ...made, outcome: 'refused' });
    const name = `Wrapping key version ${String(key.version)}`;
    throw key.active
      ? new KeyringError('key_is_primary', `${name} is the one that wraps new keys.`, {
          remedy: 'Rotate it first: `mh-keys wrapping-key rotate`.',
          details: { wrappingKeyId: key.id },
        })
      : new KeyringError('key_in_use', `${name} is still in use: ${(error as Error).message}`, {
          remedy:
            'Bring the open rotation to its end, or rotate: a completed one leaves no key under an old wrapping key.',
          details: { wrappingKeyId: key.id },
        });
  }
  await held.reload();
  return (await find()) ?? key;
}

function toWrappingRotation(rotation: UpperRotation): WrappingRotation {
  const { fromKey, toKey } = rotation;
  return {
    id: rotation.id,
    state: rotation.state,
    leaked: rotation.leaked,
    fromKeyId: fromKey?.id ?? '',
    fromVersion: fromKey?.version ?? 0,
    toKeyId: toKey?.id,
    toVersion: toKey?.version,
    requestedBy: rotation.requestedBy,
    reason: rotation.reason,
    requestedAt: rotation.requestedAt,
    preparedAt: rotation.preparedAt,
    promotedAt: rotation.promotedAt,
    finishedAt: rotation.finishedAt,
    keys: rotation.keys,
    forced: rotation.forced,
    blockedBy: rotation.blockedBy,
    errorCode: rotation.errorCode,
    errorDetail: rotation.errorDetail,
  };
}

function notOpen({ id, state }: UpperRotation): KeyringError {
  return new KeyringError('rotation_not_open', `The rotation ${id} is ${state.replace('_', ' ')}.`, {
    remedy: 'Rotate again to leave the wrapping key of now.',
    details: { rotationId: id, state },
  });
}

function noWayBack({ id }: UpperRotation): KeyringError {
  return new KeyringError(
    'illegal_state',
    'The wrapping key that the rotation leaves has leaked: there is no way back.',
    {
      remedy: 'Bring it to its end: `mh-keys wrapping-key rotate`.',
      details: { rotationId: id },
    },
  );
}
