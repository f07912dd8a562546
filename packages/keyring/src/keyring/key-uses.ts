import { KeptBack } from '../db/kept-back.ts';
import type { Queryable } from '../db/port.ts';
import { noteKeyUses } from './usage-store.ts';

const FLUSH_EVERY_MS = 60_000;
/** A version that is used all the time is noted once an hour by each process. */
const KNOWN_FOR_MS = 3_600_000;
const MOST_VERSIONS = 100_000;
const VERSIONS_AT_ONCE = 500;

/**
 * Notes when versions were used for readers and writers: in memory, and in the database once a minute. What a process that is killed has not
 * written yet is lost; what a rotation does with a version is no use of it.
 */
export class KeyUses {
  readonly #database: Queryable;
  readonly #keptBack: KeptBack;
  #known = new Set<string>();
  #unwritten = new Set<string>();
  #knownSince = performance.now();

  constructor(database: Queryable) {
    this.#database = database;
    this.#keptBack = new KeptBack(() => this.#write(), FLUSH_EVERY_MS);
  }

  note(keyId: string): void {
    if (this.#known.has(keyId) || this.#unwritten.size >= MOST_VERSIONS) return;
    this.#known.add(keyId);
    this.#unwritten.add(keyId);
  }

  /** Writes what was noted; what could not be written is written by the next. */
  flush(): Promise<void> {
    return this.#keptBack.flush();
  }

  close(): Promise<void> {
    return this.#keptBack.close();
  }

  async #write(): Promise<void> {
    if (this.#known.size >= MOST_VERSIONS || performance.now() - this.#knownSince >= KNOWN_FOR_MS) {
      this.#known = new Set(this.#unwritten);
      this.#knownSince = performance.now();
    }
    const keyIds = [...this.#unwritten];
    for (let at = 0; at < keyIds.length; at += VERSIONS_AT_ONCE) {
      const some = keyIds.slice(at, at + VERSIONS_AT_ONCE);
      await noteKeyUses(this.#database, some);
      for (const keyId of some) this.#unwritten.delete(keyId);
    }
  }
}
