import { randomUUID } from 'node:crypto';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { dataKeyAad } from '../envelope/aad.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import { equalBytes, generateKey, insecureExportKey, keyFingerprint, wipe, type SecretKey } from '../secret-bytes.ts';
import { Tally } from '../tally.ts';
import { KeyCache, type DataKey } from './key-cache.ts';
import { KeyUses } from './key-uses.ts';
import { unwrapDataKey } from './unwrap-data-key.ts';
import { UsageMeter } from './usage.ts';
import {
  insertEncryptionKeys,
  insertKeyring,
  selectEncryptionKey,
  selectEncryptionKeys,
  selectLatestVersion,
  selectPrimary,
  type EncryptionKeyRow,
  type KeyReference,
  type NewEncryptionKey,
} from './store.ts';
import type { WrappingKeys } from './wrapping-keys.ts';

export interface DataKeysOptions {
  readonly keyCacheSize: number;
  readonly keyCacheMs: number;
  readonly now: () => Date;
  /** Where it counts what monitoring shows. Default: nowhere. */
  readonly tally?: Tally;
}

// Each costs a rotation of the wrapping key between a look at it and the commit that follows.
const WRAPPING_ATTEMPTS = 3;

const pastVersion: ReadonlySet<string> = new Set(['key_destroyed', 'key_disabled', 'unknown_key']);

/** The data keys of projects: made, unwrapped, cached. Keys are reached by id, never by trying. */
export class DataKeys {
  readonly #database: Database;
  readonly #wrappingKeys: WrappingKeys;
  readonly #audit: AuditTrail;
  readonly #cache: KeyCache;
  readonly #primaries: Map<string, string>;
  readonly #evictions: NodeJS.Timeout | undefined;
  /** Every encryption under a data key is accounted for here first. */
  readonly usage: UsageMeter;
  /** Every use of a data key for somebody is noted here. */
  readonly uses: KeyUses;
  readonly tally: Tally;

