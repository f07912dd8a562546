import type { Database } from '../db/port.ts';
import { wrappingKeyAad } from '../envelope/aad.ts';
import { KeyringError } from '../errors.ts';
import { equalBytes, keyFingerprint, keyFromBytes, type SecretKey } from '../secret-bytes.ts';
import type { RootKeys } from './root-keys.ts';
import { altered, destroyed, notLoaded, unknown, wrongRootKey } from './wrapping-refusal.ts';
import { selectRootKeys, selectWrappingKeys, type WrappedCopy, type WrappingKeyRow } from './wrapping-store.ts';

export interface WrappingKey {
  readonly id: string;
  readonly version: number;
  readonly key: SecretKey;
}

/** What another process may find in the list of instances. */
export interface Holding {
  /** Ids of the wrapping keys that are unwrapped here. */
  readonly wrappingKeys: readonly string[];
  /** Fingerprints of root keys that work here. */
  readonly usableRoots: readonly string[];
  readonly troubles: readonly string[];
}

/** What the database says of it, as a heartbeat asks. */
export interface Wanted {
  readonly primaryId: string | undefined;
  /** Wrapping keys that every process should hold. */
  readonly wrappingKeys: readonly string[];
  /** Of those that it holds: wrapping keys that nobody should. */
  readonly destroyed: readonly string[];
  /** Fingerprints of root keys that something is wrapped by. */
  readonly roots: readonly string[];
}

// Whoever asks for a wrapping key that could not be had is told the same for so long, without a look into the database.
const MISSING_FOR_MS = 1_000;

/**
 * The wrapping keys of an installation, unwrapped once and held: a root key's provider is asked again only for a wrapping key
 * that is new here. One load at a time, whoever asks.
 */
export class WrappingKeys {
  readonly roots: RootKeys;
  readonly #database: Database;
  readonly #keys = new Map<string, WrappingKey>();
  readonly #missing = new Map<string, { readonly error: KeyringError; readonly until: number }>();
  #primaryId: string | undefined;
  /** How often it was found outdated, and up to which of these the list was read since. */
  #outdated = 1;
  #readUpTo = 0;
  #flight: Promise<void> | undefined;
  #closed = false;

  constructor(database: Database, roots: RootKeys) {
    this.#database = database;
    this.roots = roots;
  }

  /** Is there none in the database, as last seen? */
  get none(): boolean {
    return this.#primaryId === undefined;
  }

  /**
   * The one that wraps new keys, as last seen: a stale answer costs a refused statement, never a key under the wrong one.
   * @throws KeyringError as `ensure` and `get` do.
   */
  async current(): Promise<WrappingKey> {
    await this.#untilFresh();
    const id = this.#primaryId ?? '';
    await this.ensure([id]);
    return this.get(id);
  }

  /** Says that the database takes no keys any more under what `current` gave. */
  outdated(): void {
    this.#outdated += 1;
  }

  /**
   * A wrapping key that is held.
   * @throws KeyringError saying why it is not: `key_destroyed`, `decryption_failed`, or as `ensure` does.
   */
  get(id: string): WrappingKey {
    const key = this.#keys.get(id);
    if (key !== undefined) return key;
    throw this.#missing.get(id)?.error ?? notLoaded(id);
  }

