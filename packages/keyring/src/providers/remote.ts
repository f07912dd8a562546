/** Patience with a service that may be slow, busy or away: bounded attempts, each bounded in time, with back-off and jitter. */
import { KeyringError } from '../errors.ts';
import { failureError, isWorthRetrying, type Failure, type Service } from './failure.ts';

/** Every number is in milliseconds but `attempts`. */
export interface RemoteOptions {
  /** How often a call is tried at most. Default 4. */
  readonly attempts?: number;
  /** How long one attempt may take. Default 5,000. */
  readonly attemptTimeoutMs?: number;
  /** How long all attempts of a call together may take. Default 20,000. */
  readonly deadlineMs?: number;
  /**
   * Before the second attempt, a random time up to this long passes, before each later one up to twice as long as before
   * the last ("full jitter"). Default 200.
   */
  readonly backoffMs?: number;
  /** Where that doubling ends. Default 4,000. */
  readonly maxBackoffMs?: number;
  /** Ends every call of the provider, with `interrupted`. */
  readonly signal?: AbortSignal;
}

const defaults = { attempts: 4, attemptTimeoutMs: 5_000, deadlineMs: 20_000, backoffMs: 200, maxBackoffMs: 4_000 };

const limits: Readonly<Record<keyof typeof defaults, readonly [number, number]>> = {
  attempts: [1, 20],
  attemptTimeoutMs: [1, 600_000],
  deadlineMs: [1, 600_000],
  backoffMs: [0, 60_000],
  maxBackoffMs: [0, 60_000],
};

/** Tries `attempt` until it gives an answer, refuses, or patience ends. */
export type Call = <T>(attempt: (signal: AbortSignal) => Promise<T>) => Promise<T>;

/**
 * Makes the caller of a service. An attempt gets a signal that ends it; one that does not heed it is left behind.
 * @param classify what the matter is, from what an attempt threw. A `KeyringError` that an attempt throws is passed on as it is.
 * @throws TypeError for an option that does not exist or is out of its range.
 */
export function patientCaller(
  service: Service,
  classify: (error: unknown) => Failure,
  options: RemoteOptions = {},
): Call {
  const { attempts, attemptTimeoutMs, deadlineMs, backoffMs, maxBackoffMs, signal } = resolveRemoteOptions(options);
  return async (attempt) => {
    const deadline = performance.now() + deadlineMs;
    for (let tried = 1; ; tried++) {
      const outcome = await bounded(attempt, Math.min(attemptTimeoutMs, deadline - performance.now()), signal);
      if ('value' in outcome) return outcome.value;
      if (isAborted(signal)) throw interrupted(service);
      const failure = outcome.timedOut ? ({ kind: 'timeout' } as const) : refusal(outcome.error, classify);
      const pause = Math.max(
        Math.random() * Math.min(maxBackoffMs, backoffMs * 2 ** (tried - 1)),
        failure.retryAfterMs ?? 0,
      );
      const isOver = tried >= attempts || performance.now() + pause >= deadline;
      if (isOver || !isWorthRetrying(failure)) throw failureError(service, failure, tried);
      await sleep(pause, signal);
      if (isAborted(signal)) throw interrupted(service);
    }
  };
}

function refusal(error: unknown, classify: (error: unknown) => Failure): Failure {
  // Ours already: misuse, or what a provider found out by itself.
  if (error instanceof KeyringError) throw error;
  return classify(error);
}

/** Fills in the defaults. */
export function resolveRemoteOptions(options: RemoteOptions): typeof defaults & { readonly signal?: AbortSignal } {
  for (const name of Object.keys(options)) {
    if (name !== 'signal' && !(name in defaults)) throw new TypeError(`unknown option: ${name}`);
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const resolved = { ...defaults, ...given };
  for (const [name, [least, most]] of Object.entries(limits)) {
    const value = resolved[name as keyof typeof defaults];
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new TypeError(`option ${name} takes a whole number from ${String(least)} to ${String(most)}`);
    }
  }
  return resolved;
}

type Outcome<T> = { readonly value: T } | { readonly error: unknown; readonly timedOut: boolean };

/** Runs `attempt` for `ms` at most. Never rejects; what comes later is nobody's. */
async function bounded<T>(
  attempt: (signal: AbortSignal) => Promise<T>,
  ms: number,
  outer: AbortSignal | undefined,
): Promise<Outcome<T>> {
  const controller = new AbortController();
  const { promise: ended, resolve: end } = Promise.withResolvers<Outcome<T>>();
  const stop = (timedOut: boolean) => () => {
    end({ error: undefined, timedOut });
    controller.abort();
  };
  const onAbort = stop(false);
  const timer = setTimeout(stop(true), Math.max(0, ms));
  outer?.addEventListener('abort', onAbort, { once: true });
  try {
    if (isAborted(outer)) return { error: undefined, timedOut: false };
    const tried = (async () => attempt(controller.signal))().then(
      (value): Outcome<T> => ({ value }),
      (error: unknown): Outcome<T> => ({ error, timedOut: false }),
    );
    return await Promise.race([tried, ended]);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', onAbort);
  }
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const done = (): void => {
    resolve(undefined);
  };
  const timer = setTimeout(done, ms);
  signal?.addEventListener('abort', done, { once: true });
  await promise;
  clearTimeout(timer);
  signal?.removeEventListener('abort', done);
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

function interrupted(service: Service): KeyringError {
  return new KeyringError('interrupted', `Asking ${service.name} for the root key ${service.uri} was interrupted.`, {
    remedy: 'Start again; nothing was changed.',
  });
}
