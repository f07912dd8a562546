import type { RotationPace } from '../api.ts';

/** How a rotation is to be paced, as its row says now. */
export interface Pacing {
  readonly pace: RotationPace;
  /** Rows a second that this process may begin at most. */
  readonly maxRate: number | undefined;
}

/** What a batch does: batches are compared with their like only. */
export type BatchKind = 'sweep' | 'verify';

export interface PacerParts {
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** One ordinary read: how long it took, in milliseconds, or undefined when that says nothing. Never rejects. */
  readonly probe: () => Promise<number | undefined>;
}

/** What the pacer has decided so far. */
export interface PacerReport {
  /** Share of the time that batches may take. */
  readonly share: number;
  readonly batchSize: number;
  /** Batches that had to ask, as at full speed without a cap, and at the beginning, none does. */
  readonly batches: number;
  readonly rests: number;
  readonly backOffs: number;
  readonly recoveries: number;
  readonly probes: number;
}

// A small rotation is over before it can disturb anybody: so much goes through at once.
const FREE_ROWS = 1_000;
const FREE_MS = 1_000;

const MOST_SHARE = 0.5;
// Of a hundred reads, fewer than one then meets a batch: where there is no core to spare, nothing less keeps their p99.
const LEAST_SHARE = 0.008;
// Until it is known whether reads mind: it comes gently, and takes more where nobody does.
const FIRST_SHARE = 0.01;

// A batch holds a core for as long as it has rows, which is what the reads beside it wait for. Fewer than some cost as much.
const MOST_ROWS = 100;
const LEAST_ROWS = 50;

// Down in large steps, up in small ones.
const BACK_OFF = 0.7;
const RECOVERY = 1.1;
// A change has to show before the next one.
const REVIEW_MS = 250;
const PROBE_MS = 125;
const PROBE_PARTS = 4;

// Reads beside a batch against reads in its pauses; pauses against how they were; batches against their like.
const READ_LIMIT = 1.15;
const LOAD_LIMIT = 2;
const BATCH_LIMIT = 2;

// Timers are no finer; what is owed is saved up to this.
const LEAST_REST_MS = 4;
// A batch that waited for something of its own must not buy a pause of minutes; and where everything is slow, it goes on all the same.
const LONGEST_REST_MS = 500;

// Of batches with a cap, at least so many a second: a cap is kept evenly, not in bursts.
const CAPPED_BATCHES = 4;

/**
 * Keeps the batches of one rotation in one process from disturbing the service: one at a time, with pauses between them, fewer
 * and smaller ones when they or the reads beside them get slower, and never more rows a
 * second than its cap. At full speed everything passes straight through.
 */
