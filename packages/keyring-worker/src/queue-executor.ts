import { KeyringError, type Executor, type WorkResult, type WorkUnit } from '@meshhook/keyring';
import type { Hands } from './hands.ts';
import type { Jobs, Outcome, Sent } from './jobs.ts';

// More than a fleet has workers, so that none waits for the driver to look; few enough to be looked at in one query.
const UNITS_AT_ONCE = 256;
// A unit that fails is tried again after a fifth of a second, then twice as long each time.
const TRIES = 4;
const FIRST_BACKOFF_MS = 200;
// Workers die of other things, too; one that takes five of them with it is no accident.
const LOSSES = 5;
// Above every other unit: theirs are zero or less.
const URGENT = 1_000;

interface Entry {
  readonly unit: WorkUnit;
  readonly signal: AbortSignal;
  readonly resolve: (result: WorkResult) => void;
  readonly reject: (error: unknown) => void;
  jobId: string | undefined;
  tries: number;
  losses: number;
}

export interface QueueExecutorOptions {
  readonly jobs: Pick<Jobs, 'send' | 'takeBack' | 'clear'>;
  readonly hands: Pick<Hands, 'do' | 'free' | 'onFree'>;
  /** How many other workers are alive. */
  readonly others: () => number;
  /** As `Executor` has it. */
  readonly unitSize?: number | undefined;
  /** Rows to a part of a large project, when others are there. */
  readonly partRows: number;
  /** Of an emergency: it does not wait for a hand, nor behind others in the queue. */
  readonly urgent?: boolean;
  /** There are jobs now that this process, too, may claim. */
  readonly onSent: () => void;
}

/**
 * Has the units of one rotation done by whoever is there. A unit that is alone and finds a free hand, or that nobody else is
 * there for, is done here without a way round by the queue; all that are left go into the queue as soon as others are there,
 * this process being one of those who take from it. Rotations take turns, here and in the queue; an emergency waits for none.
 */
export class QueueExecutor implements Executor {
  readonly atOnce = UNITS_AT_ONCE;
  readonly unitSize?: number;
  readonly #options: QueueExecutorOptions;
  readonly #pending: Entry[] = [];
  readonly #sent = new Set<Entry>();
  readonly #drives = new WeakMap<AbortSignal, Promise<void>>();
  #unlisten: () => void;
  #used = false;
  #planned = false;
  #sending = false;
  #here = 0;

  constructor(options: QueueExecutorOptions) {
    this.#options = options;
    if (options.unitSize !== undefined) this.unitSize = options.unitSize;
    this.#unlisten = options.hands.onFree(() => this.look());
  }

  get partRows(): number | undefined {
    return this.#options.others() > 0 ? this.#options.partRows : undefined;
  }

  /** Was it given anything to do? */
  get used(): boolean {
    return this.#used;
  }

  execute(unit: WorkUnit, signal: AbortSignal): Promise<WorkResult> {
    this.#used = true;
    return new Promise<WorkResult>((resolve, reject) => {
      const entry: Entry = { unit, signal, resolve, reject, jobId: undefined, tries: 0, losses: 0 };
      this.#begin(entry);
      this.#queue(entry);
    });
  }

  /** Looks again who is there and what is left. */
  look(): void {
    if (this.#planned || this.#pending.length === 0) return;
    this.#planned = true;
    // All that is handed out at once is one batch.
    setImmediate(() => {
      this.#planned = false;
      this.#share();
    });
  }

  close(): void {
    this.#unlisten();
  }

  /** Once a drive: what the former one left in the queue goes, and everything of this one does when it is stopped. */
  #begin({ signal, unit }: Entry): void {
    if (this.#drives.has(signal)) return;
    // Where this fails the database is gone, and what is left is done twice, which does no harm.
    this.#drives.set(
      signal,
      this.#options.jobs.clear(unit.rotationId).catch(() => undefined),
    );
    signal.addEventListener('abort', () => void this.#halt(signal), { once: true });
  }

  #queue(entry: Entry): void {
    if (entry.signal.aborted) {
      entry.reject(entry.signal.reason);
      return;
    }
    this.#pending.push(entry);
    this.look();
  }

