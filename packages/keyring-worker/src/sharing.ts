import { pgDatabase, type Keyring } from '@meshhook/keyring';
import type { Log } from './log.ts';
import { Nap } from './nap.ts';
import { startWorker, type Worker } from './worker.ts';
import { anyAlive } from './workers.ts';

// A rotation of so many projects is one unit at first (packages/keyring/src/rotation/runner.ts), of which only the parts of large
// projects can be shared: not worth a worker unless somebody is there already.
const ALONE_UP_TO = 50;
// As many lanes as the library has when it does the units by itself.
const CONCURRENCY = 4;
// A database that does not answer is waited for by the drive itself, with its own patience.
const READY_WITHIN_MS = 10_000;

export interface SharingOptions {
  /** The URL of the keyring's database. */
  readonly databaseUrl: string;
  readonly log: Log;
  /** As `WorkerOptions` has it. With it, a rotation of more projects than that is shared with workers that come later, too. */
  readonly unitSize?: number;
}

/**
 * The keyring of a program that is no worker, but drives a rotation now and then: while `rotations.run` drives one of many
 * projects, or any while workers are alive, the process is a worker, and shares its units with all others. Nothing else is
 * changed.
 */
export function sharing(keyring: Keyring, { unitSize, ...options }: SharingOptions): Keyring {
  const { rotations } = keyring;
  return {
    ...keyring,
    as: (actor) => sharing(keyring.as(actor), { ...options, ...(unitSize === undefined ? {} : { unitSize }) }),
    rotations: {
      ...rotations,
      async run(id, { executor, ...given } = {}) {
        if (executor !== undefined) return rotations.run(id, { ...given, executor });
        const rotation = await rotations.get(id);
        const many = rotation !== undefined && rotation.projects.total > (unitSize ?? ALONE_UP_TO);
        if (!many && !(await company(options.databaseUrl))) return rotations.run(id, given);
        const worker = startWorker({
          keyring,
          ...options,
          ...(unitSize === undefined ? {} : { unitSize }),
          concurrency: CONCURRENCY,
          lookEveryMs: 0,
          dueEveryMs: 0,
          sealEveryMs: 0,
          notifyEveryMs: 0,
        });
        try {
          await knowing(worker, given.signal);
          return await worker.drive(id, given);
        } finally {
          await worker.stop();
        }
      },
    },
  };
}

/** Is any worker alive? */
async function company(databaseUrl: string): Promise<boolean> {
  const database = pgDatabase({
    connectionString: databaseUrl,
    maxConnections: 1,
    applicationName: 'meshhook-keyring worker',
  });
  try {
    return await anyAlive(database);
  } catch {
    // The drive itself fails on the same database, or waits for it, and tells it better.
    return false;
  } finally {
    await database.close();
  }
}

/** Until it knows who else is there. */
async function knowing({ ready }: Worker, signal: AbortSignal | undefined): Promise<void> {
  const enough = new AbortController();
  const signals = [enough.signal, ...(signal === undefined ? [] : [signal])];
  await Promise.race([ready, new Nap().for(READY_WITHIN_MS, AbortSignal.any(signals))]);
  enough.abort();
}
