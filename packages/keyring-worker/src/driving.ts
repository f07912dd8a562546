import type { Keyring, Rotation, RunOptions } from '@meshhook/keyring';
import { ended, inWords, summary, Trouble, type Log } from './log.ts';
import { aborted, Nap } from './nap.ts';
import { QueueExecutor, type QueueExecutorOptions } from './queue-executor.ts';

export interface DrivingOptions extends QueueExecutorOptions {
  readonly rotations: Pick<Keyring['rotations'], 'waiting' | 'run'>;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** How often it looks; 0: never. */
  readonly everyMs: number;
  /** Rotations at once, so that a large one does not hold up the small ones behind it; emergencies are driven beyond that. */
  readonly atOnce: number;
  readonly longestBackoffMs: number;
}

/** Drives rotations that nobody drives: those asked for lately, and those whose driver died. */
export class Driving {
  readonly #options: DrivingOptions;
  readonly #nap = new Nap();
  readonly #running = new Map<string, { executor: QueueExecutor; urgent: boolean; ended: Promise<void> }>();
  readonly #asked = new Map<string, { executor: QueueExecutor; ended: Promise<void> }>();
  readonly #failures = new Map<string, { times: number; notBefore: number }>();

  constructor(options: DrivingOptions) {
    this.#options = options;
  }

  /** Ids of the rotations whose units this process hands out. */
  get rotations(): readonly string[] {
    return [...this.#running, ...this.#asked].filter(([, { executor }]) => executor.used).map(([id]) => id);
  }

  /** Looks now instead of at the next turn. */
  wake(): void {
    this.#nap.wake();
  }

  /** Others came or went. */
  look(): void {
    for (const { executor } of [...this.#running.values(), ...this.#asked.values()]) executor.look();
  }

  /** Drives a rotation for somebody who waits for it, until it comes to rest. @throws KeyringError as `rotations.run` does. */
  async drive(id: string, options: RunOptions): Promise<Rotation> {
    const { rotations, signal } = this.#options;
    // One that somebody drives already has its hand there.
    const urgent = (await rotations.waiting({ trigger: 'compromise' })).includes(id);
    const executor = new QueueExecutor({ ...this.#options, urgent });
    const run = rotations.run(id, {
      ...options,
      executor,
      signal: options.signal === undefined ? signal : AbortSignal.any([options.signal, signal]),
    });
    const entry = { executor, ended: run.then(nothing, nothing) };
    this.#asked.set(id, entry);
    try {
      return await run;
    } finally {
      executor.close();
      this.#asked.delete(id);
    }
  }

  /** Until the signal aborts; what runs is interrupted, and resumable, when it resolves. */
  async loop(): Promise<void> {
    const { rotations, log, signal, everyMs } = this.#options;
    const trouble = new Trouble(
      log,
      'The worker cannot look for rotations',
      'The worker looks for rotations again.',
      'look_trouble',
    );
    let failed = 0;
    if (everyMs === 0) await aborted(signal);
    while (!signal.aborted) {
      try {
        const waiting = await rotations.waiting();
        const urgent = waiting.length === 0 ? [] : await rotations.waiting({ trigger: 'compromise' });
        trouble.ended();
        failed = 0;
        this.#start(waiting, new Set(urgent));
      } catch (error) {
        trouble.met(error);
        failed++;
      }
      await this.#nap.for(failed === 0 ? everyMs : this.#backoff(failed), signal);
    }
    await Promise.all([...this.#running.values(), ...this.#asked.values()].map(({ ended }) => ended));
  }

  #start(waiting: readonly string[], emergencies: ReadonlySet<string>): void {
    const { atOnce, signal } = this.#options;
    for (const id of this.#failures.keys()) if (!waiting.includes(id)) this.#failures.delete(id);
    for (const id of waiting) {
      if (signal.aborted) return;
      const urgent = emergencies.has(id);
      if (!urgent && this.#ordinary() >= atOnce) continue;
      if (this.#running.has(id) || (this.#failures.get(id)?.notBefore ?? 0) > Date.now()) continue;
      const executor = new QueueExecutor({ ...this.#options, urgent });
      this.#running.set(id, { executor, urgent, ended: this.#drive(id, executor) });
    }
  }

  #ordinary(): number {
    return [...this.#running.values()].filter(({ urgent }) => !urgent).length;
  }

  async #drive(id: string, executor: QueueExecutor): Promise<void> {
    const { rotations, log, signal } = this.#options;
    try {
      // Whoever comes second leaves: everybody looks for rotations without a live driver, every second.
      const rotation = await rotations.run(id, { signal, executor, whenDriven: 'leave' });
      this.#failures.delete(id);
      if (executor.used) log.info(`rotation ${id}: ${summary(rotation)}`, ended(rotation));
    } catch (error) {
      if (signal.aborted) return;
      const times = (this.#failures.get(id)?.times ?? 0) + 1;
      this.#failures.set(id, { times, notBefore: Date.now() + this.#backoff(times) });
      const retryMs = this.#backoff(times);
      log.error(`rotation ${id}: ${inWords(error)} Tried again in ${String(retryMs / 1000)} s.`, {
        ...{ event: 'rotation_interrupted', rotationId: id, error, retryMs },
      });
    } finally {
      executor.close();
      this.#running.delete(id);
      this.#nap.wake();
    }
  }

  #backoff(times: number): number {
    return Math.min(this.#options.everyMs * 2 ** (times - 1), this.#options.longestBackoffMs);
  }
}

const nothing = (): void => undefined;
