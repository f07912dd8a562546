import type { Audit, AuditCheckpoint } from '@meshhook/keyring';
import type { KeepCheckpoint } from './checkpoint-file.ts';

export { checkpointKeeper, readCheckpointFile, type KeepCheckpoint } from './checkpoint-file.ts';
export { anyAlive } from './workers.ts';

// Others seal, too, and keep their own: how far this one's may be behind.
const LOOK_EVERY_MS = 60_000;

/**
 * Seals the trail, and keeps its last checkpoint outside the database: until that has worked, however often it fails, and the last one of
 * other processes as well.
 */
export class Sealing {
  readonly #audit: Pick<Audit, 'seal' | 'checkpoint' | 'keptOutside'>;
  readonly #keep: KeepCheckpoint | undefined;
  #unkept: AuditCheckpoint | undefined;
  #size = 0;
  #lookedAt = -Infinity;

  constructor(audit: Pick<Audit, 'seal' | 'checkpoint' | 'keptOutside'>, keep?: KeepCheckpoint) {
    this.#audit = audit;
    this.#keep = keep;
  }

  /**
   * Until nothing is left that can be sealed now. Gives how many entries got their place.
   * @throws KeyringError as `audit.seal` and what keeps do; the next round tries again.
   */
  async round(signal?: AbortSignal): Promise<number> {
    let sealed = 0;
    try {
      for (let more = true; more && signal?.aborted !== true;) {
        const done = await this.#audit.seal();
        sealed += done.sealed;
        this.#unkept = done.checkpoint ?? this.#unkept;
        more = done.more;
      }
    } catch (error) {
      // What was signed before is worth keeping all the same; what failed first is what is told.
      await this.#keepLast().catch(() => undefined);
      throw error;
    }
    await this.#keepLast();
    return sealed;
  }

  async #keepLast(): Promise<void> {
    if (this.#keep === undefined) return;
    this.#unkept ??= await this.#lastOfOthers();
    if (this.#unkept === undefined) return;
    try {
      await this.#keep(this.#unkept);
    } catch (error) {
      this.#audit.keptOutside(false);
      throw error;
    }
    this.#audit.keptOutside(true);
    this.#size = this.#unkept.size;
    this.#unkept = undefined;
  }

  async #lastOfOthers(): Promise<AuditCheckpoint | undefined> {
    if (performance.now() - this.#lookedAt < LOOK_EVERY_MS) return undefined;
    this.#lookedAt = performance.now();
    const last = await this.#audit.checkpoint();
    return last !== undefined && last.size > this.#size ? last : undefined;
  }
}