  /** With others instead of options: the same keys, in the name of somebody else. */
  constructor(database: Database, wrappingKeys: WrappingKeys, audit: AuditTrail, options: DataKeysOptions | DataKeys) {
    this.#database = database;
    this.#wrappingKeys = wrappingKeys;
    this.#audit = audit;
    if (options instanceof DataKeys) {
      this.usage = options.usage;
      this.uses = options.uses;
      this.tally = options.tally;
      this.#cache = options.#cache;
      this.#primaries = options.#primaries;
      return;
    }
    this.usage = new UsageMeter(database);
    this.uses = new KeyUses(database);
    this.tally = options.tally ?? new Tally();
    this.#cache = new KeyCache(options.keyCacheSize, options.keyCacheMs, options.now);
    this.#primaries = new Map();
    this.#evictions = setInterval(
      () => {
        this.#cache.evictExpired();
      },
      Math.max(1_000, options.keyCacheMs),
    );
    this.#evictions.unref();
  }

  /** The same keys and memory, whose entries go to another trail. */
  as(audit: AuditTrail): DataKeys {
    return new DataKeys(this.#database, this.#wrappingKeys, audit, this);
  }

  /** What `get` would give, when it is at hand. */
  cached(projectId: string, keyId: string): DataKey | undefined {
    const key = this.#cache.get(keyId);
    if (key?.projectId !== projectId) return undefined;
    this.tally.cacheHits += 1;
    return key;
  }

  /**
   * The key of this id, if it is this project's.
   * @throws KeyringError `unknown_key`, `key_destroyed`, `key_disabled`, `decryption_failed` when it does not unwrap.
   */
  async get(projectId: string, keyId: string): Promise<DataKey> {
    const cached = this.cached(projectId, keyId);
    if (cached !== undefined) return cached;
    const key = await this.#load(projectId, keyId);
    this.#cache.set(key);
    return key;
  }

  /**
   * The primary version as last seen; a stale answer costs a refused write, never a wrong one. Makes version 1 of a project
   * that has no key yet.
   * @throws KeyringError `unknown_project`.
   */
  async primary(projectId: string): Promise<DataKey> {
    const remembered = this.#primaries.get(projectId);
    if (remembered !== undefined) {
      try {
        return await this.get(projectId, remembered);
      } catch (error) {
        // Long no longer primary, and destroyed since: not what the caller asked about.
        if (!(error instanceof KeyringError) || !pastVersion.has(error.code)) throw error;
      }
    }
    const keyId = (await selectPrimary(this.#database, projectId)) ?? (await this.#createKeyring(projectId));
    this.#remember(projectId, keyId);
    return this.get(projectId, keyId);
  }

  /** Forgets which version is primary, as after the fence refused one. */
  forgetPrimary(projectId: string): void {
    this.#primaries.delete(projectId);
  }

  /** Forgets these keys. */
  forget(keyIds: readonly string[]): void {
    for (const keyId of keyIds) this.#cache.delete(keyId);
  }

  /** Forgets everything, stops looking for what has expired, and writes which versions were used. */
  async close(): Promise<void> {
    clearInterval(this.#evictions);
    this.clear();
    await this.uses.close();
  }

  /** Forgets everything that is unwrapped. */
  clear(): void {
    this.#cache.clear();
    this.#primaries.clear();
  }

  /** Makes and wraps a new key, without storing it. @throws KeyringError when the wrapping key is not to be had. */
  async create(projectId: string, version: number): Promise<NewEncryptionKey> {
    const wrapping = await this.#wrappingKeys.current();
    const id = randomUUID();
    const key = generateKey();
    const bytes = insecureExportKey(key);
    try {
      const aad = dataKeyAad({ projectId, version, keyId: id, wrappingKeyId: wrapping.id });
      return {
        id,
        projectId,
        version,
        wrappedKey: seal(wrapping.key, wrapping.id, bytes, aad),
        wrappingKeyId: wrapping.id,
        fingerprint: keyFingerprint(key, id),
      };
    } finally {
      wipe(bytes);
    }
  }

  /**
   * Stores a new version and says so in the trail, in the caller's transaction. Refused (SQLSTATE MK009) when the wrapping key has
   * changed since it was made: then whoever makes it anew gets the one of now.
   */
  insert(tx: Queryable, key: NewEncryptionKey): Promise<void> {
    return this.insertAll(tx, [key]);
  }

  async insertAll(tx: Queryable, keys: readonly NewEncryptionKey[]): Promise<void> {
    await insertEncryptionKeys(tx, keys).catch((error: unknown) => {
      if (sqlState(error) === sqlStates.staleWrapping) this.#wrappingKeys.outdated();
      throw error;
    });
    await this.#audit.recordAll(
      tx,
      keys.map((key) => ({
        action: 'key.created',
        projectId: key.projectId,
        subject: `key:${key.id}`,
        details: { version: key.version },
      })),
    );
  }

  /**
   * Reads a committed version back, unwraps it and tries it: what has to succeed before anything is encrypted with it.
   * @throws KeyringError as `get` does.
   */
  async selfTest(projectId: string, keyId: string): Promise<void> {
    this.#cache.delete(keyId);
    tryOut(await this.get(projectId, keyId));
  }

  /** `selfTest` of many by one statement: gives the ids of those that are good. */
  async selfTestAll(keys: readonly KeyReference[]): Promise<Set<string>> {
    for (const { keyId } of keys) this.#cache.delete(keyId);
    const loaded = await this.load(keys);
    const good = new Set<string>();
    for (const [keyId, key] of loaded)
      if (
        isGood(() => {
          tryOut(key);
        })
      )
        good.add(keyId);
    return good;
  }

  /**
   * `get` for many, by one statement for those that are not at hand. Those that cannot be had are left out.
   * @throws KeyringError `root_key_*`, `wrong_root_key` when it is this process that cannot have the wrapping key they are under.
   */
  async load(keys: readonly KeyReference[]): Promise<Map<string, DataKey>> {
    const loaded = new Map<string, DataKey>();
    const missing = keys.filter(({ projectId, keyId }) => {
      const cached = this.cached(projectId, keyId);
      if (cached !== undefined) loaded.set(keyId, cached);
      return cached === undefined;
    });
    if (missing.length === 0) return loaded;
    this.tally.cacheMisses += missing.length;
    const rows = await selectEncryptionKeys(this.#database, missing);
    await this.#wrappingKeys.ensure(usable(rows).map((row) => row.wrapping_key_id));
    for (const row of rows) {
      isGood(() => {
        const key = this.#toDataKey(row);
        this.#cache.set(key);
        loaded.set(key.id, key);
      });
    }
    return loaded;
  }

  async #load(projectId: string, keyId: string): Promise<DataKey> {
    this.tally.cacheMisses += 1;
    const row = await selectEncryptionKey(this.#database, projectId, keyId);
    if (row === undefined) throw new KeyringError('unknown_key', `The project has no key version ${keyId}.`);
    await this.#wrappingKeys.ensure(usable([row]).map((one) => one.wrapping_key_id));
    return this.#toDataKey(row);
  }

  #toDataKey(row: EncryptionKeyRow): DataKey {
    return { id: row.id, projectId: row.project_id, version: row.version, key: this.#unwrap(row) };
  }

  #unwrap(row: EncryptionKeyRow): SecretKey {
    const about = { details: { keyId: row.id, version: row.version, projectId: row.project_id } };
    if (row.wrapped_key === null) {
      throw new KeyringError('key_destroyed', `Key version ${String(row.version)} (${row.id}) was destroyed.`, {
        ...about,
        remedy: 'What is under it cannot be opened any more. Set the secret again.',
      });
    }
    if (row.state === 'disabled') {
      throw new KeyringError('key_disabled', `Key version ${String(row.version)} (${row.id}) is suspended.`, {
        ...about,
        remedy: `Bring it back with \`mh-keys keys restore ${row.id} --reason …\`.`,
      });
    }
    return unwrapDataKey(row, row.wrapped_key, this.#wrappingKeys.get(row.wrapping_key_id));
  }

  /** Version 1: committed, read back and tried before the keyring row points at it. Two first puts make one. */
  async #createKeyring(projectId: string): Promise<string> {
    let first = await selectLatestVersion(this.#database, projectId);
    if (first?.usable !== true) {
      const version = (first?.version ?? 0) + 1;
      try {
        await this.#insertNew(projectId, version);
      } catch (error) {
        if (sqlState(error) === sqlStates.foreignKeyViolation) {
          throw new KeyringError('unknown_project', `There is no project ${projectId}.`, {
            remedy: 'Run `mh-keys project list`.',
          });
        }
        // Another process made version 1 at the same moment: that is the one.
        if (sqlState(error) !== sqlStates.uniqueViolation) throw error;
      }
      first = await selectLatestVersion(this.#database, projectId);
      if (first === undefined) throw new KeyringError('unknown_project', `There is no project ${projectId} any more.`);
    }
    const { id } = first;
    await this.selfTest(projectId, id);
    await transaction(this.#database, async (tx) => {
      if (!(await insertKeyring(tx, projectId, id))) return;
      await this.#audit.record(tx, {
        action: 'key.promoted',
        projectId,
        subject: `key:${id}`,
        details: { version: first.version, first: true },
      });
    });
    return (await selectPrimary(this.#database, projectId)) ?? id;
  }

  async #insertNew(projectId: string, version: number): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const key = await this.create(projectId, version);
      try {
        await transaction(this.#database, (tx) => this.insert(tx, key));
        return;
      } catch (error) {
        // The wrapping key was rotated since this process last looked, or a rotation of it is being turned back.
        if (sqlState(error) !== sqlStates.staleWrapping || attempt === WRAPPING_ATTEMPTS) throw error;
      }
    }
  }

  #remember(projectId: string, keyId: string): void {
    // A pointer is small, and a wrong one harmless: a plain bound is enough.
    if (this.#primaries.size >= 100_000) this.#primaries.clear();
    this.#primaries.set(projectId, keyId);
  }
}

/** What there is something to unwrap of. */
function usable(rows: readonly EncryptionKeyRow[]): EncryptionKeyRow[] {
  return rows.filter(({ state, wrapped_key }) => wrapped_key !== null && state !== 'disabled');
}

/** Encrypts and opens a probe. @throws KeyringError `decryption_failed`. */
function tryOut({ id, key, version }: DataKey): void {
  const probe = Buffer.from(`self-test of version ${String(version)}`);
  const context = Buffer.from('meshhook-keyring/v1 self-test');
  if (!equalBytes(open(key, id, seal(key, id, probe, context), context), probe)) throw decryptionFailed();
}

/** False when a key is not to be had; whoever asks for it alone is told why. */
function isGood(use: () => void): boolean {
  try {
    use();
    return true;
  } catch (error) {
    if (error instanceof KeyringError) return false;
    throw error;
  }
}
