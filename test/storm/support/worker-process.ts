/**
 * A worker of the storm: drives the rotations that wait for a runner, a few at a time, until it is killed. What it is to do
 * comes as the first message of its parent, so that no credential is among its arguments; how it does goes back the same
 * way.
 *
 *   fork('worker-process.ts', { execArgv: ['--conditions=@meshhook/source'] })
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { KeyringError, openKeyring } from '@meshhook/keyring';

export interface WorkerOrders {
  readonly database: string;
  readonly rootKey: string;
}

export interface WorkerNews {
  /** Rotations that it drives now. */
  readonly driving: number;
  readonly rssBytes: number;
  /** What it met that no weather explains. */
  readonly problem?: string;
}

const AT_ONCE = 3;
const NEWS_MS = 100;
const weather: ReadonlySet<string> = new Set(['database_unreachable', 'contended']);

const driving = new Map<string, Promise<void>>();

function tell(problem?: string): void {
  const news: WorkerNews = {
    driving: driving.size,
    rssBytes: process.memoryUsage.rss(),
    ...(problem === undefined ? {} : { problem }),
  };
  process.send?.(news);
}

/** Does it until the weather lets it. */
async function inAnyWeather<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof KeyringError) || !weather.has(error.code)) throw error;
      await sleep(50);
    }
  }
}

async function work({ database, rootKey }: WorkerOrders): Promise<never> {
  const keyring = await inAnyWeather(() =>
    openKeyring({ database, rootKey, actor: 'worker', sweepBatchSize: 100, lockPatienceMs: 2_000 }),
  );
  const drive = (id: string): Promise<void> =>
    inAnyWeather(() => keyring.rotations.run(id)).then(
      () => undefined,
      (error: unknown) => tell(inWords(error)),
    );
  tell();
  setInterval(tell, NEWS_MS);
  for (;;) {
    for (const id of await inAnyWeather(() => keyring.rotations.waiting())) {
      if (driving.size >= AT_ONCE || driving.has(id)) continue;
      driving.set(
        id,
        drive(id).finally(() => driving.delete(id)),
      );
    }
    await sleep(50);
  }
}

function inWords(error: unknown): string {
  if (!(error instanceof Error)) return 'something that is no error was thrown';
  return error instanceof KeyringError ? `${error.code}: ${error.message}` : (error.stack ?? error.message);
}

process.once('message', (orders: WorkerOrders) => {
  work(orders).catch((error: unknown) => tell(inWords(error)));
});
process.once('disconnect', () => process.exit());
