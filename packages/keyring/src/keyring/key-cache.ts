import type { SecretKey } from '../secret-bytes.ts';

export interface DataKey {
  readonly id: string;
  readonly projectId: string;
  readonly version: number;
  readonly key: SecretKey;
}

/**
 * Unwrapped data keys, bounded in number (the least recently used goes first) and in time. Dropping one drops the last
 * reference to its `KeyObject`, whose memory Node clears when it frees it (SECURITY.md says how far that goes).
 */
export class KeyCache {
  readonly #entries = new Map<string, { readonly key: DataKey; readonly until: number }>();
  readonly #size: number;
  readonly #lifetimeMs: number;
  readonly #now: () => Date;

  constructor(size: number, lifetimeMs: number, now: () => Date) {
    this.#size = size;
    this.#lifetimeMs = lifetimeMs;
    this.#now = now;
  }

  get(keyId: string): DataKey | undefined {
    const entry = this.#entries.get(keyId);
    if (entry === undefined) return undefined;
    this.#entries.delete(keyId);
    if (entry.until <= this.#now().getTime()) return undefined;
    this.#entries.set(keyId, entry);
    return entry.key;
  }

  set(key: DataKey): void {
    this.#entries.delete(key.id);
    this.#entries.set(key.id, { key, until: this.#now().getTime() + this.#lifetimeMs });
    if (this.#entries.size <= this.#size) return;
    const oldest = this.#entries.keys().next();
    if (oldest.done !== true) this.#entries.delete(oldest.value);
  }

  /** Lets go of what has outlived its time without being asked for. */
  evictExpired(): void {
    const now = this.#now().getTime();
    for (const [keyId, { until }] of this.#entries) if (until <= now) this.#entries.delete(keyId);
  }

  delete(keyId: string): void {
    this.#entries.delete(keyId);
  }

  clear(): void {
    this.#entries.clear();
  }
}
