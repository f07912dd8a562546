/** What providers share besides talking to a service: their client libraries, the environment, being unhealthy. */
import { KeyringError } from '../errors.ts';
import type { RootKeyStatus } from './provider.ts';

/** Environment variables by name, as `process.env` has them: a program passes its own, the library reads none. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Loads an optional peer dependency: `loadClient('pkcs11js', () => import('pkcs11js'))`.
 * @throws KeyringError `unsupported_root_key` whose remedy is the command that installs it.
 */
export async function loadClient<T>(packageName: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const isMissing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    const message = isMissing
      ? `This root key needs the package ${packageName}, which is not installed.`
      : `This root key needs the package ${packageName}, which cannot be loaded here.`;
    throw new KeyringError('unsupported_root_key', message, {
      remedy: `Run \`npm install ${packageName}\` where the program is installed, and start it again.`,
      details: { package: packageName },
      cause: error,
    });
  }
}

/** The status of a root key that cannot be used, because of `error`. */
export function unhealthy(fingerprint: string, error: unknown): RootKeyStatus {
  if (error instanceof KeyringError) return { healthy: false, fingerprint, trouble: error };
  throw error;
}

/**
 * A URI that a provider cannot take. The URI itself is not shown: what is wrong with it may be a credential in it.
 * @param remedy how it is written, with an example.
 */
export function invalidUri(scheme: string, why: string, remedy: string): KeyringError {
  return new KeyringError('invalid_argument', `The ${scheme}: root key's URI ${why}.`, { remedy });
}

/**
 * Takes a `scheme://host/path` URI apart.
 * @throws KeyringError `invalid_argument` when it is none, or has a user name, a password or a fragment: URIs are stored and
 *   shown, so credentials have no place in them.
 */
export function parseServiceUri(uri: string, scheme: string, remedy: string): URL {
  const url = uri.startsWith(`${scheme}://`) && !/[\s\p{C}]/u.test(uri) ? URL.parse(uri) : null;
  if (url === null) throw invalidUri(scheme, 'cannot be read', remedy);
  if (/^[^/?#]*@/.test(uri.slice(scheme.length + 3))) {
    throw invalidUri(scheme, 'holds a user name or a password', `Take it out: URIs are stored and shown. ${remedy}`);
  }
  if (url.hash !== '') throw invalidUri(scheme, 'has a fragment', remedy);
  return url;
}
