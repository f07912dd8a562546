import { performance } from 'node:perf_hooks';
import type { Database } from '../db/port.ts';
import { Pacer, type Pacing } from './pacer.ts';
import { readProbe } from './read-probe.ts';
import { pause } from '../db/wait.ts';

/** A pacer in use; `release` it once. */
export interface HeldPacer {
  readonly pacer: Pacer;
  release: () => void;
}

/** The pacers of this process: one a rotation for as long as anybody here works on it, however many units that is. */
export class Pacers {
  /** An ordinary read: how long it took, in milliseconds, or undefined when that says nothing. Never rejects. */
  readonly probe: () => Promise<number | undefined>;
  readonly #inUse = new Map<string, { readonly pacer: Pacer; holders: number }>();

  constructor(database: Database) {
    this.probe = readProbe(database);
  }

  hold(rotationId: string, pacing: Pacing): HeldPacer {
    let entry = this.#inUse.get(rotationId);
    if (entry === undefined) {
      const parts = { now: () => performance.now(), sleep: pause, probe: this.probe };
      this.#inUse.set(rotationId, (entry = { pacer: new Pacer(parts, pacing), holders: 0 }));
    }
    const held = entry;
    held.holders += 1;
    held.pacer.change(pacing);
    return {
      pacer: held.pacer,
      release: () => {
        held.holders -= 1;
        if (held.holders === 0) this.#inUse.delete(rotationId);
      },
    };
  }
}
