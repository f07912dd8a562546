import type { Keyring } from '@meshhook/keyring';
import type { Installation } from './installation.ts';
import { KnownNames, type AnswerCounts } from './known-names.ts';
import { SPOILED, type NameHistory } from './name-history.ts';
import { pick, type Random } from './random.ts';

export interface ServiceCounts extends AnswerCounts {
  created: number;
  changed: number;
  deleted: number;
  renamed: number;
  raced: number;
  read: number;
  listed: number;
  /** Reads of what does not open. */
  unopened: number;
}

/**
 * Writers and readers of one project, and a model in memory that knows every value the service acknowledged. One writer at
 * a time works on a name, so that the model is exact; readers work on all of them at any time, and whatever a read
 * returns must have been true at some moment while it ran.
 */
export class ServiceModel {
  readonly known: KnownNames;
  readonly counts: ServiceCounts;
  readonly #installation: Pick<Installation, 'sql'>;
  readonly #projectId: string;
  readonly #random: Random;
  #serial = 0;

  /** `outages` as `KnownNames` has it. */
  constructor(
    installation: Pick<Installation, 'sql'>,
    projectId: string,
    names: readonly string[],
    random: Random,
    outages?: AbortSignal,
  ) {
    this.#installation = installation;
    this.#projectId = projectId;
    this.#random = random;
    this.known = new KnownNames(projectId, names, outages);
    this.counts = Object.assign(this.known.counts, {
      created: 0,
      changed: 0,
      deleted: 0,
      renamed: 0,
      raced: 0,
      read: 0,
      listed: 0,
      unopened: 0,
    });
  }

  /** What is stored now, by name. */
  get values(): Map<string, string> {
    return this.known.values;
  }

  /** One operation of a writer. `rival` is another process, for a race of two on one name. */
  async write(keyring: Keyring, rival: Keyring, random = this.#random): Promise<void> {
    const name = await this.known.take(random);
    const history = this.known.history(name);
    try {
      const there = history.now !== undefined;
      const choice = random(10);
      if (there && choice === 0) await this.#remove(keyring, name, history);
      else if (there && choice <= 2) await this.#rename(keyring, name, history);
      else if (choice === 3) await this.#race(keyring, rival, name, history);
      else await this.#put(keyring, name, history, there);
    } finally {
      history.busy = false;
    }
  }

  /** One operation of a reader. @throws Error when what it read was never true while it read. */
  async read(keyring: Keyring, random = this.#random): Promise<void> {
    const name = pick(this.known.all, random);
    const history = this.known.history(name);
    const mark = history.mark();
    if (random(8) === 0) {
      const entries = await keyring.secrets.list(this.#projectId, { limit: 10_000 });
      const found = entries.some((entry) => entry.name === name);
      const possible = history.since(mark).map((state) => state !== undefined);
      if (!possible.includes(found)) throw new Error(`${name} was ${found ? '' : 'not '}listed.`);
      this.counts.listed += 1;
      return;
    }
    const found = await this.known.get(keyring, name);
    this.known.expectPossible(name, found, mark);
    this.counts[found === SPOILED ? 'unopened' : 'read'] += 1;
  }

  async #put(keyring: Keyring, name: string, history: NameHistory, there: boolean): Promise<void> {
    const value = this.#newValue(name);
    const put = await this.known.answer(keyring, [name], () => {
      history.begin(value);
      return keyring.secrets.put(this.#projectId, name, value);
    });
    if (put === undefined) return;
    if (put.created === there) throw new Error(`${name} was ${there ? 'created twice' : 'lost'}.`);
    history.settle(value);
    this.counts[there ? 'changed' : 'created'] += 1;
  }

  async #remove(keyring: Keyring, name: string, history: NameHistory): Promise<void> {
    const removed = await this.known.answer(keyring, [name], () => {
      history.begin(undefined);
      return keyring.secrets.remove(this.#projectId, name);
    });
    if (removed === undefined) return;
    if (!removed) throw new Error(`${name} was lost.`);
    history.settle(undefined);
    this.counts.deleted += 1;
  }

  /** As a user does it, past the service: no trigger of ours sees a change of value. */
  async #rename(keyring: Keyring, name: string, history: NameHistory): Promise<void> {
    const free = this.known.all.find((other) => {
      const candidate = this.known.history(other);
      return !candidate.busy && candidate.now === undefined;
    });
    if (free === undefined) return;
    const target = this.known.history(free);
    target.busy = true;
    try {
      const moving = history.now;
      const renamed = await this.known.answer(keyring, [name, free], () => {
        target.begin(moving);
        history.begin(undefined);
        return this.#installation.sql(
          'update public.secrets set key = $3 where project_id = $1 and key = $2 returning 1',
          [this.#projectId, name, free],
        );
      });
      if (renamed !== undefined) {
        if (renamed.length !== 1) throw new Error(`${name} was lost.`);
        history.settle(undefined);
        target.settle(moving);
        this.counts.renamed += 1;
      } else if ((history.now === undefined) === (target.now === undefined)) {
        throw new Error(`${name} was ${history.now === undefined ? 'lost' : 'doubled'} by a rename.`);
      }
    } finally {
      target.busy = false;
    }
  }

  /** Two processes put the same name at once: one of the two values stands. */
  async #race(keyring: Keyring, rival: Keyring, name: string, history: NameHistory): Promise<void> {
    const values = [this.#newValue(name), this.#newValue(name)] as const;
    const raced = await this.known.answer(keyring, [name], async () => {
      history.begin(...values);
      const puts = await Promise.allSettled([
        keyring.secrets.put(this.#projectId, name, values[0]),
        rival.secrets.put(this.#projectId, name, values[1]),
      ]);
      for (const put of puts) if (put.status === 'rejected') throw put.reason;
      return true;
    });
    if (raced === undefined) return;
    const standing = await this.known.lookUp(keyring, name);
    if (standing !== values[0] && standing !== values[1]) throw new Error(`${name} lost both values of a race.`);
    history.settle(standing);
    this.counts.raced += 1;
  }

  #newValue(name: string): string {
    return `${name} #${String(++this.#serial)}`;
  }
}
