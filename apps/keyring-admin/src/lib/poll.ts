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
      if (document.visibilityState === 'visible') await work();
    } catch {
      // The server is away for a moment: the next turn asks again.
    }
    if (!stopped) timer = setTimeout(() => void turn(), Math.max(everyMs, 10 * (performance.now() - from)));
  };
  timer = setTimeout(() => void turn(), everyMs);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
