import type { Keyring } from '@meshhook/keyring';
import { checkTokens, type ApiToken } from './access/configured-tokens.ts';
import { jwtVerifier, type JwtOptions, type JwtVerifier } from './access/jwt.ts';
import { Refusals } from './access/refusals.ts';
import { Throttle } from './access/throttle.ts';
import { rotationEventsDefaults, type RotationEventsOptions } from './rotation-events.ts';

/** What `keyringHandler` takes. Unknown names are refused. */
export interface KeyringHandlerOptions {
  readonly keyring: Keyring;
  /** Who may call. Without any, everything but `/healthz` and `/readyz` answers 401. */
  readonly tokens: readonly ApiToken[];
  /** Lets users of Supabase Auth in by their JWTs. Default: nobody. */
  readonly jwt?: JwtOptions;
  /** Told of every rotation that was asked for here, so that the host's worker drives it at once. */
  readonly onRotationRequested?: (rotationId: string) => void;
  /** The same for rotations of the wrapping key. Without it a worker goes on with them, within a minute. */
  readonly onWrappingRotationRequested?: (rotationId: string) => void;
  /** Who does the work of rotations, for `GET /api/workers`: `listWorkers` of `@meshhook/keyring-worker`. Default: nobody. */
  readonly workers?: () => Promise<readonly WorkerView[]>;
  /** Of the streams of `GET /api/rotations/:id/events`. */
  readonly events?: Partial<RotationEventsOptions>;
  /** How long a body may take to come, in milliseconds. Default 10,000. */
  readonly bodyTimeoutMs?: number;
  /** Told of every failure that the caller is told nothing about but `id`. Default: one line on stderr. */
  readonly onError?: (error: unknown, id: string) => void;
  /** The program's version, in `/healthz`. */
  readonly version?: string;
}

/** A worker process, alive or lately dead. */
export interface WorkerView {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly concurrency: number;
  readonly startedAt: Date;
  readonly seenAt: Date;
  readonly alive: boolean;
  readonly units: readonly { readonly rotationId: string; readonly projects: number; readonly since: Date }[];
  readonly driving: readonly string[];
}

export type ResolvedHandlerOptions = Omit<Required<KeyringHandlerOptions>, 'events' | 'jwt'> & {
  readonly events: RotationEventsOptions;
  readonly verifyJwt: JwtVerifier | undefined;
  readonly throttle: Throttle;
  readonly refusals: Refusals;
};

const defaults = {
  onRotationRequested: () => undefined,
  onWrappingRotationRequested: () => undefined,
  onError: logToStderr,
  workers: () => Promise.resolve([]),
  bodyTimeoutMs: 10_000,
  version: '',
};
const known = ['keyring', 'tokens', 'jwt', 'events', ...Object.keys(defaults)];

/** @throws TypeError for an option that does not exist, is missing or makes no sense: misuse, not a failure. */
export function resolveOptions(options: KeyringHandlerOptions): ResolvedHandlerOptions {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`unknown option: ${name}`);
  }
  const { keyring, tokens } = options as Partial<KeyringHandlerOptions>;
  if (keyring === undefined) throw new TypeError('missing option: keyring');
  if (tokens === undefined) throw new TypeError('missing option: tokens');
  checkTokens(tokens);
  const { jwt, ...others } = options;
  const resolved = { ...defaults, ...others, keyring, tokens };
  return {
    ...resolved,
    events: { ...rotationEventsDefaults, ...options.events },
    verifyJwt: jwt === undefined ? undefined : jwtVerifier(jwt),
    throttle: new Throttle(),
    refusals: new Refusals(keyring, resolved.onError),
  };
}

function logToStderr(error: unknown, id: string): void {
  console.error(`error ${id}:`, error instanceof Error ? (error.stack ?? error.message) : typeof error);
}
