/** From a root key's URI to its provider. A provider is one file here and one line in `loaders`. */
import { KeyringError } from '../errors.ts';
import type { Environment } from './client.ts';
import type { RootKeyProvider } from './provider.ts';
import type { RemoteOptions } from './remote.ts';

export interface OpenRootKeyOptions {
  /** What a relative `file:` path starts from. */
  readonly cwd: string;
  /** Where `env:` keys and the credentials of remote providers come from. The library reads no environment by itself. */
  readonly env?: Environment;
  /** Patience with an HSM or KMS: attempts, timeouts, back-off. */
  readonly remote?: RemoteOptions;
}

type OpenProvider = (uri: string, options: OpenRootKeyOptions) => Promise<RootKeyProvider>;

// Loaded when first asked for, so that a provider's client library is needed only by those who use it.
const loaders: ReadonlyMap<string, () => Promise<OpenProvider>> = new Map<string, () => Promise<OpenProvider>>([
  ['file', async () => (await import('./file.ts')).openFileRootKey],
  ['env', async () => (await import('./env.ts')).openEnvRootKey],
  ['pkcs11', async () => (await import('./pkcs11.ts')).openPkcs11RootKey],
  ['hashivault', async () => (await import('./hashivault.ts')).openHashivaultRootKey],
  ['awskms', async () => (await import('./awskms.ts')).openAwskmsRootKey],
  ['gcpkms', async () => (await import('./gcpkms.ts')).openGcpkmsRootKey],
  ['azurekms', async () => (await import('./azurekms.ts')).openAzurekmsRootKey],
]);

/** The URI schemes that `openRootKey` knows. */
export const supportedRootKeySchemes: readonly string[] = [...loaders.keys()];

/**
 * Opens the root key that `uri` names.
 * @throws KeyringError `unsupported_root_key` when no provider has the URI's scheme or the provider's client library is
 *   not installed, otherwise what the provider's own opening throws: `root_key_*` or `invalid_argument`, with the remedy.
 */
export async function openRootKey(uri: string, options: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(uri)?.[1];
  const load = scheme === undefined ? undefined : loaders.get(scheme);
  if (load === undefined) throw unsupported(scheme);
  const open = await load();
  return open(uri, options);
}

// Names the scheme only: the rest of a URI may hold credentials.
function unsupported(scheme: string | undefined): KeyringError {
  const message =
    scheme === undefined ? "The root key's URI has no scheme." : `No root key provider is named "${scheme}:".`;
  const supported = supportedRootKeySchemes.map((known) => `${known}:`).join(', ');
  return new KeyringError('unsupported_root_key', message, {
    remedy: `Supported: ${supported} (for example file:./root.key).`,
    details: { supported: supportedRootKeySchemes },
  });
}
