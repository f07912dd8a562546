import { KeyringError } from '../errors.ts';
import type { RootAtHand, RootTrouble } from './root-keys.ts';
import type { KnownRoot, WrappingKeyRow } from './wrapping-store.ts';

/** Why a wrapping key is not to be had, for people. */

const name = ({ id, version }: WrappingKeyRow): string => `Wrapping key version ${String(version)} (${id})`;

export function destroyed(row: WrappingKeyRow): KeyringError {
  return new KeyringError('key_destroyed', `${name(row)} was destroyed: what is under it cannot be opened any more.`, {
    remedy: 'Restore these rows from a backup that is younger than the wrapping key which came after it.',
    details: { wrappingKeyId: row.id, version: row.version },
  });
}

export function altered(row: WrappingKeyRow, root: RootAtHand, cause?: KeyringError): KeyringError {
  return new KeyringError('decryption_failed', `${name(row)} does not open under the root key ${root.provider.uri}.`, {
    remedy:
      'Its provider has another key under that name now: bring the former back. Or the database was altered: restore ' +
      'keyring.wrapped_wrapping_keys from a backup.',
    details: { wrappingKeyId: row.id, version: row.version, rootKey: root.fingerprint },
    ...(cause === undefined ? {} : { cause }),
  });
}

export function unknown(id: string): KeyringError {
  return new KeyringError('unknown_key', `The database knows no wrapping key ${id}.`, {
    remedy:
      'Restore keyring.wrapping_keys and keyring.wrapped_wrapping_keys from the backup that these rows came from.',
    details: { wrappingKeyId: id },
  });
}

export function notLoaded(id: string): KeyringError {
  return new KeyringError('wrong_root_key', `The wrapping key ${id} is not at hand in this process.`, {
    remedy: 'Run `mh-keys instances`: it says what each process can use.',
    details: { wrappingKeyId: id },
  });
}

/** None of the root keys that were given wrapped it. Those that could not be looked at are named besides. */
export function wrongRootKey(
  opened: readonly RootAtHand[],
  troubles: readonly RootTrouble[],
  known: readonly KnownRoot[],
): KeyringError {
  const given = opened.map(({ provider, fingerprint }) => `${provider.uri} (${fingerprint})`);
  const wanted = known.map((root) => `${root.fingerprint} (${root.uri})`).join(' or ');
  const message =
    given.length > 1
      ? `None of the root keys ${given.join(' and ')} is the one of this database.`
      : `The root key ${given.join()} is not the one of this database.`;
  const besides = troubles.map((trouble) => ` ${trouble.name} could not be used: ${trouble.error.message}`);
  return new KeyringError('wrong_root_key', message + besides.join(''), {
    remedy: `Set MESHHOOK_ROOT_KEY to the root key with the fingerprint ${wanted}.`,
    details: {
      given: opened.map(({ fingerprint }) => fingerprint),
      wanted: known.map(({ fingerprint }) => fingerprint),
    },
  });
}
