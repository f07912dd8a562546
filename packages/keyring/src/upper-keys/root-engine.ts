import { randomUUID } from 'node:crypto';
import { wrappingKeyAad } from '../envelope/aad.ts';
import { KeyringError } from '../errors.ts';
import type { RootAtHand } from '../keyring/root-keys.ts';
import { selectWrappingKeys } from '../keyring/wrapping-store.ts';
import { insecureExportKey, wipe } from '../secret-bytes.ts';
import { Overtaken, type UpperContext } from './context.ts';
import type { Stepped } from './drive.ts';
import {
  deleteCopiesOf,
  disableOtherRoots,
  exposeWrappingKeys,
  insertCopy,
  selectUnwrapped,
  selectWithoutRoot,
  takeBackRoot,
} from './root-rotation-store.ts';
import type { NamedRoot, UpperRotation } from './rotation-store.ts';
import { moved, stepTransaction } from './wrapping-engine.ts';
import { insertWrappingRotation } from './wrapping-rotation-store.ts';

/** One step of a rotation of the root key, from where it stands. */
export async function stepRoot(context: UpperContext, rotation: UpperRotation): Promise<Stepped> {
  const to = rootTo(rotation);
  switch (rotation.state) {
    case 'requested': {
      const unwrapped = await selectUnwrapped(context.database, to.id);
      return unwrapped.length > 0 ? wrapAll(context, rotation, unwrapped) : prepare(context, rotation);
    }
    case 'prepared':
      return complete(context, rotation);
    default:
      return 'again';
  }
}

/** Has the new root key wrap every wrapping key as well. From its commit on there are two ways in. */
async function wrapAll(
  context: UpperContext,
  rotation: UpperRotation,
  missing: readonly { readonly id: string; readonly version: number }[],
): Promise<Stepped> {
  const { wrappingKeys, audit } = context;
  const to = rootTo(rotation);
  const root = atHand(context, to);
  await wrappingKeys.ensure(missing.map(({ id }) => id));
  const copies: { wrappingKeyId: string; wrapped: Uint8Array }[] = [];
  for (const { id, version } of missing) {
    const bytes = insecureExportKey(wrappingKeys.get(id).key);
    try {
      const { wrapped, fingerprint } = await root.provider.wrap(bytes, wrappingKeyAad({ version, wrappingKeyId: id }));
      if (fingerprint !== to.fingerprint) throw anotherKey(to);
      copies.push({ wrappingKeyId: id, wrapped });
    } finally {
      wipe(bytes);
    }
  }
  await stepTransaction(context, rotation, async (tx) => {
    let stored = 0;
    for (const copy of copies) if (await insertCopy(tx, { ...copy, rootKeyId: to.id })) stored += 1;
    if (stored === 0) return;
    await audit.record(tx, { ...entry(rotation, 'wrapped'), details: { to: to.fingerprint, wrappingKeys: stored } });
  });
  return 'again';
}

/** Everything that the new root key wrapped is read back, unwrapped by it, and the key it was. */
async function prepare(context: UpperContext, rotation: UpperRotation): Promise<Stepped> {
  const { audit, instance } = context;
  const to = rootTo(rotation);
  try {
    await readBack(context, to);
  } catch (error) {
    if (!(error instanceof KeyringError) || error.code !== 'decryption_failed') throw error;
    await stepTransaction(context, rotation, async (tx) => {
      await takeBackRoot(tx, to.id, rotation.id);
      await moved(tx, rotation, 'failed', { errorCode: 'self_test_failed', errorDetail: error.message });
      await audit.record(tx, { ...entry(rotation, 'rotation_failed'), outcome: 'failed' });
    });
    return 'again';
  }
  await stepTransaction(context, rotation, async (tx) => {
    if ((await selectUnwrapped(tx, to.id)).length > 0) throw new Overtaken();
    await moved(tx, rotation, 'prepared');
    await audit.record(tx, { ...entry(rotation, 'rotation_prepared'), details: { to: to.fingerprint } });
  });
  await instance.beat().catch(() => undefined);
  return 'again';
}

