import type { Keyring } from '@meshhook/keyring';
import { scopes, type ApiToken } from './tokens.ts';

/** What `keyringHandler` takes. Unknown names are refused. */
export interface KeyringHandlerOptions {
  readonly keyring: Keyring;
  /** Who may call. Without any, everything but `/healthz` and `/readyz` answers 401. */
  readonly tokens: readonly ApiToken[];
  /** Told of every rotation that was asked for here, so that the host's worker drives it at once. */
  readonly onRotationRequested?: (rotationId: string) => void;
  /** Told of every failure that the caller is told nothing about but `id`. Default: one line on stderr. */
  readonly onError?: (error: unknown, id: string) => void;
  /** The program's version, in `/healthz`. */
  readonly version?: string;
}

export type ResolvedHandlerOptions = Required<KeyringHandlerOptions>;

const known = ['keyring', 'tokens', 'onRotationRequested', 'onError', 'version'];

/** @throws TypeError for an option that does not exist, is missing or makes no sense: misuse, not a failure. */
export function resolveOptions(options: KeyringHandlerOptions): ResolvedHandlerOptions {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`unknown option: ${name}`);
  }
  const { keyring, tokens } = options as Partial<KeyringHandlerOptions>;
  if (keyring === undefined) throw new TypeError('missing option: keyring');
  if (tokens === undefined) throw new TypeError('missing option: tokens');
  const names = new Set<string>();
  for (const token of tokens) {
    if (token.name === '') throw new TypeError('a token has no name');
    if (names.has(token.name)) throw new TypeError(`two tokens are named "${token.name}"`);
    names.add(token.name);
    if (!/^[0-9a-f]{64}$/.test(token.digest)) {
      throw new TypeError(
        `the digest of the token "${token.name}" is not a SHA-256 in lower-case hex: use tokenDigest()`,
      );
    }
    for (const scope of token.scopes) {
      if (!scopes.includes(scope))
        throw new TypeError(`the token "${token.name}" has an unknown scope: ${scope as string}`);
    }
  }
  return { onRotationRequested: () => undefined, onError: logToStderr, version: '', ...options, keyring, tokens };
}

function logToStderr(error: unknown, id: string): void {
  console.error(`error ${id}:`, error instanceof Error ? (error.stack ?? error.message) : typeof error);
}
