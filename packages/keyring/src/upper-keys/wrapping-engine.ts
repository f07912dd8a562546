import { randomUUID } from 'node:crypto';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Queryable } from '../db/port.ts';
import { backoffMs, pause } from '../db/wait.ts';
import { wrappingKeyAad } from '../envelope/aad.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import type { WrappingKey } from '../keyring/wrapping-keys.ts';
import { selectRootKeys, selectWrappingKeys } from '../keyring/wrapping-store.ts';
import { equalBytes, generateKey, insecureExportKey, keyFingerprint, wipe } from '../secret-bytes.ts';
import { Overtaken, type UpperContext } from './context.ts';
import type { Stepped } from './drive.ts';
import { proveAll, rewrapAll } from './rewrap.ts';
import { countUnderOthers } from './rewrap-store.ts';
import { lockUpperRotation, moveUpperRotation, type MoveOptions, type UpperRotation } from './rotation-store.ts';
import {
  compromiseWrappingKey,
  disableWrappingKey,
  insertWrappingKey,
  moveWrappingPointer,
  selectNextVersion,
  selectWithoutKey,
  setTarget,
  type NewWrappingKey,
} from './wrapping-rotation-store.ts';

const LOCK_WAIT_MS = 2_000;
// While a promote waits, whoever makes keys waits behind it: so it waits a little, lets them go, and comes back.
const FIRST_PROMOTE_WAIT_MS = 50;
const LONGEST_PROMOTE_WAIT_MS = 2_000;

/** One step of a rotation of the wrapping key, from where it stands. */
export async function stepWrapping(
  context: UpperContext,
  rotation: UpperRotation,
  signal: AbortSignal,
  tell: () => void,
): Promise<Stepped> {
  switch (rotation.state) {
    case 'requested':
      return rotation.toKey === undefined
        ? makeNext(context, rotation)
        : proveNext(context, rotation, rotation.toKey.id);
    case 'prepared':
      return promote(context, rotation, signal);
    case 'rewrapping':
      return rewrap(context, rotation, signal);
    case 'verifying':
      return verify(context, rotation, signal, tell);
    case 'rolling_back':
      return rewrapBack(context, rotation, signal, tell);
    default:
      return 'again';
  }
}

/** A next wrapping key, wrapped by every root key that is in use and at hand, and committed. Nothing is under it yet. */
async function makeNext(context: UpperContext, rotation: UpperRotation): Promise<Stepped> {
  const { database, audit } = context;
  const id = randomUUID();
  const key = generateKey();
  const next: NewWrappingKey = {
    id,
    version: await selectNextVersion(database),
    fingerprint: keyFingerprint(key, id),
    copies: [],
  };
  const copies: { rootFingerprint: string; wrapped: Uint8Array }[] = [];
  for (const provider of await rootsInUse(context)) {
    const bytes = insecureExportKey(key);
    try {
      // The provider says which root key it used; that is the one whose copy this is.
      const place = { version: next.version, wrappingKeyId: id };
      const { wrapped, fingerprint } = await provider.wrap(bytes, wrappingKeyAad(place));
      copies.push({ rootFingerprint: fingerprint, wrapped });
    } finally {
      wipe(bytes);
    }
  }
  await stepTransaction(context, rotation, async (tx) => {
    const known = await insertWrappingKey(tx, { ...next, copies });
    if (known < copies.length) {
      throw new KeyringError(
        'wrong_root_key',
        'A root key wrapped with another key than the one that it was opened as.',
        {
          remedy: 'See what its provider did: a rotation inside the provider must keep the key’s name.',
        },
      );
    }
    if (!(await setTarget(tx, rotation.id, id))) throw new Overtaken();
    await audit.record(tx, {
      action: 'wrapping_key.created',
      subject: `wrapping_key:${id}`,
      details: { version: next.version, rotation: rotation.id, rootKeys: copies.map((copy) => copy.rootFingerprint) },
    });
  });
  return 'again';
}

/** @throws KeyringError `wrong_root_key` when none of those in use is at hand. */
async function rootsInUse({ database, wrappingKeys }: UpperContext) {
  const known = new Set((await selectRootKeys(database)).map(({ fingerprint }) => fingerprint));
  const providers = wrappingKeys.roots.opened.filter(({ fingerprint }) => known.has(fingerprint));
  if (providers.length > 0) return providers.map(({ provider }) => provider);
  throw new KeyringError('wrong_root_key', 'No root key that is in use is at hand in this process.', {
    remedy: 'Set MESHHOOK_ROOT_KEY to it; `mh-keys root-key list` names it.',
  });
}