export class Pacer {
  readonly #parts: PacerParts;
  #pacing: Pacing;
  #share = FIRST_SHARE;
  #rows = MOST_ROWS;
  #freeRows = FREE_ROWS;
  #freeMs = FREE_MS;
  #owedMs = 0;
  #restUntil = 0;
  #cappedUntil = 0;
  #lastMs = 0;
  #reviewedAt = 0;
  #busyProbeAt = -Infinity;
  #calmProbeAt = -Infinity;
  // Reads beside a batch, in a pause now, and in a pause as it was; each follows its samples in a few numbers.
  readonly #busy = new Level(0.15, 0.15);
  readonly #calm = new Level(0.1, 0.1);
  readonly #usual = new Level(0.005, 0.1);
  readonly #batchMs: Readonly<Record<BatchKind, { readonly now: Level; readonly usual: Level }>> = {
    sweep: { now: new Level(0.2, 0.2), usual: new Level(0.005, 0.1) },
    verify: { now: new Level(0.2, 0.2), usual: new Level(0.005, 0.1) },
  };
  readonly #sleepers = new Set<AbortController>();
  #last: Promise<void> = Promise.resolve();
  readonly #counts = { batches: 0, rests: 0, backOffs: 0, recoveries: 0, probes: 0 };

  constructor(parts: PacerParts, pacing: Pacing) {
    this.#parts = parts;
    this.#pacing = pacing;
  }

  /** The most rows that the next batch should have, of the `most` that its maker would give it. */
  batchSize(most: number): number {
    const { pace, maxRate } = this.#pacing;
    const polite = pace === 'polite' ? Math.min(most, Math.max(LEAST_ROWS, Math.floor(this.#rows))) : most;
    return maxRate === undefined ? polite : Math.min(polite, Math.max(1, Math.floor(maxRate / CAPPED_BATCHES)));
  }

  get report(): PacerReport {
    return { ...this.#counts, share: this.#share, batchSize: this.batchSize(Infinity) };
  }

  /** From now on; whoever is waiting looks again. */
  change(pacing: Pacing): void {
    const { pace, maxRate } = this.#pacing;
    if (pacing.pace === pace && pacing.maxRate === maxRate) return;
    this.#pacing = pacing;
    if (pacing.pace !== pace) this.#restUntil = 0;
    if (pacing.maxRate !== maxRate) this.#cappedUntil = Math.min(this.#cappedUntil, this.#parts.now());
    for (const sleeper of this.#sleepers) sleeper.abort();
  }

  /**
   * Does `work` on so many rows when it may, and gives its result.
   * @throws the signal's reason when it aborts before the work began; whatever `work` throws.
   */
  async batch<T>(rows: number, kind: BatchKind, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#unpaced) return work();
    if (this.#free) return this.#withoutPause(rows, work);
    const leave = await this.#enter(signal);
    try {
      await this.#rest(signal);
      if (this.#pacing.pace === 'polite') return await this.#measured(rows, kind, work);
      this.#spend(rows);
      leave();
      return await work();
    } finally {
      leave();
    }
  }

  get #unpaced(): boolean {
    return this.#pacing.pace === 'full' && this.#pacing.maxRate === undefined;
  }

  get #free(): boolean {
    return this.#pacing.maxRate === undefined && this.#freeRows > 0 && this.#freeMs > 0;
  }

  async #withoutPause<T>(rows: number, work: () => Promise<T>): Promise<T> {
    this.#freeRows -= rows;
    const start = this.#parts.now();
    try {
      return await work();
    } finally {
      this.#freeMs -= this.#parts.now() - start;
    }
  }

  /** Waits until everybody who came before has left, or the signal aborts. */
  async #enter(signal: AbortSignal): Promise<() => void> {
    const before = this.#last;
    let leave!: () => void;
    const left = new Promise<void>((resolve) => (leave = resolve));
    this.#last = before.then(() => left);
    let giveUp!: () => void;
    const aborted = new Promise<void>((resolve) => (giveUp = resolve));
    signal.addEventListener('abort', giveUp, { once: true });
    if (!signal.aborted) await Promise.race([before, aborted]);
    signal.removeEventListener('abort', giveUp);
    if (signal.aborted) leave();
    signal.throwIfAborted();
    return leave;
  }

  async #rest(signal: AbortSignal): Promise<void> {
    let rested = false;
    for (;;) {
      signal.throwIfAborted();
      const waitMs = this.#waitMs();
      if (waitMs <= 0) break;
      if (!rested) this.#counts.rests += 1;
      rested = true;
      if (!(await this.#probeInPause())) await this.#sleep(waitMs, signal);
    }
  }

  #waitMs(): number {
    const { pace, maxRate } = this.#pacing;
    const until = Math.max(pace === 'polite' ? this.#restUntil : 0, maxRate === undefined ? 0 : this.#cappedUntil);
    return until - this.#parts.now();
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    const sleeper = new AbortController();
    const wake = (): void => {
      sleeper.abort();
    };
    signal.addEventListener('abort', wake, { once: true });
    this.#sleepers.add(sleeper);
    try {
      if (!signal.aborted) await this.#parts.sleep(ms, sleeper.signal);
    } finally {
      this.#sleepers.delete(sleeper);
      signal.removeEventListener('abort', wake);
    }
  }

  /** A batch begins. */
  #spend(rows: number): void {
    const { maxRate } = this.#pacing;
    this.#counts.batches += 1;
    if (maxRate === undefined) return;
    this.#cappedUntil = Math.max(this.#cappedUntil, this.#parts.now()) + (rows * 1_000) / maxRate;
  }

  async #measured<T>(rows: number, kind: BatchKind, work: () => Promise<T>): Promise<T> {
    const { now } = this.#parts;
    this.#spend(rows);
    const start = now();
    const over = new AbortController();
    const working = work();
    const probing = this.#probeBeside(start, over.signal);
    try {
      return await working;
    } finally {
      const ms = now() - start;
      this.#lastMs = ms;
      over.abort();
      await probing;
      this.#owe(ms);
      if (rows >= LEAST_ROWS) {
        this.#batchMs[kind].now.note(ms / rows);
        this.#batchMs[kind].usual.note(ms / rows);
      }
      this.#review(kind);
    }
  }

  #owe(ms: number): void {
    this.#owedMs += (ms * (1 - this.#share)) / this.#share;
    if (this.#owedMs < LEAST_REST_MS) return;
    this.#restUntil = this.#parts.now() + Math.min(this.#owedMs, LONGEST_REST_MS);
    this.#owedMs = 0;
  }

  /** A read at another moment of a batch each time: reading, encrypting and writing disturb differently. */
  async #probeBeside(at: number, over: AbortSignal): Promise<void> {
    if (at - this.#busyProbeAt < PROBE_MS) return;
    this.#busyProbeAt = at;
    const part = (this.#counts.probes++ % PROBE_PARTS) / PROBE_PARTS;
    if (part > 0) await this.#parts.sleep(part * this.#lastMs, over);
    if (over.aborted) return;
    this.#busy.note(await this.#parts.probe());
  }

  /** True when it took its time for a probe. */
  async #probeInPause(): Promise<boolean> {
    const at = this.#parts.now();
    if (this.#pacing.pace === 'full' || at - this.#calmProbeAt < PROBE_MS) return false;
    this.#calmProbeAt = at;
    this.#counts.probes += 1;
    const ms = await this.#parts.probe();
    this.#calm.note(ms);
    this.#usual.note(ms);
    return true;
  }

  #review(kind: BatchKind): void {
    const at = this.#parts.now();
    if (at - this.#reviewedAt < REVIEW_MS) return;
    this.#reviewedAt = at;
    const batches = this.#batchMs[kind];
    const pressed =
      this.#busy.over(this.#calm, READ_LIMIT) ||
      this.#calm.over(this.#usual, LOAD_LIMIT) ||
      batches.now.over(batches.usual, BATCH_LIMIT);
    if (pressed) {
      this.#counts.backOffs += 1;
      this.#share = Math.max(LEAST_SHARE, this.#share * BACK_OFF);
      this.#rows = Math.max(LEAST_ROWS, this.#rows * BACK_OFF);
    } else if (this.#share < MOST_SHARE || this.#rows < MOST_ROWS) {
      this.#counts.recoveries += 1;
      this.#share = Math.min(MOST_SHARE, this.#share * RECOVERY);
      this.#rows = Math.min(MOST_ROWS, this.#rows * RECOVERY);
    }
  }
}

// One read that met a checkpoint is no trend.
const OUTLIER = 8;

/** A level that follows its samples: by `rise` of the difference upwards, by `fall` downwards. */
class Level {
  readonly #rise: number;
  readonly #fall: number;
  #value: number | undefined;

  constructor(rise: number, fall: number) {
    this.#rise = rise;
    this.#fall = fall;
  }

  note(sample: number | undefined): void {
    if (sample === undefined) return;
    if (this.#value === undefined) {
      this.#value = sample;
      return;
    }
    const bounded = Math.min(sample, this.#value * OUTLIER);
    this.#value += (bounded > this.#value ? this.#rise : this.#fall) * (bounded - this.#value);
  }

  over(other: Level, times: number): boolean {
    return this.#value !== undefined && other.#value !== undefined && this.#value > other.#value * times;
  }
}