/** Once every live instance can use the new root key, the old one goes, and all that it had wrapped. */
async function complete(context: UpperContext, rotation: UpperRotation): Promise<Stepped> {
  const { database, audit, instance } = context;
  const to = rootTo(rotation);
  let without = await selectWithoutRoot(database, rotation);
  if (without.some(({ id }) => id === instance.id)) {
    await readBack(context, to);
    await instance.beat();
    without = await selectWithoutRoot(database, rotation);
  }
  if (without.length > 0) return { without: without.map(({ id }) => id) };
  // Once more, right before there is no other way in.
  await readBack(context, to);
  await stepTransaction(context, rotation, async (tx) => {
    if ((await selectWithoutRoot(tx, rotation)).length > 0 || (await selectUnwrapped(tx, to.id)).length > 0) {
      throw new Overtaken();
    }
    await moved(tx, rotation, 'completed');
    const gone = await disableOtherRoots(tx, to.id, rotation.leaked ? 'compromised' : 'disabled');
    for (const { id, fingerprint } of gone) {
      await deleteCopiesOf(tx, id);
      if (!rotation.leaked) continue;
      await audit.record(tx, {
        action: 'root_key.compromised',
        subject: `root_key:${fingerprint}`,
        reason: rotation.reason,
        details: { rotation: rotation.id },
      });
    }
    await audit.record(tx, {
      ...entry(rotation, 'rotation_completed'),
      details: {
        from: rotation.fromRoot?.fingerprint,
        to: to.fingerprint,
        outOfUse: gone.map(({ fingerprint }) => fingerprint),
      },
    });
    if (!rotation.leaked) return;
    // In the same transaction: whatever dies from here on, the second half of the job is on the list.
    await exposeWrappingKeys(tx);
    const id = randomUUID();
    const { requestedBy, reason } = rotation;
    await insertWrappingRotation(tx, { id, requestedBy, reason, leaked: true });
    await audit.record(tx, {
      action: 'wrapping_key.rotation_requested',
      subject: `upper_rotation:${id}`,
      reason,
      details: { leaked: true, rotation: rotation.id },
    });
  });
  return 'again';
}

/** @throws KeyringError `decryption_failed` when one does not open, or is not the key it was; of the provider. */
async function readBack(context: UpperContext, to: NamedRoot): Promise<void> {
  const { database, wrappingKeys } = context;
  atHand(context, to);
  for (const row of await selectWrappingKeys(database, [to.fingerprint])) {
    for (const copy of row.copies) {
      const key = await wrappingKeys.unwrap(row, copy);
      if (!wrappingKeys.has(key.id)) wrappingKeys.hold(key);
    }
  }
}

/** @throws KeyringError `wrong_root_key` naming what this process would have to be given. */
function atHand({ wrappingKeys }: UpperContext, to: NamedRoot): RootAtHand {
  const root = wrappingKeys.roots.opened.find(({ fingerprint }) => fingerprint === to.fingerprint);
  if (root !== undefined) return root;
  throw new KeyringError(
    'wrong_root_key',
    `The new root key ${to.uri} (${to.fingerprint}) is not at hand in this process.`,
    {
      remedy: 'Name it with `mh-keys root-key rotate --to URI`, or set MESHHOOK_NEXT_ROOT_KEY.',
      details: { uri: to.uri, fingerprint: to.fingerprint },
    },
  );
}

function anotherKey(to: NamedRoot): KeyringError {
  return new KeyringError('wrong_root_key', `The root key ${to.uri} wrapped with another key than it was opened as.`, {
    remedy: 'See what its provider did: a rotation inside the provider must keep the key’s name.',
    details: { fingerprint: to.fingerprint },
  });
}

export function rootTo({ toRoot }: UpperRotation): NamedRoot {
  if (toRoot === undefined) throw new KeyringError('internal', 'A rotation of the root key has no root key to go to.');
  return toRoot;
}

export function entry({ id, reason }: Pick<UpperRotation, 'id' | 'reason'>, action: string) {
  return { action: `root_key.${action}`, subject: `upper_rotation:${id}`, reason };
}
