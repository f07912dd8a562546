/**
 * Works through `items` with at most `lanes` under way and gives the results in the items' order; the first failure or an
 * abort stops all lanes and is thrown.
 */
export async function inLanes<T, R>(
  items: Iterable<T>,
  lanes: number,
  work: (item: T) => Promise<R>,
  signal: AbortSignal,
): Promise<R[]> {
  const queue = items[Symbol.iterator]();
  const results: R[] = [];
  let taken = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    try {
      while (!failed) {
        signal.throwIfAborted();
        const next = queue.next();
        if (next.done === true) return;
        const at = taken++;
        results[at] = await work(next.value);
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  // Every lane is waited for, so that nothing of a failed sweep is still on its way when the failure is told.
  const outcomes = await Promise.allSettled(Array.from({ length: lanes }, lane));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return results;
}
