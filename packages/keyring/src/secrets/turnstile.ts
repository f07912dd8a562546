/** Lets a few at a time through for each key; the others wait their turn in memory, holding nothing. */
export class Turnstile {
  readonly #most: number;
  readonly #lines = new Map<string, { inside: number; readonly waiting: (() => void)[] }>();

  constructor(most: number) {
    this.#most = most;
  }

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    let line = this.#lines.get(key);
    if (line === undefined) this.#lines.set(key, (line = { inside: 0, waiting: [] }));
    const { waiting } = line;
    if (line.inside < this.#most) line.inside += 1;
    // Whoever leaves hands its place to the first who waits.
    else await new Promise<void>((enter) => waiting.push(enter));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next !== undefined) next();
      else if (--line.inside === 0) this.#lines.delete(key);
    }
  }
}
