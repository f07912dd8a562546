import type { Keyring, WorkResult, WorkUnit } from '@meshhook/keyring';
import type { WorkerUnit } from './workers.ts';

/** What this process does itself: a few units at once, whether they came by the queue or from a rotation it drives. */
export class Hands {
  readonly #rotations: Pick<Keyring['rotations'], 'work'>;
  readonly #concurrency: number;
  readonly #doing = new Set<WorkerUnit>();
  readonly #waiting = new Set<() => void>();

  constructor(rotations: Pick<Keyring['rotations'], 'work'>, concurrency: number) {
    this.#rotations = rotations;
    this.#concurrency = concurrency;
  }

  /** Below zero when more is done at once than there are hands: emergencies do not wait for one. */
  get free(): number {
    return this.#concurrency - this.#doing.size;
  }

  get doing(): readonly WorkerUnit[] {
    return [...this.#doing];
  }

  /** Calls `listener` whenever a unit is done, after those that came before it. `@returns` how to stop that. */
  onFree(listener: () => void): () => void {
    this.#waiting.add(listener);
    return () => this.#waiting.delete(listener);
  }

  async do(unit: WorkUnit, signal: AbortSignal): Promise<WorkResult> {
    const entry = { rotationId: unit.rotationId, projects: unit.projectIds.length, since: new Date() };
    this.#doing.add(entry);
    try {
      return await this.#rotations.work(unit, { signal });
    } finally {
      this.#doing.delete(entry);
      for (const listener of [...this.#waiting]) listener();
    }
  }
}
