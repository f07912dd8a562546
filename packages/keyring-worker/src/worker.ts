import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { KeyringError, pgDatabase, type Keyring, type Rotation, type RunOptions } from '@meshhook/keyring';
import type { KeepCheckpoint } from './checkpoint-file.ts';
import { Driving } from './driving.ts';
import { keepSchedule } from './due.ts';
import { Hands } from './hands.ts';
import { Jobs, type Claimed } from './jobs.ts';
import { count, inWords, Trouble, type Log } from './log.ts';
import { Nap } from './nap.ts';
import { Courier } from './notifications/courier.ts';
import type { DeliveryOptions } from './notifications/deliver.ts';
import { resolveOptions } from './options.ts';
import { Sealing } from './sealing.ts';
import { verifying } from './verifying.ts';
import { forgetDead, left, seen, type Self } from './workers.ts';
import { WrappingTakeover } from './wrapping.ts';

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
  /** How often it looks at what policies want done (rotations, what is overdue, old versions), in milliseconds. Default 60,000; 0: never. */
  readonly dueEveryMs?: number;
  /** How often it seals what is new in the trail, in milliseconds. Default 2,000; 0: never. */
  readonly sealEveryMs?: number;
  /** Where the last checkpoint of the trail goes, outside the database: `checkpointKeeper`. Default: nowhere. */
  readonly onCheckpoint?: KeepCheckpoint;
  /** How often it looks for notifications to deliver, in milliseconds. Default 5,000; 0: never. */
  readonly notifyEveryMs?: number;
  /**
   * How often it looks at the rotation of the wrapping key, to go on with one that stood still meanwhile, in milliseconds. Default 30,000;
   * 0: never.
   */
  readonly wrappingEveryMs?: number;
  /** How often it verifies what is new in the trail, in milliseconds, workers together. Default 300,000; 0: never. */
  readonly verifyEveryMs?: number;
  /** How often it verifies all of the trail, workers together. Default a day, at most 31; 0: never. */
  readonly verifyWholeEveryMs?: number;
  /** Of its time, in percent, that verifying takes at most, 1 to 100. Default 10. */
  readonly verifyShare?: number;
  /** Reads what `onCheckpoint` kept, for verifying. Default: nothing is kept. */
  readonly readCheckpoint?: () => Promise<string | undefined>;
  /** Where notifications may go, besides https to the public internet. */
  readonly notify?: Pick<DeliveryOptions, 'allowPrivate' | 'allowHttp'>;
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
  const jobs = new Jobs(database, (error) =>
    log.error(`The queue: ${inWords(error)}`, { event: 'queue_trouble', error }),
  );
  const courier = new Courier(database, keyring, settings.notify ?? {});
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
    const trouble = new Trouble(log, 'The worker cannot start', 'The worker has started.', 'start_trouble');
    for (let waitMs = BEAT_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, LONGEST_BACKOFF_MS)) {
      try {
        await jobs.open();
        await courier.open();
        trouble.ended();
        return;
      } catch (error) {
        trouble.met(error);
        await new Nap().for(waitMs, signal);
      }
    }
  };

  const beat = async (self: Self, over: AbortSignal): Promise<void> => {
    const trouble = new Trouble(
      log,
      'The worker cannot say that it is alive',
      'The worker is on the list again.',
      'beat_trouble',
    );
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
        log.error(`rotation ${unit.rotationId}: a unit failed: ${inWords(error)}`, {
          ...{ event: 'unit_failed', rotationId: unit.rotationId, projects: unit.projectIds.length, error },
        });
      }
      // Where this fails, too, the job goes to another when its heartbeat is too old.
      await jobs.fail(jobId, givenBack ? interrupted() : error).catch(() => undefined);
    } finally {
      idle.wake();
    }
  };

  const claim = async (): Promise<void> => {
    const trouble = new Trouble(
      log,
      'The worker cannot take from the queue',
      'The worker takes from the queue again.',
      'claim_trouble',
    );
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

  /** Does `what` every so often, for as long as the worker runs; 0: never. */
  const every = async (ms: number, trouble: Trouble, what: () => Promise<void>): Promise<void> => {
    if (ms === 0) return;
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
    // A process that looks a little early is not refused because another one looked in time.
    const kept = await keepSchedule(keyring, settings.dueEveryMs / 2, signal);
    if (kept.overdue > 0)
      log.error(`${count(kept.overdue, 'project')} overdue: \`mh-keys schedule overdue\` says why.`, {
        event: 'projects_overdue',
        projects: kept.overdue,
      });
    if (kept.destroyed > 0)
      log.info(`${count(kept.destroyed, 'old version')} destroyed: nobody keeps them any longer`, {
        event: 'versions_destroyed',
        keys: kept.destroyed,
      });
    if (kept.inUse.first !== undefined)
      log.error(
        `${count(kept.inUse.total, 'old version')} kept past its time, for rows that name it: ${kept.inUse.first} first. ` +
          'Rotate the project.',
        { event: 'versions_in_use', keys: kept.inUse.total },
      );
    if (kept.rotationId === undefined) return;
    log.info(`rotation ${kept.rotationId}: asked for, because its projects are due`, {
      event: 'rotation_due',
      rotationId: kept.rotationId,
    });
    driving.wake();
  };

  const takeover = new WrappingTakeover(keyring.wrappingKeys, signal);
  const takeOver = async (): Promise<void> => {
    const rotation = await takeover.look();
    if (rotation === undefined) return;
    const { id: rotationId, state } = rotation;
    log.info(`rotation ${rotationId} of the wrapping key: it stood still, and is ${state.replace('_', ' ')} now`, {
      ...{ event: 'wrapping_rotation_resumed', rotationId },
    });
  };

  const sealing = new Sealing(keyring.audit, settings.onCheckpoint);
  const run = async (): Promise<void> => {
    await open();
    const over = new AbortController();
    const version = settings.version ?? (await ownVersion());
    const self = { id, host: hostname(), pid: process.pid, version, concurrency: settings.concurrency };
    const beating = signal.aborted ? undefined : beat(self, over.signal);
    const look = verifying(keyring.audit, settings, log, signal);
    await Promise.all([
      claim(),
      driving.loop(),
      every(
        HOUSEKEEPING_MS,
        new Trouble(log, 'The worker cannot tidy up', 'The worker tidies up again.', 'tidy_trouble'),
        async () => {
          await jobs.sweep();
          await courier.tidy();
          await forgetDead(database);
        },
      ),
      every(
        settings.sealEveryMs,
        new Trouble(log, 'The worker cannot seal the trail', 'The worker seals the trail again.', 'seal_trouble'),
        async () => {
          await sealing.round(signal);
        },
      ),
      every(
        settings.notifyEveryMs,
        new Trouble(
          log,
          'The worker cannot deliver notifications',
          'The worker delivers notifications again.',
          'notify_trouble',
        ),
        () => courier.rounds(signal),
      ),
      every(
        settings.wrappingEveryMs,
        new Trouble(
          log,
          'The worker cannot go on with the rotation of the wrapping key',
          'The worker can look after the wrapping key again.',
          'wrapping_trouble',
        ),
        takeOver,
      ),
      every(
        settings.dueEveryMs,
        new Trouble(
          log,
          'The worker cannot keep the schedule',
          'The worker keeps the schedule again.',
          'schedule_trouble',
        ),
        tick,
      ),
      ...look.map(({ everyMs, round }) =>
        every(
          everyMs,
          new Trouble(
            log,
            'The worker cannot verify the trail',
            'The worker verifies the trail again.',
            'verify_trouble',
          ),
          round,
        ),
      ),
    ]);
    over.abort();
    await beating;
    isReady(undefined);
    await left(database, id).catch(() => undefined);
    await jobs.close();
    await courier.close();
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
