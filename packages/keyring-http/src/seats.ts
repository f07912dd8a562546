/** So many at once, and so many of them for one person, so that nobody takes what there is for everybody. */
export class Seats {
  readonly #most: number;
  readonly #mostEach: number;
  readonly #takenBy = new Map<string, number>();
  #taken = 0;

  constructor({ most, mostEach }: { readonly most: number; readonly mostEach: number }) {
    this.#most = most;
    this.#mostEach = mostEach;
  }

  /** Gives it back, which has to be called once. Undefined when there is none left. */
  take(person: string): (() => void) | undefined {
    const own = this.#takenBy.get(person) ?? 0;
    if (this.#taken >= this.#most || own >= this.#mostEach) return undefined;
    this.#taken += 1;
    this.#takenBy.set(person, own + 1);
    return () => {
      this.#taken -= 1;
      const left = (this.#takenBy.get(person) ?? 1) - 1;
      if (left === 0) this.#takenBy.delete(person);
      else this.#takenBy.set(person, left);
    };
  }
}
