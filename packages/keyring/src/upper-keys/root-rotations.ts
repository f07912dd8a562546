import { randomUUID } from 'node:crypto';
import type { RootKeys as Api, RootKeyEntry, RootRotation, RootRotationState } from '../api-upper-keys.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import type { RootAtHand } from '../keyring/root-keys.ts';
import type { RootKeyProvider } from '../providers/provider.ts';
import { isUuid, requireReason } from '../validate.ts';
import type { UpperContext } from './context.ts';
import { driveUpper, hasEnded, requireUpper } from './drive.ts';
import { alreadyOpen, orRetried } from './requests.ts';
import { entry, rootTo, stepRoot } from './root-engine.ts';
import {
  enableRootKey,
  insertRootRotation,
  selectRootKeyRows,
  takeBackRoot,
  type RootKeyRow,
} from './root-rotation-store.ts';
import { selectUpperRotations, type UpperRotation } from './rotation-store.ts';
import { moved, stepTransaction } from './wrapping-engine.ts';

export interface RootContext extends UpperContext {
  /** Opens what somebody names. Never what the database does. */
  readonly openRoot: (root: string | RootKeyProvider) => Promise<RootKeyProvider>;
}

/** The root keys: which there are, who can use which, and the move from one to another. */
export function rootKeys(context: RootContext): Omit<Api, 'backups'> {
  const { database, audit, wrappingKeys, instance, openRoot } = context;

  const read = async (id: string): Promise<RootRotation> => toRootRotation(await requireUpper(context, id, 'root'));

  const take = async (root: string | RootKeyProvider): Promise<RootAtHand> => {
    const provider = await openRoot(root);
    const opened = { provider, fingerprint: (await provider.status()).fingerprint };
    wrappingKeys.roots.add(opened);
    return opened;
  };

  return {
    async list() {
      const rows = await selectRootKeyRows(database);
      const usable = new Set(wrappingKeys.roots.usable);
      const given = wrappingKeys.roots.opened.filter(
        ({ fingerprint }) => !rows.some((row) => row.fingerprint === fingerprint),
      );
      return [
        ...rows.map((row) => toEntry(row, usable.has(row.fingerprint))),
        ...given.map(({ provider: { uri }, fingerprint }) => toEntry({ uri, fingerprint }, false)),
      ];
    },
    troubles: () => wrappingKeys.roots.troubles.map(({ name, error }) => ({ name, error })),
    async use(root) {
      const { fingerprint } = await take(root);
      await wrappingKeys.reload();
      await wrappingKeys.proveRoots();
      await instance.beat();
      return fingerprint;
    },
    async request({ to, reason, leaked = false }) {
      requireReason(reason);
      const { provider, fingerprint } = await take(to);
      const id = randomUUID();
      try {
        await transaction(database, async (tx) => {
          const inUse = (await selectRootKeyRows(tx)).filter((row) => row.state === 'enabled');
          const from = inUse.find((row) => row.fingerprint !== fingerprint);
          if (from === undefined) throw alreadyUnder(fingerprint);
          const toId = await enableRootKey(tx, { uri: provider.uri, fingerprint });
          if (toId === undefined) throw compromised(provider.uri, fingerprint);
          await insertRootRotation(tx, { id, fromId: from.id, toId, requestedBy: audit.actor.name, reason, leaked });
          await audit.record(tx, {
            ...entry({ id, reason }, 'rotation_requested'),
            details: { from: from.fingerprint, to: fingerprint, ...(leaked ? { leaked } : {}) },
          });
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
        'root',
        {
          ...options,
          ...(onProgress === undefined
            ? {}
            : { onProgress: (one, waitingFor) => onProgress(toRootRotation(one), waitingFor) }),
        },
        (one) => stepRoot(context, one),
      );
      return toRootRotation(rotation);
    },
    cancel: (id) =>
      orRetried(async () => {
        const rotation = await requireUpper(context, id, 'root');
        if (hasEnded(rotation)) throw notOpen(rotation);
        await stepTransaction(context, rotation, async (tx) => {
          await takeBackRoot(tx, rootTo(rotation).id, rotation.id);
          await moved(tx, rotation, 'canceled');
          await audit.record(tx, entry(rotation, 'rotation_canceled'));
        });
        return read(id);
      }),
    async get(id) {
      if (!isUuid(id)) return undefined;
      return read(id).catch((error: unknown) => {
        if (error instanceof KeyringError && error.code === 'unknown_rotation') return undefined;
        throw error;
      });
    },
    async rotations(page = {}) {
      const found = await selectUpperRotations(database, { kind: 'root', ...page });
      return found.map(toRootRotation);
    },
  };
}

function toEntry(
  row: Pick<RootKeyRow, 'uri' | 'fingerprint'> & Partial<RootKeyRow>,
  usableHere: boolean,
): RootKeyEntry {
  const { fingerprint, uri, state, wrappingKeys = 0, createdAt, usableBy = [] } = row;
  return { fingerprint, uri, state, wrappingKeys, createdAt, usableHere, usableBy };
}

function toRootRotation(rotation: UpperRotation): RootRotation {
  const nowhere = { uri: '', fingerprint: '' };
  const named = ({ uri, fingerprint } = nowhere): RootRotation['from'] => ({ uri, fingerprint });
  return {
    id: rotation.id,
    state: rotation.state as RootRotationState,
    leaked: rotation.leaked,
    from: named(rotation.fromRoot),
    to: named(rotation.toRoot),
    requestedBy: rotation.requestedBy,
    reason: rotation.reason,
    requestedAt: rotation.requestedAt,
    preparedAt: rotation.preparedAt,
    finishedAt: rotation.finishedAt,
    forced: rotation.forced,
    errorCode: rotation.errorCode,
    errorDetail: rotation.errorDetail,
  };
}

function notOpen({ id, state }: UpperRotation): KeyringError {
  return new KeyringError('rotation_not_open', `The rotation ${id} is ${state}.`, {
    remedy: 'Rotate again to go somewhere else, or back: `mh-keys root-key rotate --to URI`.',
    details: { rotationId: id, state },
  });
}

function alreadyUnder(fingerprint: string): KeyringError {
  return new KeyringError('conflict', `Everything is under the root key ${fingerprint} already.`, {
    remedy: 'Name another one: a new root key is a key of its own, not a new place of this one.',
    details: { fingerprint },
  });
}

function compromised(uri: string, fingerprint: string): KeyringError {
  return new KeyringError(
    'illegal_state',
    `The root key ${uri} (${fingerprint}) is compromised: nothing goes back to it.`,
    {
      remedy: 'Make a new one: `mh-keys root-key create file:…`, or a new key at its provider.',
      details: { fingerprint },
    },
  );
}
