/** Things to do, in the order in which they came, and those that have to wait until a moment. Any number of them. */
export class WorkQueue<T> {
  #ready: T[] = [];
  // Where it begins: taking from the front of a long array would move all the others.
  #head = 0;
  #later: { readonly item: T; readonly at: number }[] = [];
  #soonest = Infinity;

  get size(): number {
    return this.#ready.length - this.#head + this.#later.length;
  }

  /** When the next of those that wait may be taken; Infinity when none waits. */
  get soonest(): number {
    return this.#soonest;
  }

  push(item: T): void {
    this.#ready.push(item);
  }

  /** Not to be taken before `at`. */
  pushLater(item: T, at: number): void {
    this.#later.push({ item, at });
    this.#soonest = Math.min(this.#soonest, at);
  }

  take(now: number): T | undefined {
    if (this.#soonest <= now) this.#wake(now);
    if (this.#head === this.#ready.length) {
      this.#ready = [];
      this.#head = 0;
      return undefined;
    }
    return this.#ready[this.#head++];
  }

  #wake(now: number): void {
    const waiting = this.#later;
    this.#later = [];
    this.#soonest = Infinity;
    for (const { item, at } of waiting) {
      if (at <= now) this.push(item);
      else this.pushLater(item, at);
    }
  }
}
