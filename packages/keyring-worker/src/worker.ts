import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { KeyringError, pgDatabase, type Keyring, type Rotation, type RunOptions } from '@meshhook/keyring';
import { Driving } from './driving.ts';
import { requestDue } from './due.ts';
import { Hands } from './hands.ts';
import { Jobs, type Claimed } from './jobs.ts';
import { inWords, Trouble, type Log } from './log.ts';
import { Nap } from './nap.ts';
import { resolveOptions } from './options.ts';
import { forgetDead, left, seen, type Self } from './workers.ts';

const BEAT_MS = 1_000;
const HOUSEKEEPING_MS = 60_000;
// Between looks into an empty queue: soon after there was work, and while there is none.
const FIRST_IDLE_MS = 200;
const LAST_IDLE_MS = 1_000;
const LONGEST_BACKOFF_MS = 60_000;
const ROTATIONS_AT_ONCE = 4;

/** What `startWorker` takes. Unknown names are refused. */
export interface WorkerOptions {
  /** Opened by the caller, on the same database; it outlives the worker. */
  readonly keyring: Keyring;
  /** The URL of the same database: the worker's own connections, three at most, so that a sweep cannot starve its heartbeat. */
  readonly databaseUrl: string;
  readonly log: Log;
  /** Units it does at once. Default 2; 1 to 64. */
  readonly concurrency?: number;
  /**
   * Projects to a unit of the rotations it drives, 1 to 500. Default: as the library parts them. Fewer spread a fleet better in
   * which few projects have most of the secrets.
   */
  readonly unitSize?: number;
  /**
   * Rows to a part of a large project, when others are there to share it. Default 50,000: over a second of one process's work, so
   * that parts of unequal size do no harm.
   */
  readonly partRows?: number;
  /** Of the program, for the list of workers. Default: of this package. */
  readonly version?: string;
  /** How often it looks for rotations without a driver, in milliseconds. Default 1,000; 0: never. */
  readonly lookEveryMs?: number;
  /** How often it asks for the rotation of what is due, in milliseconds. Default 60,000; 0: never. */
  readonly dueEveryMs?: number;
}

/** A worker: one of any number of processes, on any number of machines, none of which is special. */
export interface Worker {
  readonly id: string;
  /** Resolves when it is on the list of workers, or was stopped before. Never rejects: it waits for the database. */
  readonly ready: Promise<undefined>;
  /** Units that it took from the queue and did so far, and those that failed. */
  readonly units: { readonly done: number; readonly failed: number };
  /**
   * Drives a rotation as `rotations.run` does, its units shared with all workers.
   * @throws KeyringError `unknown_rotation`, `interrupted`.
   */
  drive(rotationId: string, options?: Omit<RunOptions, 'executor'>): Promise<Rotation>;
  /** Looks for rotations now instead of at its next turn. */
  wake(): void;
  /** Interrupts what it does between two statements, gives it back, and lets go of its connections. */
  stop(): Promise<void>;
}

