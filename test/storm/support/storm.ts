import { setTimeout as sleep } from 'node:timers/promises';
import { isOutage } from '../../../packages/keyring/test/engine/support/known-names.ts';
import { seededRandom, type Random } from '../../../packages/keyring/test/engine/support/random.ts';

const LINES_KEPT = 60;

/** What all actors share: the seed, when it is over, and what was seen. */
export class Storm {
  readonly seed: number;
  readonly #ended = new AbortController();
  readonly #failed = new AbortController();
  readonly #began = performance.now();
  readonly #diary: string[] = [];
  readonly tally: Record<string, number> = {};

  constructor(seed: number) {
    this.seed = seed;
  }

  /** Aborts when the storm is over, or has found something. */
  get over(): AbortSignal {
    return AbortSignal.any([this.#ended.signal, this.#failed.signal]);
  }

  /** Aborts only when it has found something: nobody needs to know any more what became of a change. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  end(): void {
    this.#ended.abort();
  }

  /** Something is not as it must be. The first one counts: what follows may follow from it. */
  fail(error: unknown): void {
    this.#failed.abort(error);
  }

  throwIfFailed(): void {
    this.#failed.signal.throwIfAborted();
  }

  note(actor: string, line: string): void {
    const seconds = ((performance.now() - this.#began) / 1_000).toFixed(2);
    this.#diary.push(`${seconds.padStart(8)} s  ${actor}: ${line}`);
    if (this.#diary.length > LINES_KEPT) this.#diary.shift();
  }

  count(what: string): void {
    this.tally[what] = (this.tally[what] ?? 0) + 1;
  }

  /** The last of what happened, for who has to find out why. */
  get diary(): string {
    return this.#diary.join('\n');
  }

  /**
   * Numbers for one turn of an actor. Each turn has its own: how many a turn before needed depends on what it met, and
   * must not change what is chosen next.
   */
  dice(actor: string, turn: number): Random {
    let hash = 2_166_136_261;
    // FNV-1a.
    for (const character of `${String(this.seed)} ${actor} ${String(turn)}`) {
      hash = Math.imul(hash ^ character.charCodeAt(0), 16_777_619);
    }
    return seededRandom(hash);
  }

  /**
   * Lets an actor take its turns, with pauses of up to `pauseMs`, until the storm is over. That the database is away, or
   * somebody holds what is needed, is weather; everything else that a turn rejects with ends the storm.
   */
  async act(actor: string, pauseMs: number, take: (random: Random, turn: number) => Promise<void>): Promise<void> {
    const { over } = this;
    for (let turn = 0; !over.aborted; turn++) {
      const random = this.dice(actor, turn);
      const pause = random(pauseMs);
      try {
        await take(random, turn);
      } catch (error) {
        if (!isOutage(error)) {
          this.note(actor, `turn ${String(turn)} failed`);
          this.fail(error);
          return;
        }
        this.count(`${actor.replace(/ \d+$/, '')} ${error.code}`);
      }
      await sleep(pause, undefined, { signal: over }).catch(() => undefined);
    }
  }
}
