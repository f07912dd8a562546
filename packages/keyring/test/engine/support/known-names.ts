import { setImmediate as yieldNow, setTimeout as sleep } from 'node:timers/promises';
import { KeyringError, type Keyring } from '@meshhook/keyring';
import { inWords, NameHistory, SPOILED, type State } from './name-history.ts';
import { pick, type Random } from './random.ts';

export interface AnswerCounts {
  /** Changes that were refused because somebody held what they needed. */
  refused: number;
  /** Changes whose answer was lost with the connection. */
  unheard: number;
}

/** The names of one project, and what is known to stand under each. */
export class KnownNames {
  readonly projectId: string;
  readonly all: readonly string[];
  readonly counts: AnswerCounts = { refused: 0, unheard: 0 };
  readonly #histories: ReadonlyMap<string, NameHistory>;
  readonly #outages: AbortSignal | undefined;

  /**
   * With `outages`, a database that goes away under a change is part of the game until the signal aborts: whoever lost an
   * answer looks up what became of it. Without, it is a failure like any other.
   */
  constructor(projectId: string, names: readonly string[], outages?: AbortSignal) {
    this.projectId = projectId;
    this.all = names;
    this.#histories = new Map(names.map((name) => [name, new NameHistory()]));
    this.#outages = outages;
  }

  /** Every value, by name. */
  get values(): Map<string, string> {
    const values = new Map<string, string>();
    for (const [name, { now }] of this.#histories) if (typeof now === 'string') values.set(name, now);
    return values;
  }

  /** Names under which stands what does not open. */
  get spoiled(): string[] {
    return this.all.filter((name) => this.history(name).now === SPOILED);
  }

  history(name: string): NameHistory {
    return this.#histories.get(name) as NameHistory;
  }

  /** A name that nobody is at work on; the caller is, from now on. */
  async take(random: Random): Promise<string> {
    for (;;) {
      const name = pick(this.all, random);
      const history = this.history(name);
      if (!history.busy) {
        history.busy = true;
        return name;
      }
      await yieldNow();
    }
  }

  /**
   * What somebody does past the writers to a name that nobody is at work on: `change` gets what stands there, and says
   * whether it made it `to`; when it rejects, it changed nothing. False when it did not, or somebody was at work.
   */
  async change(
    keyring: Keyring,
    name: string,
    to: State,
    change: (before: State) => Promise<boolean>,
  ): Promise<boolean> {
    const history = this.#histories.get(name);
    if (history === undefined || history.busy) return false;
    history.busy = true;
    const before = history.now;
    try {
      const changed = await this.answer(keyring, [name], () => {
        history.begin(to);
        return change(before);
      });
      if (changed !== undefined) history.settle(changed ? to : before);
      return changed === true;
    } catch (error) {
      // It was refused.
      history.settle(before);
      throw error;
    } finally {
      history.busy = false;
    }
  }

  /**
   * The answer to a change of these names. Undefined when there was none, because the change was refused or the connection
   * lost: then what stands there has been looked up.
   */
  async answer<T>(keyring: Keyring, names: readonly string[], change: () => Promise<T>): Promise<T | undefined> {
    const marks = names.map((name) => [name, this.history(name).mark()] as const);
    try {
      return await change();
    } catch (error) {
      if (this.#outages === undefined || !isOutage(error)) throw error;
      this.counts[error.code === 'contended' ? 'refused' : 'unheard'] += 1;
    }
    for (const [name, mark] of marks) {
      const found = await this.lookUp(keyring, name);
      this.expectPossible(name, found, mark);
      this.history(name).settle(found);
    }
    return undefined;
  }

  /** What stands there, however long the database is away. */
  async lookUp(keyring: Keyring, name: string): Promise<State> {
    for (;;) {
      try {
        return await this.get(keyring, name);
      } catch (error) {
        if (!isOutage(error) || (this.#outages?.aborted ?? true)) throw error;
        await sleep(50);
      }
    }
  }

  async get(keyring: Keyring, name: string): Promise<State> {
    try {
      return (await keyring.secrets.get(this.projectId, name))?.value;
    } catch (error) {
      if (error instanceof KeyringError && unopenable.has(error.code)) return SPOILED;
      throw error;
    }
  }

  /** @throws Error when what was found never stood there since the mark. */
  expectPossible(name: string, found: State, mark: number): void {
    const possible = this.history(name).since(mark);
    if (possible.includes(found)) return;
    throw new Error(`${name} read as ${inWords(found)}; possible: ${possible.map(inWords).join(', ')}`);
  }
}

const unopenable: ReadonlySet<string> = new Set(['decryption_failed', 'malformed_envelope', 'unsupported_envelope']);

/** Did a lock that somebody held, or a database that went away, keep it from being done, or us from hearing of it? */
export function isOutage(error: unknown): error is KeyringError {
  return error instanceof KeyringError && (error.code === 'contended' || error.code === 'database_unreachable');
}
