/** The root key in an environment variable: `env:MESHHOOK_ROOT_KEY_VALUE`. `docs/providers/env.md` says what is weak about it. */
import { KeyringError } from '../errors.ts';
import type { SecretKey } from '../secret-bytes.ts';
import { invalidUri, type Environment } from './client.ts';
import { localRootKey, parseRootKey } from './local-root-key.ts';
import type { RootKeyProvider } from './provider.ts';

export interface EnvRootKeyOptions {
  /** Where the variable is, such as `process.env`. The library reads no environment by itself. */
  readonly env?: Environment;
}

const MAX_CHARACTERS = 16_384;

/**
 * Opens the root key in the variable that `env:NAME` names. It holds what a root key file holds, whole or the one line with
 * the key. It is read again at each call.
 * @throws KeyringError `root_key_missing` when it is not set, `root_key_unreadable` when it holds no root key, each with its
 *   remedy; `invalid_argument` for a URI that names no variable.
 */
export async function openEnvRootKey(uri: string, options: EnvRootKeyOptions = {}): Promise<RootKeyProvider> {
  const name = variableOf(uri);
  return localRootKey({ uri, read: () => readEnvRootKey(uri, options), changed: () => changed(name) });
}

/** The key itself, for a backup. @throws KeyringError as `openEnvRootKey` does. */
export function readEnvRootKey(uri: string, { env = {} }: EnvRootKeyOptions = {}): Promise<SecretKey> {
  return Promise.resolve().then(() => readVariable(env, variableOf(uri)));
}

function variableOf(uri: string): string {
  const name = /^env:([A-Za-z_][A-Za-z0-9_]{0,254})$/.exec(uri)?.[1];
  if (name !== undefined) return name;
  throw invalidUri('env', 'names no variable', 'Write env:NAME, where NAME is the variable that holds the root key.');
}

function readVariable(env: Environment, name: string): SecretKey {
  const value = Object.hasOwn(env, name) ? env[name] : undefined;
  if (value === undefined || value === '') {
    throw new KeyringError('root_key_missing', `The variable ${name} that holds the root key is not set.`, {
      remedy: `Set ${name} to the MESHHOOK-ROOT-KEY-1- line of the root key, for this process too.`,
      details: { variable: name },
    });
  }
  const key = value.length > MAX_CHARACTERS ? 'is too long to hold a root key' : parseRootKey(Buffer.from(value));
  if (typeof key !== 'string') return key;
  throw new KeyringError('root_key_unreadable', `The variable ${name} ${key}.`, {
    remedy: `Set ${name} to the one line of a root key file that begins with MESHHOOK-ROOT-KEY-1-, without spaces or quotes.`,
    details: { variable: name },
  });
}

function changed(name: string): KeyringError {
  return new KeyringError(
    'wrong_root_key',
    `The variable ${name} now holds another root key than when it was opened.`,
    {
      remedy: `Set ${name} back to the former key: a new root key gets a variable of its own.`,
      details: { variable: name },
    },
  );
}
