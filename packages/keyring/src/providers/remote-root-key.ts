/** What every root key has in common that stays inside an HSM or KMS: a service that encrypts and decrypts 32 bytes. */
import { remoteRootAad } from '../envelope/aad.ts';
import { encodeRemoteWrapped, parseRemoteWrapped, type RemoteScheme } from '../envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../errors.ts';
import { KEY_BYTES, equalBytes, wipe } from '../secret-bytes.ts';
import { unhealthy } from './client.ts';
import type { RootKeyProvider } from './provider.ts';
import type { Call } from './remote.ts';

/** The two calls of a service, each one attempt. What they throw goes to the classifier of `patientCaller`. */
export interface RemoteKey {
  readonly scheme: RemoteScheme;
  /** The root key's URI, without credentials. */
  readonly uri: string;
  /** From `resourceFingerprint`, of the names by which the service itself knows the key. */
  readonly fingerprint: string;
  /**
   * Encrypts `key` (32 bytes) and binds it to `aad`, which `decrypt` gets again: a service that has no associated data
   * needs another binding that is as good. May not keep or change `key`.
   */
  encrypt(key: Uint8Array, aad: Uint8Array, signal: AbortSignal): Promise<RemoteCiphertext>;
  /** The inverse. `resource` comes from the database: it must not lead to another key than this one. */
  decrypt(wrapped: RemoteCiphertext, aad: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
}

export interface RemoteCiphertext {
  /** See `RemoteWrapped`. */
  readonly resource: string;
  readonly ciphertext: Uint8Array;
}

/** The provider of a key that stays with its service. `status` tries the key: it encrypts and decrypts once. */
export function remoteRootKey(key: RemoteKey, call: Call): RootKeyProvider {
  const { scheme, uri, fingerprint } = key;
  const bind = (context: Uint8Array): Uint8Array => remoteRootAad({ scheme, fingerprint, context });

  async function wrap(bytes: Uint8Array, context: Uint8Array): Promise<Uint8Array> {
    const aad = bind(context);
    const { resource, ciphertext } = await call((signal) => key.encrypt(bytes, aad, signal));
    return encodeRemoteWrapped({ scheme, fingerprint, resource, ciphertext });
  }

  async function unwrap(wrapped: Uint8Array, context: Uint8Array): Promise<Uint8Array> {
    const parts = parseRemoteWrapped(wrapped);
    if (parts.scheme !== scheme || parts.fingerprint !== fingerprint) throw decryptionFailed();
    const aad = bind(context);
    const bytes = await call((signal) => key.decrypt(parts, aad, signal));
    if (bytes.length === KEY_BYTES) return bytes;
    wipe(bytes);
    throw decryptionFailed();
  }

  async function tryIt(): Promise<void> {
    // A key of no use to anybody, in a context that nothing else has.
    const probe = Buffer.alloc(KEY_BYTES);
    const context = Buffer.from('status');
    const opened = await unwrap(await wrap(probe, context), context);
    if (!equalBytes(opened, probe)) {
      throw new KeyringError('wrong_root_key', `The root key ${uri} does not give back what it wrapped.`, {
        remedy: 'Do not use it: ask who runs the service.',
      });
    }
  }

  return {
    uri,
    async wrap(bytes, context) {
      if (bytes.length !== KEY_BYTES) throw new TypeError('A root key wraps keys of 32 bytes.');
      return { wrapped: await wrap(bytes, context), fingerprint };
    },
    unwrap,
    async status() {
      return await tryIt().then(
        () => ({ healthy: true, fingerprint }),
        (error: unknown) => unhealthy(fingerprint, error),
      );
    },
  };
}
