/** Root keys in an HSM: `pkcs11:token=MeshHook;object=root?module-path=/usr/lib/vendor.so&pin-source=file:/run/secrets/pin`. */
import { decryptionFailed, KeyringError } from '../errors.ts';
import type { Environment } from './client.ts';
import { isWorthRetrying, type Service } from './failure.ts';
import { classifyPkcs11Error, openModule, Pkcs11Refusal, type Library } from './pkcs11-module.ts';
import {
  decryptInToken,
  encryptInToken,
  fingerprintOf,
  generateTokenKey,
  NONCE_BYTES,
  openKey,
  TAG_BYTES,
  type OpenedKey,
} from './pkcs11-token.ts';
import { closeSession } from './pkcs11-session.ts';
import { parsePkcs11Uri } from './pkcs11-uri.ts';
import type { RootKeyProvider } from './provider.ts';
import { remoteRootKey } from './remote-root-key.ts';
import { patientCaller, type RemoteOptions } from './remote.ts';

export interface Pkcs11RootKeyOptions {
  /** Where `pin-source=env:NAME` finds its variable. */
  readonly env?: Environment | undefined;
  readonly remote?: RemoteOptions | undefined;
}

/**
 * Opens the AES-256 key that a PKCS #11 URI names. One session is kept; when it is lost, or the token was away, it is opened anew.
 * Calls into the library are short but block the process, encryption and decryption excepted.
 * @throws KeyringError `invalid_argument` for a bad URI; `unsupported_root_key` when `pkcs11js` or the library is not there;
 *   `root_key_unreachable` (no such token, device), `root_key_denied` (PIN), `root_key_permissions` (PIN file),
 *   `root_key_missing`, or `wrong_root_key` for a key that could leave the token, or is no AES-256 key. Each with its remedy.
 */
export async function openPkcs11RootKey(uri: string, options: Pkcs11RootKeyOptions = {}): Promise<RootKeyProvider> {
  const place = parsePkcs11Uri(uri);
  const env = options.env ?? {};
  const module = await openModule(place.modulePath);
  const call = patientCaller(serviceOf(uri), classifyPkcs11Error, options.remote);
  let opened: OpenedKey | undefined;
  let fingerprint: string | undefined;

  /** One attempt. What it fails by may be the end of the session, or of all that the library knew: the next one begins anew. */
  async function withKey<T>(signal: AbortSignal, work: (library: Library, key: OpenedKey) => Promise<T>): Promise<T> {
    return module.use(signal, async (library) => {
      try {
        if (opened?.generation !== module.generation) opened = await openKey(library, module, place, env);
        fingerprint ??= opened.fingerprint;
        if (opened.fingerprint !== fingerprint) throw replaced(uri);
        return await work(library, opened);
      } catch (error) {
        if (error instanceof KeyringError) throw forget(library, error);
        if (isWorthRetrying(classifyPkcs11Error(error))) {
          forget(library, error);
          module.reset();
        }
        throw error;
      }
    });
  }

  function forget<E>(library: Library, error: E): E {
    if (opened !== undefined) closeSession(library, opened.session);
    opened = undefined;
    return error;
  }

  const first = await call((signal) => withKey(signal, (_, key) => Promise.resolve(key.fingerprint)));
  return remoteRootKey(
    {
      ...{ scheme: 'pkcs11', uri, fingerprint: first },
      async encrypt(bytes, aad, signal) {
        const ciphertext = await withKey(signal, async (library, key) => {
          // Handles are numbers that a library gives again: what is behind this one may be another key by now, and what it
          // encrypted would open today and never again.
          const isStill = (await fingerprintOf(library, key.session, key.key)) === first;
          if (!isStill) throw new Pkcs11Refusal({ kind: 'network', said: 'its handle leads to another key' });
          return encryptInToken(library, key, bytes, aad);
        });
        return { resource: '', ciphertext };
      },
      async decrypt({ resource, ciphertext }, aad, signal) {
        if (resource !== '' || ciphertext.length < NONCE_BYTES + TAG_BYTES) throw decryptionFailed();
        return withKey(signal, (library, key) => decryptInToken(library, key, ciphertext, aad));
      },
    },
    call,
  );
}

/**
 * Makes the key that a PKCS #11 URI names: AES-256, sensitive, not extractable, for encryption and decryption alone.
 * @returns its fingerprint.
 * @throws KeyringError `root_key_exists` when there is one of that name, otherwise as `openPkcs11RootKey`.
 */
export async function createPkcs11RootKey(
  uri: string,
  { env = {}, remote }: Pkcs11RootKeyOptions = {},
): Promise<{ readonly fingerprint: string }> {
  const place = parsePkcs11Uri(uri);
  const module = await openModule(place.modulePath);
  // Once: an answer that is lost must not lead to a second key.
  const call = patientCaller(serviceOf(uri), classifyPkcs11Error, { ...remote, attempts: 1 });
  const fingerprint = await call((signal) =>
    module.use(signal, (library) => generateTokenKey(library, module, place, env)),
  );
  return { fingerprint };
}

function replaced(uri: string): KeyringError {
  return new KeyringError('wrong_root_key', `${uri} now is another key than when it was opened.`, {
    remedy: 'Put the former token or key back: a new root key gets a name of its own.',
  });
}

function serviceOf(uri: string): Service {
  return {
    name: 'The HSM',
    uri,
    remedies: {
      network:
        'Check that the HSM is connected and that token= and serial= name a token of it; `pkcs11-tool --module LIBRARY --list-token-slots` lists them. Then start again.',
      timeout: 'Check the HSM and the way to it; then start again.',
      server: "Look into the HSM's own log: it reports trouble of its own. Then start again.",
      throttled: 'Start fewer processes at once.',
      credentials:
        'Check the PIN that pin-source names, and log in once by hand with it: a wrong PIN is not tried twice, because tokens lock.',
      forbidden: 'Let the user of this PIN encrypt and decrypt with this key.',
      disabled: 'Enable the key again.',
      missing:
        'Check object= and id= (`pkcs11-tool --module LIBRARY --login --list-objects`), or make the first key with `mh-keys root-key create`.',
      unsuitable:
        'Use an AES key of 32 bytes that is sensitive, not extractable, and may encrypt and decrypt, in a token that has CKM_AES_GCM and CKM_AES_ECB; `mh-keys root-key create` makes one.',
      misunderstood: "Check that module-path is your HSM's PKCS #11 library, and its version.",
    },
  };
}