  #share(): void {
    if (this.#pending.length === 0 || this.#sending) return;
    const { hands, others, urgent } = this.#options;
    if (urgent === true && this.#here === 0) this.#take();
    if (this.#pending.length === 0) return;
    if (others() > 0 && (this.#pending.length + this.#sent.size > 1 || hands.free <= 0)) {
      void this.#send(this.#pending.splice(0));
      return;
    }
    if (hands.free <= 0) return;
    this.#take();
    // The next free hand is another rotation's, when one waits for it.
    this.#unlisten();
    this.#unlisten = hands.onFree(() => this.look());
    this.look();
  }

  /** One that waits, to be done here. */
  #take(): void {
    const entry = this.#pending.shift();
    if (entry === undefined) return;
    this.#here++;
    const done = this.#options.hands.do(entry.unit, entry.signal).finally(() => this.#here--);
    done.then(entry.resolve, entry.reject);
  }

  async #send(entries: readonly Entry[]): Promise<void> {
    // The first unit of every rotation before the second of any: a large one does not hold up the small ones behind it.
    const best = (this.#options.urgent === true ? URGENT : 0) - this.#sent.size;
    for (const entry of entries) this.#sent.add(entry);
    this.#sending = true;
    try {
      for (const begun of new Set(entries.map(({ signal }) => this.#drives.get(signal)))) await begun;
      const live = entries.filter(({ signal }) => !signal.aborted);
      const sent =
        live.length === 0
          ? []
          : await this.#options.jobs.send(live.map(({ unit }, i) => ({ unit, priority: best - i })));
      for (const [i, entry] of live.entries()) this.#follow(entry, sent[i]);
      const late = live.filter(({ signal }) => signal.aborted);
      if (late.length > 0) await this.#takeBack(late);
      if (live.length > 0) this.#options.onSent();
    } catch (error) {
      for (const entry of entries) this.#give(entry, () => entry.reject(error));
    } finally {
      this.#sending = false;
      this.look();
    }
  }

  #follow(entry: Entry, sent: Sent | undefined): void {
    entry.jobId = sent?.id;
    sent?.outcome.then(
      (outcome) => this.#judge(entry, outcome),
      (error: unknown) => this.#give(entry, () => entry.reject(error)),
    );
  }

  #judge(entry: Entry, outcome: Outcome): void {
    switch (outcome.kind) {
      case 'done':
        this.#give(entry, () => entry.resolve(outcome.result));
        return;
      case 'lost':
        entry.losses++;
        if (entry.losses < LOSSES) this.#give(entry, () => this.#queue(entry));
        else this.#give(entry, () => entry.reject(lostTooOften(entry)));
        return;
      case 'failed':
        // Its worker was told to stop, and gave it back.
        if (outcome.code === 'interrupted') {
          this.#give(entry, () => this.#queue(entry));
          return;
        }
        entry.tries++;
        if (entry.tries < TRIES) {
          // Stopped meanwhile, it is no longer among what was sent, and nothing is given.
          setTimeout(() => this.#give(entry, () => this.#queue(entry)), backoffMs(entry.tries));
        } else {
          const { code, message, remedy } = outcome;
          const more = { details: { rotationId: entry.unit.rotationId }, ...(remedy === undefined ? {} : { remedy }) };
          this.#give(entry, () => entry.reject(new KeyringError(code, message, more)));
        }
    }
  }

  /** Takes an entry out of the queue's hands, once. */
  #give(entry: Entry, then: () => void): void {
    if (!this.#sent.delete(entry)) return;
    entry.jobId = undefined;
    then();
  }

  async #halt(signal: AbortSignal): Promise<void> {
    for (const entry of this.#pending.splice(0)) {
      if (entry.signal === signal) entry.reject(signal.reason);
      else this.#pending.push(entry);
    }
    await this.#takeBack([...this.#sent].filter((entry) => entry.signal === signal));
  }

  async #takeBack(entries: readonly Entry[]): Promise<void> {
    const ids = entries.flatMap(({ jobId }) => (jobId === undefined ? [] : [jobId]));
    // Where this fails the database is gone; whoever drives next clears what is left.
    await this.#options.jobs.takeBack(ids).catch(() => undefined);
    for (const entry of entries) this.#give(entry, () => entry.reject(entry.signal.reason));
  }
}

function backoffMs(tries: number): number {
  return FIRST_BACKOFF_MS * 2 ** (tries - 1);
}

function lostTooOften({ unit, losses }: Entry): KeyringError {
  return new KeyringError('internal', `${String(losses)} workers in a row died or fell silent over one unit.`, {
    remedy: 'Look at their logs, and at `mh-keys workers`: they may lack memory or connections.',
    details: { rotationId: unit.rotationId, projects: unit.projectIds.length },
  });
}
