import { KeyringError, type Keyring, type KeyVersion } from '@meshhook/keyring';

/** The key version of an id that somebody typed. @throws KeyringError `unknown_key`. */
export async function knownKey(keyring: Keyring, id: string): Promise<KeyVersion> {
  const key = await keyring.keys.get(id);
  if (key !== undefined) return key;
  throw new KeyringError('unknown_key', `There is no key version ${id}.`, { remedy: 'Run `mh-keys keys list`.' });
}
