import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

/** Milliseconds waited in all before try number `attempt`, when every wait before it was a `backoffMs`. */
export function waitedMs(attempt: number, firstMs: number, mostMs: number): number {
  let sum = 0;
  for (let before = 1; before < attempt; before++) sum += backoffMs(before, firstMs, mostMs);
  return sum;
}

/** Milliseconds to wait before try number `attempt` (from 1): doubling from `firstMs`, capped at `mostMs`. */
export function backoffMs(attempt: number, firstMs: number, mostMs: number): number {
  return Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 20));
}
