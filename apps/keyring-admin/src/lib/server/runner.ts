import { KeyringError, type Keyring, type Rotation } from '@meshhook/keyring';
import { count } from '../format.ts';
import type { Log } from './log.ts';

/** Drives rotations that nobody drives: those asked for here, and those whose process died. */
export interface Runner {
  /** Looks now instead of at the next turn. */
  wake(): void;
  /** Interrupts what runs, which stays resumable, and waits until it has stopped. */
  close(): Promise<void>;
}

export interface RunnerOptions {
  readonly rotations: Pick<Keyring['rotations'], 'waiting' | 'run'>;
  readonly log: Log;
  readonly everyMs?: number;
  /** Rotations at once, so that a large one does not hold up the small ones behind it. */
  readonly atOnce?: number;
  readonly longestBackoffMs?: number;
}

export function startRunner(options: RunnerOptions): Runner {
  const { rotations, log, everyMs = 2_000, atOnce = 4, longestBackoffMs = 60_000 } = options;
  const stop = new AbortController();
  const running = new Map<string, Promise<void>>();
  const failures = new Map<string, { times: number; notBefore: number }>();
  const backoff = (times: number): number => Math.min(everyMs * 2 ** (times - 1), longestBackoffMs);
  let woken = false;
  let endNap: () => void = () => undefined;

  const wake = (): void => {
    woken = true;
    endNap();
  };

  const nap = async (ms: number): Promise<void> => {
    if (!woken && !stop.signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        endNap = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    woken = false;
  };

  const drive = async (id: string): Promise<void> => {
    try {
      const rotation = await rotations.run(id, { signal: stop.signal });
      failures.delete(id);
      log.info(`rotation ${id}: ${summary(rotation)}`);
    } catch (error) {
      if (stop.signal.aborted) return;
      const times = (failures.get(id)?.times ?? 0) + 1;
      failures.set(id, { times, notBefore: Date.now() + backoff(times) });
      log.error(`rotation ${id}: ${inWords(error)} Tried again in ${backoff(times) / 1000} s.`);
    } finally {
      running.delete(id);
      wake();
    }
  };

  const start = (waiting: readonly string[]): void => {
    for (const id of failures.keys()) if (!waiting.includes(id)) failures.delete(id);
    for (const id of waiting) {
      if (running.size >= atOnce || stop.signal.aborted) return;
      if (running.has(id) || (failures.get(id)?.notBefore ?? 0) > Date.now()) continue;
      running.set(id, drive(id));
    }
  };

  const loop = async (): Promise<void> => {
    let failed = 0;
    while (!stop.signal.aborted) {
      try {
        const waiting = await rotations.waiting();
        if (failed > 0) log.info('The runner looks for rotations again.');
        failed = 0;
        start(waiting);
      } catch (error) {
        // Said once: an outage of an hour is one line, not a thousand.
        if (++failed === 1) log.error(`The runner cannot look for rotations: ${inWords(error)}`);
      }
      await nap(failed === 0 ? everyMs : backoff(failed));
    }
  };

  const looping = loop();
  return {
    wake,
    async close() {
      stop.abort();
      endNap();
      await looping;
      await Promise.allSettled(running.values());
    },
  };
}

function summary({ state, projects, rows, durationMs }: Rotation): string {
  const seconds = durationMs === undefined ? '' : ` in ${(durationMs / 1000).toFixed(1)} s`;
  const lost = rows.quarantined === 0 ? '' : `, ${count(rows.quarantined, 'row does', 'rows do')} not open`;
  return `${state}, ${count(projects.total, 'project')}, ${count(rows.moved, 'secret')} re-encrypted${lost}${seconds}`;
}

function inWords(error: unknown): string {
  if (error instanceof KeyringError) return `${error.message} (${error.code})`;
  return error instanceof Error ? `${error.name}: ${error.message}.` : 'something that is no error was thrown.';
}
