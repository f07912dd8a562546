/**
 * A worker of the storm, as `mh-keys worker` runs one, until it is killed; with units so small that there are always some to
 * share. What it is to do comes as the first message of its parent, so that no credential is among its arguments; how it does
 * goes back the same way.
 *
 *   fork('worker-process.ts', { execArgv: ['--conditions=@meshhook/source'] })
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { KeyringError, openKeyring, type Executor, type Keyring } from '@meshhook/keyring';
import { startWorker } from '@meshhook/keyring-worker';

export interface WorkerOrders {
  readonly database: string;
  readonly rootKey: string;
}

/** Units that a worker did since its last news. */
export interface UnitsDone {
  /** Of projects. */
  projects: number;
  /** Parts of the large project. */
  rows: number;
  /** Of both, those of rotations that another worker drives. */
  ofOthers: number;
}

export interface WorkerNews {
  /** Rotations whose units it hands out now. */
  readonly driving: number;
  /** Units that it does now. */
  readonly doing: number;
  readonly done: UnitsDone;
  readonly rssBytes: number;
  /** What it said since its last news. */
  readonly said: readonly string[];
  /** What it met that no weather explains. */
  readonly problem?: string;
}

const UNIT_SIZE = 4;
/** The large project is three parts. */
const PART_ROWS = 1_000;
const LOOK_EVERY_MS = 50;
/** How long a driver hesitates over each unit it does itself: whoever looks into an empty queue does so once a second. */
const HESITATES_MS = 200;
const NEWS_MS = 20;
const weather = ['database_unreachable', 'contended'];

const driving = new Set<string>();
let doing = 0;
let done: UnitsDone = { projects: 0, rows: 0, ofOthers: 0 };
let said: string[] = [];

function tell(problem?: string): void {
  const news: WorkerNews = {
    driving: driving.size,
    doing,
    done,
    rssBytes: process.memoryUsage.rss(),
    said,
    ...(problem === undefined ? {} : { problem }),
  };
  done = { projects: 0, rows: 0, ofOthers: 0 };
  said = [];
  process.send?.(news);
}

/** The keyring, and who looks on: which rotations this process drives, and which units it does. */
function watched(keyring: Keyring): Keyring {
  const { rotations } = keyring;
  return {
    ...keyring,
    rotations: {
      ...rotations,
      async run(id, { executor, ...options } = {}) {
        try {
          return await rotations.run(id, {
            ...options,
            ...(executor === undefined ? {} : { executor: seen(executor) }),
          });
        } finally {
          driving.delete(id);
        }
      },
      async work(unit, options) {
        doing += 1;
        try {
          const own = driving.has(unit.rotationId);
          if (own) await sleep(HESITATES_MS, undefined, options).catch(() => undefined);
          const result = await rotations.work(unit, options);
          done[unit.kind] += 1;
          if (!own) done.ofOthers += 1;
          return result;
        } finally {
          doing -= 1;
        }
      },
    },
  };
}

/** Who comes second to a rotation leaves it without having handed out anything. */
function seen(executor: Executor): Executor {
  return {
    atOnce: executor.atOnce,
    ...(executor.unitSize === undefined ? {} : { unitSize: executor.unitSize }),
    get partRows() {
      return executor.partRows;
    },
    execute(unit, signal) {
      driving.add(unit.rotationId);
      return executor.execute(unit, signal);
    },
  };
}

async function open({ database, rootKey }: WorkerOrders): Promise<Keyring> {
  for (;;) {
    try {
      return await openKeyring({ database, rootKey, actor: 'worker', sweepBatchSize: 100, lockPatienceMs: 2_000 });
    } catch (error) {
      if (!(error instanceof KeyringError && weather.includes(error.code))) throw error;
      await sleep(50);
    }
  }
}

async function work(orders: WorkerOrders): Promise<void> {
  const worker = startWorker({
    keyring: watched(await open(orders)),
    databaseUrl: orders.database,
    log: {
      info: (text) => void said.push(text),
      error(text) {
        said.push(text);
        // Its lines end with the code of what it met.
        if (!weather.some((code) => text.includes(`(${code})`))) tell(text);
      },
    },
    unitSize: UNIT_SIZE,
    partRows: PART_ROWS,
    lookEveryMs: LOOK_EVERY_MS,
    dueEveryMs: 0,
  });
  await worker.ready;
  tell();
  setInterval(tell, NEWS_MS);
}

process.once('message', (orders: WorkerOrders) => {
  work(orders).catch((error: unknown) => {
    tell(error instanceof Error ? (error.stack ?? error.message) : 'something that is no error was thrown');
  });
});
process.once('disconnect', () => process.exit());
