import { KeyringError } from '@meshhook/keyring';
import { exitCodes } from './exit-codes.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

// npm hands on the Ctrl-C that its child got from the terminal already: what comes at once is the same one.
const ECHO_MS = 500;

/**
 * The first Ctrl-C (or SIGTERM, or a terminal that goes away) aborts the signal, so that what is under way comes to rest
 * and everything is closed; the second ends the process at once, which loses nothing either. `@returns` how to stop listening.
 */
export function watchSignals(controller: AbortController, onFirst: () => void): () => void {
  let firstAt: number | undefined;
  const listener = (): void => {
    if (firstAt === undefined) {
      firstAt = performance.now();
      onFirst();
      controller.abort(interrupted());
    } else if (performance.now() - firstAt > ECHO_MS) {
      process.exit(exitCodes.interrupted);
    }
  };
  for (const name of signals) process.on(name, listener);
  return () => {
    for (const name of signals) process.off(name, listener);
  };
}

/** What `work` gives, or a rejection as soon as `signal` is aborted. `work` itself goes on until what it uses is closed. */
export async function untilInterrupted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const listener = (): void => reject(interrupted());
  signal.addEventListener('abort', listener, { once: true });
  // What becomes of it after that is nobody's question any more.
  work.catch(() => undefined);
  try {
    signal.throwIfAborted();
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', listener);
  }
}

function interrupted(): KeyringError {
  return new KeyringError('interrupted', 'Interrupted. What was stored before that stays.', {
    remedy: 'Run the command again.',
  });
}