  /** Holds one that was unwrapped by `unwrap`. */
  hold(key: WrappingKey): void {
    // A load may end after everything was let go of.
    if (this.#closed) return;
    this.#keys.set(key.id, key);
    this.#missing.delete(key.id);
  }

  has(id: string): boolean {
    return this.#keys.has(id);
  }

  /**
   * Loads what is not held of these. One that is lost is the business of `get`; one that this process cannot have now is told here,
   * before whoever tries many takes them all for lost.
   * @throws KeyringError `root_key_*` of the provider; `wrong_root_key` when no root key of this process opens it.
   */
  async ensure(ids: Iterable<string>): Promise<void> {
    const wanted = [...new Set(ids)].filter((id) => !this.#keys.has(id));
    for (;;) {
      const toLoad = wanted.filter((id) => !this.#keys.has(id) && !this.#isMissing(id));
      if (toLoad.length === 0) break;
      await this.#fly(toLoad);
    }
    for (const id of wanted) {
      const error = this.#missing.get(id)?.error;
      if (error !== undefined && isOfProcess(error)) throw error;
    }
  }

  /** Lets go of every key: what this holds is not held by whoever holds this. */
  close(): void {
    this.#closed = true;
    this.#keys.clear();
  }

  /** Reads the list anew, and loads what every process should hold. */
  async reload(): Promise<void> {
    // Before the load, and not in it: who can do without a root key that is slow to open does not wait for it.
    await this.roots.open();
    // One that is under way may have read before what the caller knows of.
    await this.#flight?.catch(() => undefined);
    await this.#fly([]);
  }

  /**
   * Tries the root keys that nothing was unwrapped through yet, each on a wrapping key: which of them work where is what others wait
   * to hear before one of them goes. Apart from loading, which a slow provider of another root key must not hold up.
   */
  async proveRoots(): Promise<void> {
    const toProve = this.roots.atHand.filter((root) => !this.roots.isProven(root));
    if (toProve.length === 0) return;
    const rows = await selectWrappingKeys(
      this.#database,
      toProve.map(({ fingerprint }) => fingerprint),
    );
    for (const root of toProve) {
      for (const row of rows) {
        const copy = row.copies.find(({ rootFingerprint }) => rootFingerprint === root.fingerprint);
        if (copy === undefined || row.state === 'destroyed') continue;
        // What is wrong with it is among the troubles.
        await this.unwrap(row, copy).catch(() => undefined);
        break;
      }
    }
  }

  /** Is there anything to load, or to try, that the time has come for? */
  isBehind(wanted: Wanted): boolean {
    if (wanted.primaryId !== this.#primaryId) return true;
    if (wanted.destroyed.some((id) => this.#keys.has(id))) return true;
    if (wanted.wrappingKeys.some((id) => !this.#keys.has(id) && !this.#isMissing(id))) return true;
    const toProve = this.roots.atHand.some(
      (root) => wanted.roots.includes(root.fingerprint) && !this.roots.isProven(root),
    );
    return toProve || this.roots.anyToTry;
  }

  holding(): Holding {
    return {
      wrappingKeys: [...this.#keys.keys()],
      usableRoots: this.roots.usable,
      troubles: this.roots.troubles.map(({ name, error }) => `${name}: ${error.code}`),
    };
  }

  /**
   * Unwraps a copy through the root key that wrapped it, and compares the key check value.
   * @throws KeyringError of the provider; `decryption_failed` when it is not the key it was.
   */
  async unwrap(row: WrappingKeyRow, { rootFingerprint, wrapped }: WrappedCopy): Promise<WrappingKey> {
    const root = this.roots.opened.find(({ fingerprint }) => fingerprint === rootFingerprint);
    if (root === undefined) throw notLoaded(row.id);
    const place = { version: row.version, wrappingKeyId: row.id };
    const bytes = await root.provider.unwrap(wrapped, wrappingKeyAad(place)).catch((error: unknown) => {
      // A provider that cannot be used is left alone for a while; one that refuses these bytes may be good for others.
      const refused = error instanceof KeyringError && error.code === 'decryption_failed';
      throw refused ? altered(row, root, error) : this.roots.failed(root, error);
    });
    this.roots.proved(root);
    const key = keyFromBytes(bytes);
    if (!equalBytes(keyFingerprint(key, row.id), row.fingerprint)) throw altered(row, root);
    return { id: row.id, version: row.version, key };
  }

  #isMissing(id: string): boolean {
    return (this.#missing.get(id)?.until ?? 0) > performance.now();
  }

  async #untilFresh(): Promise<void> {
    while (this.#readUpTo < this.#outdated) await this.#fly([]);
  }

  /** Takes part in a load that has these in it: the next one, when one is under way already. */
  async #fly(ids: readonly string[]): Promise<void> {
    if (this.#flight !== undefined) {
      // Whoever asked for that one is told how it went.
      await this.#flight.catch(() => undefined);
      return;
    }
    this.#flight = this.#load(new Set(ids)).finally(() => {
      this.#flight = undefined;
    });
    await this.#flight;
  }

  async #load(asked: ReadonlySet<string>): Promise<void> {
    const complete = await this.#loadBy(asked);
    // What is lacking may be under one that could not be opened before.
    if (complete || !this.roots.anyToOpen) return;
    await this.roots.open();
    await this.#loadBy(asked);
  }

  /** By the root keys that are open. Gives whether everything that was wanted is held. */
  async #loadBy(asked: ReadonlySet<string>): Promise<boolean> {
    // Whatever is refused from now on may be newer than what is read here.
    const upTo = this.#outdated;
    const rows = await selectWrappingKeys(
      this.#database,
      this.roots.opened.map(({ fingerprint }) => fingerprint),
    );
    this.#primaryId = rows.find((row) => row.isPrimary)?.id;
    this.#readUpTo = upTo;
    const wanted = rows.filter((row) => row.isPrimary || row.state === 'enabled' || asked.has(row.id));
    for (const row of rows) if (row.state === 'destroyed') this.#keys.delete(row.id);
    for (const row of wanted) if (!this.#keys.has(row.id)) await this.#take(row);
    for (const id of asked) {
      if (!rows.some((row) => row.id === id)) this.#lacks(id, unknown(id));
    }
    return wanted.every((row) => this.#keys.has(row.id));
  }

  /** Through the first root key that does it. */
  async #take(row: WrappingKeyRow): Promise<void> {
    let trouble: KeyringError | undefined;
    for (const copy of row.copies) {
      const root = this.roots.atHand.find(({ fingerprint }) => fingerprint === copy.rootFingerprint);
      if (root === undefined) continue;
      try {
        this.hold(await this.unwrap(row, copy));
        return;
      } catch (error) {
        if (!(error instanceof KeyringError)) throw error;
        trouble ??= error;
      }
    }
    this.#lacks(row.id, trouble ?? (await this.#whyNot(row)));
  }

  /** Of a wrapping key that no root key was asked for. */
  async #whyNot(row: WrappingKeyRow): Promise<KeyringError> {
    if (row.state === 'destroyed') return destroyed(row);
    // It is wrapped by one of ours that failed a moment ago.
    const { opened, troubles } = this.roots;
    const [trouble] = troubles.filter(
      ({ fingerprint }) => fingerprint === undefined || row.copies.some((copy) => copy.rootFingerprint === fingerprint),
    );
    if (trouble !== undefined && (row.copies.length > 0 || opened.length === 0)) return trouble.error;
    return wrongRootKey(opened, troubles, await selectRootKeys(this.#database));
  }

  #lacks(id: string, error: KeyringError): void {
    this.#missing.set(id, { error, until: performance.now() + MISSING_FOR_MS });
  }
}

// The key is all right, and another process may well have it.
function isOfProcess({ code }: KeyringError): boolean {
  return code === 'wrong_root_key' || code.startsWith('root_key_');
}
