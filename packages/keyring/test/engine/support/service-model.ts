import { setImmediate as yieldNow } from 'node:timers/promises';
import type { Keyring } from '@meshhook/keyring';
import type { Installation } from './installation.ts';

/** A name, and every value it had or may have, in order; undefined is "not there". */
interface NameHistory {
  readonly states: (string | undefined)[];
  /** The last entry that is known to hold: later ones are under way. */
  known: number;
  busy: boolean;
}

export interface ServiceCounts {
  created: number;
  changed: number;
  deleted: number;
  renamed: number;
  raced: number;
  read: number;
  listed: number;
}

/** A reproducible source of numbers: from 0 up to `below`. */
export type Random = (below: number) => number;

export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    // Mulberry32.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/**
 * Writers and readers of one project, and a model in memory that knows every value the service acknowledged. One writer at
 * a time works on a name, so that the model is exact; readers work on all of them at any time, and whatever a read
 * returns must have been true at some moment while it ran.
 */
export class ServiceModel {
  readonly counts: ServiceCounts = {
    created: 0,
    changed: 0,
    deleted: 0,
    renamed: 0,
    raced: 0,
    read: 0,
    listed: 0,
  };
  readonly #installation: Installation;
  readonly #projectId: string;
  readonly #names: readonly string[];
  readonly #histories = new Map<string, NameHistory>();
  readonly #random: Random;
  #serial = 0;

  constructor(installation: Installation, projectId: string, names: readonly string[], random: Random) {
    this.#installation = installation;
    this.#projectId = projectId;
    this.#names = names;
    this.#random = random;
    for (const name of names) this.#histories.set(name, { states: [undefined], known: 0, busy: false });
  }

  /** What is stored now, by name. */
  get values(): Map<string, string> {
    const values = new Map<string, string>();
    for (const [name, history] of this.#histories) {
      const value = history.states.at(-1);
      if (value !== undefined) values.set(name, value);
    }
    return values;
  }

  /** One operation of a writer. `rival` is another process, for a race of two on one name. */
  async write(keyring: Keyring, rival: Keyring): Promise<void> {
    const name = await this.#take();
    const history = this.#history(name);
    try {
      const there = history.states.at(-1) !== undefined;
      const choice = this.#random(10);
      if (there && choice === 0) await this.#remove(keyring, name, history);
      else if (there && choice <= 2) await this.#rename(name, history);
      else if (choice === 3) await this.#race(keyring, rival, name, history);
      else await this.#put(keyring, name, history, there);
    } finally {
      history.busy = false;
    }
  }

  /** One operation of a reader. @throws Error when what it read was never true while it read. */
  async read(keyring: Keyring): Promise<void> {
    const name = this.#pick(this.#names);
    const history = this.#history(name);
    const from = history.known;
    if (this.#random(8) === 0) {
      const found = (await keyring.secrets.list(this.#projectId)).some((entry) => entry.name === name);
      const possible = history.states.slice(from).map((value) => value !== undefined);
      if (!possible.includes(found)) throw new Error(`${name} was ${found ? '' : 'not '}listed.`);
      this.counts.listed += 1;
      return;
    }
    const value = (await keyring.secrets.get(this.#projectId, name))?.value;
    if (!history.states.slice(from).includes(value)) {
      throw new Error(`${name} read as ${String(value)}; possible: ${history.states.slice(from).join(', ')}`);
    }
    this.counts.read += 1;
  }

  async #put(keyring: Keyring, name: string, history: NameHistory, there: boolean): Promise<void> {
    const value = this.#newValue(name);
    history.states.push(value);
    const { created } = await keyring.secrets.put(this.#projectId, name, value);
    if (created === there) throw new Error(`${name} was ${there ? 'created twice' : 'lost'}.`);
    this.#settle(history);
    this.counts[there ? 'changed' : 'created'] += 1;
  }

  async #remove(keyring: Keyring, name: string, history: NameHistory): Promise<void> {
    history.states.push(undefined);
    if (!(await keyring.secrets.remove(this.#projectId, name))) throw new Error(`${name} was lost.`);
    this.#settle(history);
    this.counts.deleted += 1;
  }

  /** As a user does it, past the service: no trigger of ours sees a change of value. */
  async #rename(name: string, history: NameHistory): Promise<void> {
    const free = this.#names.find((other) => {
      const candidate = this.#history(other);
      return !candidate.busy && candidate.states.at(-1) === undefined;
    });
    if (free === undefined) return;
    const target = this.#history(free);
    target.busy = true;
    try {
      target.states.push(history.states.at(-1));
      history.states.push(undefined);
      const renamed = await this.#installation.sql(
        'update public.secrets set key = $3 where project_id = $1 and key = $2 returning 1',
        [this.#projectId, name, free],
      );
      if (renamed.length !== 1) throw new Error(`${name} was lost.`);
      this.#settle(history);
      this.#settle(target);
      this.counts.renamed += 1;
    } finally {
      target.busy = false;
    }
  }

  /** Two processes put the same name at once: one of the two values stands. */
  async #race(keyring: Keyring, rival: Keyring, name: string, history: NameHistory): Promise<void> {
    const values = [this.#newValue(name), this.#newValue(name)] as const;
    history.states.push(...values);
    await Promise.all([
      keyring.secrets.put(this.#projectId, name, values[0]),
      rival.secrets.put(this.#projectId, name, values[1]),
    ]);
    const standing = (await keyring.secrets.get(this.#projectId, name))?.value;
    if (standing === undefined || !values.includes(standing)) throw new Error(`${name} lost both values of a race.`);
    history.states.push(standing);
    this.#settle(history);
    this.counts.raced += 1;
  }

  #settle(history: NameHistory): void {
    history.known = history.states.length - 1;
  }

  async #take(): Promise<string> {
    for (;;) {
      const name = this.#pick(this.#names);
      const history = this.#history(name);
      if (!history.busy) {
        history.busy = true;
        return name;
      }
      await yieldNow();
    }
  }

  #newValue(name: string): string {
    return `${name} #${String(++this.#serial)}`;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random(from.length)] as T;
  }

  #history(name: string): NameHistory {
    return this.#histories.get(name) as NameHistory;
  }
}
