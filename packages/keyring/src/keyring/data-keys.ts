import { randomUUID } from 'node:crypto';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { dataKeyAad } from '../envelope/aad.ts';
import { open, seal } from '../envelope/seal.ts';
import { decryptionFailed, KeyringError } from '../errors.ts';
import {
  equalBytes,
  generateKey,
  insecureExportKey,
  keyFingerprint,
  keyFromBytes,
  wipe,
  type SecretKey,
} from '../secret-bytes.ts';
import { KeyCache, type DataKey } from './key-cache.ts';
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
}

const pastVersion: ReadonlySet<string> = new Set(['key_destroyed', 'key_disabled', 'unknown_key']);

/** The data keys of projects: made, unwrapped, cached. Keys are reached by id, never by trying. */
export class DataKeys {
  readonly #database: Database;
  readonly #wrappingKeys: WrappingKeys;
  readonly #audit: AuditTrail;
  readonly #cache: KeyCache;
  readonly #primaries = new Map<string, string>();
  readonly #evictions: NodeJS.Timeout;
  /** Every encryption under a data key is accounted for here first. */
  readonly usage: UsageMeter;

  constructor(database: Database, wrappingKeys: WrappingKeys, audit: AuditTrail, options: DataKeysOptions) {
    this.#database = database;
    this.#wrappingKeys = wrappingKeys;
    this.#audit = audit;
    this.usage = new UsageMeter(database);
    this.#cache = new KeyCache(options.keyCacheSize, options.keyCacheMs, options.now);
    this.#evictions = setInterval(
      () => {
        this.#cache.evictExpired();
      },
      Math.max(1_000, options.keyCacheMs),
    );
    this.#evictions.unref();
  }

  /** What `get` would give, when it is at hand. */
  cached(projectId: string, keyId: string): DataKey | undefined {
    const key = this.#cache.get(keyId);
    return key?.projectId === projectId ? key : undefined;
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

  /** Forgets everything, and stops looking for what has expired. */
  close(): void {
    clearInterval(this.#evictions);
    this.clear();
  }

  /** Forgets everything that is unwrapped. */
  clear(): void {
    this.#cache.clear();
    this.#primaries.clear();
  }

  /** Makes and wraps a new key, without storing it. */
  create(projectId: string, version: number): NewEncryptionKey {
    const id = randomUUID();
    const key = generateKey();
    const wrapping = this.#wrappingKeys.primary;
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

  /** Stores a new version and says so in the trail, in the caller's transaction. */
  insert(tx: Queryable, key: NewEncryptionKey): Promise<void> {
    return this.insertAll(tx, [key]);
  }

  async insertAll(tx: Queryable, keys: readonly NewEncryptionKey[]): Promise<void> {
    await insertEncryptionKeys(tx, keys);
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

  /** `get` for many, by one statement for those that are not at hand. Those that cannot be had are left out. */
  async load(keys: readonly KeyReference[]): Promise<Map<string, DataKey>> {
    const loaded = new Map<string, DataKey>();
    const missing = keys.filter(({ projectId, keyId }) => {
      const cached = this.cached(projectId, keyId);
      if (cached !== undefined) loaded.set(keyId, cached);
      return cached === undefined;
    });
    if (missing.length === 0) return loaded;
    for (const row of await selectEncryptionKeys(this.#database, missing)) {
      isGood(() => {
        const key = this.#toDataKey(row);
        this.#cache.set(key);
        loaded.set(key.id, key);
      });
    }
    return loaded;
  }

  async #load(projectId: string, keyId: string): Promise<DataKey> {
    const row = await selectEncryptionKey(this.#database, projectId, keyId);
    if (row === undefined) throw new KeyringError('unknown_key', `The project has no key version ${keyId}.`);
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
      throw new KeyringError('key_disabled', `Key version ${String(row.version)} (${row.id}) is suspended.`, about);
    }
    const wrapping = this.#wrappingKeys.get(row.wrapping_key_id);
    const aad = dataKeyAad({
      projectId: row.project_id,
      version: row.version,
      keyId: row.id,
      wrappingKeyId: wrapping.id,
    });
    const key = keyFromBytes(open(wrapping.key, wrapping.id, row.wrapped_key, aad));
    if (!equalBytes(keyFingerprint(key, row.id), row.fingerprint)) throw decryptionFailed();
    return key;
  }

  /** Version 1: committed, read back and tried before the keyring row points at it. Two first puts make one. */
  async #createKeyring(projectId: string): Promise<string> {
    let first = await selectLatestVersion(this.#database, projectId);
    if (first?.usable !== true) {
      const key = this.create(projectId, (first?.version ?? 0) + 1);
      try {
        await transaction(this.#database, (tx) => this.insert(tx, key));
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

  #remember(projectId: string, keyId: string): void {
    // A pointer is small, and a wrong one harmless: a plain bound is enough.
    if (this.#primaries.size >= 100_000) this.#primaries.clear();
    this.#primaries.set(projectId, keyId);
  }
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
