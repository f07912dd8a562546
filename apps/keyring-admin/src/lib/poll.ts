import { answers, connection } from './connection.svelte.ts';

/** While the server is away. */
const LOST_MS = 1_000;
/** While nobody is signed in: each time counts as a try that failed, of which the server takes one in three seconds. */
const SIGNED_OUT_MS = 15_000;

/**
 * Does the work again and again while somebody looks: every `everyMs`, or ten times as long as it takes if that is more, so
 * that a page left open is never a load. Gives the function that stops it.
 */
export function poll(work: () => Promise<void>, everyMs: number): () => void {
  let stopped = false;
  let timer: ReturnType<typeof setTimeout>;
  const turn = async (): Promise<void> => {
    const from = performance.now();
    try {
      if (document.visibilityState === 'visible' && (await answers())) await work();
    } catch {
      // The server is away for a moment: the next turn asks again.
    }
    const usual = Math.max(everyMs, 10 * (performance.now() - from));
    const waitMs = connection.lost ? LOST_MS : connection.signedOut ? SIGNED_OUT_MS : usual;
    if (!stopped) timer = setTimeout(() => void turn(), waitMs);
  };
  timer = setTimeout(() => void turn(), everyMs);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