/** Reads every copy of the new key back, has the root keys unwrap it, and tries it. */
async function proveNext(context: UpperContext, rotation: UpperRotation, keyId: string): Promise<Stepped> {
  const { database, audit, wrappingKeys, instance } = context;
  try {
    const key = await readBack(context, keyId);
    tryOut(key);
    wrappingKeys.hold(key);
  } catch (error) {
    if (!(error instanceof KeyringError) || error.code !== 'decryption_failed') throw error;
    await transaction(database, async (tx) => {
      await disableWrappingKey(tx, keyId);
      await moved(tx, rotation, 'failed', { errorCode: 'self_test_failed', errorDetail: error.message });
      await audit.record(tx, { ...entry(rotation, 'rotation_failed'), outcome: 'failed', details: { to: keyId } });
    });
    return 'again';
  }
  await stepTransaction(context, rotation, async (tx) => {
    await moved(tx, rotation, 'prepared');
    await audit.record(tx, { ...entry(rotation, 'rotation_prepared'), details: { to: keyId } });
  });
  await instance.beat().catch(() => undefined);
  return 'again';
}

/** The key that every copy of it gives, under the root keys that are at hand. */
async function readBack({ database, wrappingKeys }: UpperContext, keyId: string): Promise<WrappingKey> {
  const fingerprints = wrappingKeys.roots.opened.map(({ fingerprint }) => fingerprint);
  const row = (await selectWrappingKeys(database, fingerprints)).find(({ id }) => id === keyId);
  let key: WrappingKey | undefined;
  for (const copy of row?.copies ?? []) if (row !== undefined) key = await wrappingKeys.unwrap(row, copy);
  if (key !== undefined) return key;
  await wrappingKeys.ensure([keyId]);
  return wrappingKeys.get(keyId);
}

function tryOut({ id, key }: WrappingKey): void {
  const probe = Buffer.from('self-test of a wrapping key');
  const context = Buffer.from('meshhook-keyring/v1 self-test');
  if (!equalBytes(open(key, id, seal(key, id, probe, context), context), probe)) throw decryptionFailed();
}

/** Moves the pointer, once every live instance holds the new key. From its commit on, new keys are under it. */
async function promote(context: UpperContext, rotation: UpperRotation, signal: AbortSignal): Promise<Stepped> {
  const { database, audit, wrappingKeys, instance } = context;
  const { from, to } = keysOf(rotation);
  await wrappingKeys.ensure([from, to]);
  let without = await selectWithoutKey(database, rotation);
  if (without.some(({ id }) => id === instance.id)) {
    await instance.beat();
    without = await selectWithoutKey(database, rotation);
  }
  if (without.length > 0) return { without: without.map(({ id }) => id) };
  await movingPointer(context, rotation, signal, async (tx, waitMs) => {
    // Again, for one that has come since.
    if ((await selectWithoutKey(tx, rotation)).length > 0) throw new Overtaken();
    if (!(await moveWrappingPointer(tx, { from, to, waitMs }))) throw new Overtaken();
    const leaked = rotation.leaked && (await compromiseWrappingKey(tx, from));
    await moved(tx, rotation, 'rewrapping', { keysTotal: await countUnderOthers(tx, to) });
    await audit.record(tx, {
      action: 'wrapping_key.promoted',
      subject: `wrapping_key:${to}`,
      reason: rotation.reason,
      details: { rotation: rotation.id, from },
    });
    if (!leaked) return;
    await audit.record(tx, {
      action: 'wrapping_key.compromised',
      subject: `wrapping_key:${from}`,
      reason: rotation.reason,
      details: { rotation: rotation.id },
    });
  });
  return 'again';
}

/** A move of the pointer, tried with a bounded wait, again and again until the patience ends. */
export async function movingPointer(
  context: UpperContext,
  rotation: UpperRotation,
  signal: AbortSignal,
  move: (tx: Queryable, waitMs: number) => Promise<void>,
): Promise<void> {
  let waitedMs = 0;
  for (let attempt = 1; ; attempt++) {
    const waitMs = backoffMs(attempt, FIRST_PROMOTE_WAIT_MS, LONGEST_PROMOTE_WAIT_MS);
    try {
      await stepTransaction(context, rotation, (tx) => move(tx, waitMs));
      context.wrappingKeys.outdated();
      return;
    } catch (error) {
      const state = sqlState(error);
      if (state !== sqlStates.canceled && state !== sqlStates.lockNotAvailable) throw error;
      waitedMs += waitMs;
      if (waitedMs > context.lockPatienceMs) {
        throw new KeyringError('contended', 'A transaction that makes keys stays open, and holds the wrapping key.', {
          remedy: 'End it (docs/runbooks/a-rotation-does-not-finish.md says how to find it), and run this again.',
          details: { rotationId: rotation.id },
        });
      }
      await pause(waitMs, signal);
      signal.throwIfAborted();
    }
  }
}

