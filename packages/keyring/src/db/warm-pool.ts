import pg from 'pg';

// How long a connection that nobody uses is kept from the pool, which closes idle ones and lets the process exit.
const WARM_MS = 50;

/**
 * A pool that hands a connection just given back straight to whoever asks next. Going through `pg.Pool` for every statement
 * costs two timers, two listeners and a turn of its queue.
 */
export class WarmPool {
  readonly #pool: pg.Pool;
  readonly #warm: pg.PoolClient[] = [];
  #cooling = false;

  constructor(config: pg.PoolConfig) {
    this.#pool = new pg.Pool(config);
    // A connection that breaks while idle or between two statements is an event, which would end the process unheard; the
    // next statement on it fails, which is where it is told.
    this.#pool.on('error', () => undefined);
    this.#pool.on('connect', (client) => {
      client.on('error', () => {
        this.#discard(client);
      });
    });
  }

  /** A connection that is at hand now. */
  takeWarm(): pg.PoolClient | undefined {
    return this.#warm.pop();
  }

  async connect(): Promise<pg.PoolClient> {
    return this.#warm.pop() ?? (await this.#pool.connect());
  }

  /** Gives back a connection on which nothing is under way. */
  giveBack(client: pg.PoolClient): void {
    // Whoever waits in the pool's queue was there first.
    if (this.#pool.waitingCount > 0 || this.#pool.ending) {
      client.release();
      return;
    }
    this.#warm.push(client);
    if (this.#cooling) return;
    this.#cooling = true;
    // A timer, not the end of this turn: an immediate at every statement made the event loop ask for news before there was any,
    // and took a tenth of the rate of eight readers.
    setTimeout(() => {
      this.#cooling = false;
      this.#releaseAll();
    }, WARM_MS).unref();
  }

  async end(): Promise<void> {
    this.#releaseAll();
    await this.#pool.end();
  }

  #releaseAll(): void {
    for (const client of this.#warm.splice(0)) client.release();
  }

  #discard(client: pg.PoolClient): void {
    const at = this.#warm.indexOf(client);
    if (at === -1) return;
    this.#warm.splice(at, 1);
    client.release(true);
  }
}
