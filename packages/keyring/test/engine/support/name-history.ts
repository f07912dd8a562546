/** What stands under a name: a value, nothing, or bytes that do not open. */
export type State = string | undefined | typeof SPOILED;

export const SPOILED = Symbol('does not open');

/** A name, and everything that stood, or may have stood, under it, in order. */
export class NameHistory {
  readonly #states: State[] = [undefined];
  // The last entry that is known to hold: later ones are under way.
  #known = 0;
  /** Is somebody at work on it? One writer at a time, so that what is known is exact. */
  busy = false;

  /** What stands there while nobody is at work on it. */
  get now(): State {
    return this.#states.at(-1);
  }

  /** From now on any of these may stand there, too. */
  begin(...states: readonly State[]): void {
    this.#states.push(...states);
  }

  /** From now on nothing else does. */
  settle(state: State): void {
    this.#states.push(state);
    this.#known = this.#states.length - 1;
  }

  /** A mark of this moment, for `since`. */
  mark(): number {
    return this.#known;
  }

  /** Everything that stood there, or may have, at some moment since the mark. */
  since(mark: number): readonly State[] {
    return this.#states.slice(mark);
  }
}

export function inWords(state: State): string {
  return state === undefined ? 'nothing' : state === SPOILED ? 'what does not open' : state;
}
