/** From a root key's URI to its provider. A provider is one file here and one line in `loaders`. */
import { KeyringError } from '../errors.ts';
import type { RootKeyProvider } from './provider.ts';

export interface OpenRootKeyOptions {
  /** What a relative `file:` path starts from. */
  readonly cwd: string;
}

type OpenProvider = (uri: string, options: OpenRootKeyOptions) => Promise<RootKeyProvider>;

// Loaded when first asked for, so that a provider's client library is needed only by those who use it.
const loaders: ReadonlyMap<string, () => Promise<OpenProvider>> = new Map([
  ['file', async () => (await import('./file.ts')).openFileRootKey],
]);

/** The URI schemes that `openRootKey` knows. */
export const supportedRootKeySchemes: readonly string[] = [...loaders.keys()];

/**
 * Opens the root key that `uri` names.
 * @throws KeyringError `unsupported_root_key` when no provider has the URI's scheme, otherwise what the provider's own
 *   opening throws: `root_key_*` or `invalid_argument`, with the remedy.
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
