/** Root keys whose bytes are at hand anyway, for a backup. What an HSM or a KMS keeps is not, and never leaves it. */
import type { SecretKey } from '../secret-bytes.ts';
import type { OpenRootKeyOptions } from './registry.ts';

type ReadRootKey = (uri: string, options: OpenRootKeyOptions) => Promise<SecretKey>;

const readers: ReadonlyMap<string, () => Promise<ReadRootKey>> = new Map<string, () => Promise<ReadRootKey>>([
  ['file', async () => (await import('./file.ts')).readFileRootKey],
  ['env', async () => (await import('./env.ts')).readEnvRootKey],
]);

/**
 * The root key that `uri` names, or undefined when its provider keeps it to itself.
 * @throws KeyringError `root_key_*` when it should be there and is not.
 */
export async function readRootKey(uri: string, options: OpenRootKeyOptions): Promise<SecretKey | undefined> {
  const load = readers.get(uri.slice(0, uri.indexOf(':')));
  return load && (await load())(uri, options);
}