/** @throws TypeError for an option that does not exist, is missing, or is out of its range: misuse, not a failure. */
export function startWorker(options: WorkerOptions): Worker {
  const { keyring, log, ...settings } = resolveOptions(options);
  const id = randomUUID();
  const { promise: ready, resolve: isReady } = Promise.withResolvers<undefined>();
  const stopping = new AbortController();
  const { signal } = stopping;
  const database = pgDatabase({
    connectionString: settings.databaseUrl,
    maxConnections: 3,
    applicationName: 'meshhook-keyring worker',
  });
  const jobs = new Jobs(database, (error) => log.error(`The queue: ${inWords(error)}`));
  const hands = new Hands(keyring.rotations, settings.concurrency);
  const idle = new Nap();
  const units = { done: 0, failed: 0 };
  let others = 0;
  const driving = new Driving({
    jobs,
    hands,
    others: () => others,
    unitSize: settings.unitSize,
    partRows: settings.partRows,
    onSent: () => idle.wake(),
    rotations: keyring.rotations,
    log,
    signal,
    everyMs: settings.lookEveryMs,
    atOnce: ROTATIONS_AT_ONCE,
    longestBackoffMs: LONGEST_BACKOFF_MS,
  });

  const open = async (): Promise<void> => {
    const trouble = new Trouble(log, 'The worker cannot start', 'The worker has started.');
    for (let waitMs = BEAT_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, LONGEST_BACKOFF_MS)) {
      try {
        await jobs.open();
        trouble.ended();
        return;
      } catch (error) {
        trouble.met(error);
        await new Nap().for(waitMs, signal);
      }
    }
  };

  const beat = async (self: Self, over: AbortSignal): Promise<void> => {
    const trouble = new Trouble(log, 'The worker cannot say that it is alive', 'The worker is on the list again.');
    const nap = new Nap();
    while (!over.aborted) {
      try {
        others = await seen(database, self, { units: hands.doing, driving: driving.rotations });
        await jobs.touch();
        trouble.ended();
        isReady(undefined);
        driving.look();
      } catch (error) {
        trouble.met(error);
      }
      await nap.for(BEAT_MS, over);
    }
  };

  const perform = async ({ id: jobId, unit }: Claimed): Promise<void> => {
    try {
      const result = await hands.do(unit, signal);
      units.done++;
      await jobs.complete(jobId, result);
    } catch (error) {
      const givenBack = signal.aborted;
      if (!givenBack) {
        units.failed++;
        log.error(`rotation ${unit.rotationId}: a unit failed: ${inWords(error)}`);
      }
      // Where this fails, too, the job goes to another when its heartbeat is too old.
      await jobs.fail(jobId, givenBack ? interrupted() : error).catch(() => undefined);
    } finally {
      idle.wake();
    }
  };

  const claim = async (): Promise<void> => {
    const trouble = new Trouble(log, 'The worker cannot take from the queue', 'The worker takes from the queue again.');
    const underWay = new Set<Promise<void>>();
    let idleMs = FIRST_IDLE_MS;
    while (!signal.aborted) {
      let claimed: Claimed[] = [];
      const { free } = hands;
      try {
        if (free > 0) claimed = await jobs.claim(free);
        trouble.ended();
      } catch (error) {
        trouble.met(error);
      }
      for (const one of claimed) {
        const performed = perform(one).finally(() => underWay.delete(performed));
        underWay.add(performed);
      }
      idleMs = claimed.length > 0 ? FIRST_IDLE_MS : Math.min(idleMs * 1.2, LAST_IDLE_MS);
      await idle.for(idleMs, signal);
    }
    await Promise.all(underWay);
  };

  /** Does `what` every so often, for as long as the worker runs. */
  const every = async (ms: number, trouble: Trouble, what: () => Promise<void>): Promise<void> => {
    const nap = new Nap();
    for (;;) {
      await nap.for(ms, signal);
      if (signal.aborted) return;
      await what().then(
        () => trouble.ended(),
        (error: unknown) => trouble.met(error),
      );
    }
  };

  const tick = async (): Promise<void> => {
    const rotation = await requestDue(keyring.rotations);
    if (rotation === undefined) return;
    log.info(`rotation ${rotation}: asked for, because its projects are due`);
    driving.wake();
  };

  const run = async (): Promise<void> => {
    await open();
    const over = new AbortController();
    const version = settings.version ?? (await ownVersion());
    const self = { id, host: hostname(), pid: process.pid, version, concurrency: settings.concurrency };
    const beating = signal.aborted ? undefined : beat(self, over.signal);
    await Promise.all([
      claim(),
      driving.loop(),
      every(HOUSEKEEPING_MS, new Trouble(log, 'The worker cannot tidy up', 'The worker tidies up again.'), async () => {
        await jobs.sweep();
        await forgetDead(database);
      }),
      ...(settings.dueEveryMs === 0
        ? []
        : [
            every(
              settings.dueEveryMs,
              new Trouble(log, 'The worker cannot ask for what is due', 'The worker asks for what is due again.'),
              tick,
            ),
          ]),
    ]);
    over.abort();
    await beating;
    isReady(undefined);
    await left(database, id).catch(() => undefined);
    await jobs.close();
    await database.close();
  };

  const running = run();
  return {
    id,
    ready,
    units,
    drive: (rotationId, runOptions = {}) => driving.drive(rotationId, runOptions),
    wake: () => driving.wake(),
    async stop() {
      stopping.abort(interrupted());
      await running;
    },
  };
}

function interrupted(): KeyringError {
  return new KeyringError('interrupted', 'The worker was told to stop.', { remedy: 'Another one goes on with it.' });
}

async function ownVersion(): Promise<string> {
  const manifest = await readFile(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