async function rewrap(context: UpperContext, rotation: UpperRotation, signal: AbortSignal): Promise<Stepped> {
  const { audit } = context;
  const to = await held(context, keysOf(rotation).to);
  const inTheWay = await rewrapAll(context, rotation, to, signal);
  if (inTheWay.length > 0) return block(context, rotation, inTheWay);
  await stepTransaction(context, rotation, async (tx) => {
    await moved(tx, rotation, 'verifying');
    await audit.record(tx, entry(rotation, 'rewrapped'));
  });
  return 'again';
}

/** Reads everything back, and completes: complete means proved. */
async function verify(
  context: UpperContext,
  rotation: UpperRotation,
  signal: AbortSignal,
  tell: () => void,
): Promise<Stepped> {
  const { audit } = context;
  const { from, to } = keysOf(rotation);
  const { proved, stray, lost } = await proveAll(context, await held(context, to), signal, tell);
  if (lost.length > 0) return block(context, rotation, lost);
  await stepTransaction(context, rotation, async (tx) => {
    // Counted after the fence was closed, and in the transaction that completes: what names another only grows fewer.
    if (stray > 0 || (await countUnderOthers(tx, to)) > 0) {
      await moved(tx, rotation, 'rewrapping');
      await audit.record(tx, {
        ...entry(rotation, 'rewrapped_again'),
        details: { reason: 'keys under others were found' },
      });
      return;
    }
    await disableWrappingKey(tx, from);
    await moved(tx, rotation, 'completed', { keysVerified: proved });
    await audit.record(tx, { ...entry(rotation, 'rotation_completed'), details: { from, to, keys: proved } });
  });
  return 'again';
}

async function rewrapBack(
  context: UpperContext,
  rotation: UpperRotation,
  signal: AbortSignal,
  tell: () => void,
): Promise<Stepped> {
  const { audit } = context;
  const { from, to } = keysOf(rotation);
  const under = await held(context, from);
  const inTheWay = await rewrapAll(context, rotation, under, signal);
  if (inTheWay.length > 0) return block(context, rotation, inTheWay);
  const { proved, stray, lost } = await proveAll(context, under, signal, tell);
  if (lost.length > 0) return block(context, rotation, lost);
  if (stray > 0) return 'again';
  await stepTransaction(context, rotation, async (tx) => {
    if ((await countUnderOthers(tx, from)) > 0) throw new Overtaken();
    await moved(tx, rotation, 'rolled_back', { keysVerified: proved });
    await audit.record(tx, {
      ...entry(rotation, 'rotation_rolled_back'),
      details: { from: to, to: from, keys: proved },
    });
  });
  return 'again';
}

const MOST_NAMED = 1_000;

async function block(
  context: UpperContext,
  rotation: UpperRotation,
  inTheWay: readonly UpperRotation['blockedBy'][number][],
): Promise<Stepped> {
  const held = inTheWay.every(({ reason }) => reason === 'held');
  const many = `${String(inTheWay.length)} ${inTheWay.length === 1 ? 'key' : 'keys'}`;
  await stepTransaction(context, rotation, async (tx) => {
    await moved(tx, rotation, 'blocked', {
      errorCode: held ? 'keys_held' : 'keys_do_not_open',
      errorDetail: held
        ? `A transaction stays open and holds ${many}.`
        : `${many} could not be opened under the wrapping key named, or held by somebody.`,
      blockedBy: inTheWay.slice(0, MOST_NAMED),
    });
    await context.audit.record(tx, {
      ...entry(rotation, 'rotation_blocked'),
      outcome: 'failed',
      details: { keys: inTheWay.length },
    });
  });
  return 'again';
}

/** A transaction of one step: the rotation's row first, held where it was found. */
export function stepTransaction(
  { database }: UpperContext,
  rotation: Pick<UpperRotation, 'id' | 'state'>,
  work: (tx: Queryable) => Promise<void>,
): Promise<void> {
  return transaction(
    database,
    async (tx) => {
      if (!(await lockUpperRotation(tx, rotation))) throw new Overtaken();
      await work(tx);
    },
    { lockWaitMs: LOCK_WAIT_MS },
  );
}

export async function moved(
  tx: Queryable,
  rotation: Pick<UpperRotation, 'id' | 'state'>,
  to: UpperRotation['state'],
  options?: MoveOptions,
): Promise<void> {
  if (!(await moveUpperRotation(tx, rotation, to, options))) throw new Overtaken();
}

export function keysOf({ fromKey, toKey }: UpperRotation): { from: string; to: string } {
  if (fromKey === undefined || toKey === undefined) {
    throw new KeyringError('internal', 'A prepared rotation has no wrapping key to go to.');
  }
  return { from: fromKey.id, to: toKey.id };
}

export function entry({ id, reason }: UpperRotation, action: string) {
  return { action: `wrapping_key.${action}`, subject: `upper_rotation:${id}`, reason };
}

async function held({ wrappingKeys }: UpperContext, id: string): Promise<WrappingKey> {
  await wrappingKeys.ensure([id]);
  return wrappingKeys.get(id);
}
