// Whoever closes does not wait for a database that has gone away.
const LAST_FLUSH_MS = 2_000;

/** Writes once in a while what is gathered in memory: one write at a time, and a last one at the end. */
export class KeptBack {
  readonly #write: () => Promise<void>;
  readonly #timer: NodeJS.Timeout;
  #flushing: Promise<void> = Promise.resolve();

  /** `write` keeps what it could not write: the next one has it again. */
  constructor(write: () => Promise<void>, everyMs: number) {
    this.#write = write;
    this.#timer = setInterval(() => void this.flush().catch(() => undefined), everyMs);
    this.#timer.unref();
  }

  /** Writes now, once what is being written is. */
  flush(): Promise<void> {
    const next = this.#flushing.then(() => this.#write());
    this.#flushing = next.catch(() => undefined);
    return next;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    let over: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      over = setTimeout(resolve, LAST_FLUSH_MS);
    });
    await Promise.race([this.flush().catch(() => undefined), patience]);
    clearTimeout(over);
  }
}
