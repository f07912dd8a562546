/** What this process counts of itself for monitoring. Numbers only, so that no name, id or URI can get in. */

/** How many were how large: `counts[i]` at most `bounds[i]`, each also counted in those after it, as Prometheus has it. */
export interface Distribution {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly count: number;
  readonly sum: number;
}

/** What became of the unwrapping by root keys of one scheme, as `file` or `awskms`. */
export interface SchemeTally {
  readonly scheme: string;
  readonly unwrapped: number;
  /** By the code of the error: opening the root key, and unwrapping with it. */
  readonly failures: ReadonlyMap<string, number>;
  readonly seconds: Distribution;
}

// From a key in memory to a service that is asked four times.
const UNWRAP_SECONDS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

interface Scheme {
  unwrapped: number;
  readonly failures: Map<string, number>;
  readonly counts: number[];
  sum: number;
}

export class Tally {
  /** Data keys that were at hand when they were asked for. */
  cacheHits = 0;
  /** Data keys that had to be read and unwrapped. */
  cacheMisses = 0;
  /** Writes that the database refused because they came under a version that was no longer primary. */
  fenceRefusals = 0;
  /** Who last found that the trail is not as it was written: each takes back only what it said itself. */
  readonly auditBrokenFor = new Set<'sealing' | 'keeping'>();
  /** The last checkpoint of the trail could not be kept outside the database. */
  checkpointUnkept = false;
  readonly #schemes = new Map<string, Scheme>();

  unwrapped(scheme: string, seconds: number): void {
    const entry = this.#of(scheme);
    entry.unwrapped += 1;
    entry.sum += seconds;
    for (const [at, bound] of UNWRAP_SECONDS.entries())
      if (seconds <= bound) entry.counts[at] = (entry.counts[at] ?? 0) + 1;
  }

  rootKeyFailed(scheme: string, code: string): void {
    const { failures } = this.#of(scheme);
    failures.set(code, (failures.get(code) ?? 0) + 1);
  }

  get schemes(): SchemeTally[] {
    return [...this.#schemes].map(([scheme, { unwrapped, failures, counts, sum }]) => ({
      scheme,
      unwrapped,
      failures: new Map(failures),
      seconds: { bounds: UNWRAP_SECONDS, counts: [...counts], count: unwrapped, sum },
    }));
  }

  #of(scheme: string): Scheme {
    let entry = this.#schemes.get(scheme);
    if (entry === undefined) {
      entry = { unwrapped: 0, failures: new Map(), counts: UNWRAP_SECONDS.map(() => 0), sum: 0 };
      this.#schemes.set(scheme, entry);
    }
    return entry;
  }
}
