import { randomUUID } from 'node:crypto';
import {
  openKeyring,
  pgDatabase,
  type Database,
  type Keyring,
  type KeyringOptions,
  type RootKeyProvider,
} from '@meshhook/keyring';
import type pg from 'pg';
import { createTestDatabase, session, type TestDatabase } from '../../../../../test/support/database.ts';
import { auditTrail } from '../../../src/audit/audit.ts';
import { secretAad } from '../../../src/envelope/aad.ts';
import { open, seal } from '../../../src/envelope/seal.ts';
import { DataKeys } from '../../../src/keyring/data-keys.ts';
import type { DataKey } from '../../../src/keyring/key-cache.ts';
import { openWrappingKeys } from '../../../src/keyring/open-wrapping-keys.ts';
import { rootKeysOf } from '../../../src/keyring/root-keys.ts';
import { generateKey, rootFingerprint } from '../../../src/secret-bytes.ts';

export type Row = Record<string, unknown>;

/** What a test may choose of a keyring, and what stands between it and PostgreSQL. */
export type OpenOptions = Partial<Omit<KeyringOptions, 'database'>> & {
  readonly wrap?: (database: Database) => Database;
};

/** A value of one row, sealed as the library would have sealed it. */
export interface Sealed {
  readonly keyId: string;
  readonly envelope: Buffer;
}

/** A migrated database of its own, its root key, and ways into it that the library does not have. */
export interface Installation {
  readonly test: TestDatabase;
  readonly rootKey: RootKeyProvider;
  /** A superuser's connection. */
  readonly admin: pg.Client;
  /** One statement as superuser. */
  sql<R extends Row = Row>(text: string, values?: unknown[]): Promise<R[]>;
  /** One statement as superuser with triggers off, as a restore or an intruder would. */
  behindTheFence(text: string, values?: unknown[]): Promise<void>;
  /** Statements as the owner of MeshHook's tables. */
  asOwner(...statements: string[]): Promise<void>;
  /**
   * Opens a keyring as the service: with caches of its own, as another process has, over connections that all keyrings of
   * the installation share, because opening one costs more than most tests.
   */
  open(options?: OpenOptions): Promise<Keyring>;
  /** Seals under the project's primary version, or one that is named, for a column the library does not write itself. */
  seal(place: Place, value: string, keyId?: string): Promise<Sealed>;
  /** The same for many rows, by row id, under the primary version. */
  sealAll(column: Omit<Place, 'rowId'>, values: ReadonlyMap<string, string>): Promise<Map<string, Sealed>>;
  /** Stores so many versions of a project from this one on, made as the library makes them. */
  staged(projectId: string, from: number, count: number): Promise<void>;
  /** Opens what is stored, with keys read anew. */
  unseal(place: Place, sealed: Sealed): Promise<string>;
  /** Closes the connections, and keeps the database. */
  release(): Promise<void>;
  /** Closes the connections, and drops the database. @throws Error when a connection or a lock is left. */
  end(): Promise<void>;
}

export interface Place {
  readonly projectId: string;
  readonly label: string;
  readonly rowId: string;
}

/** A provider that keeps its root key in memory, and counts what it is asked. */
export function memoryRootKey(): RootKeyProvider & { asked: number } {
  const key = generateKey();
  const id = randomUUID();
  const fingerprint = rootFingerprint(key);
  return {
    uri: 'memory:test',
    asked: 0,
    async wrap(bytes, context) {
      this.asked += 1;
      return { wrapped: seal(key, id, bytes, context), fingerprint };
    },
    async unwrap(wrapped, context) {
      this.asked += 1;
      return open(key, id, wrapped, context);
    },
    async status() {
      return { healthy: true, fingerprint };
    },
  };
}

export interface InstallationOptions {
  /** Default: a database of its own in the cluster of the run. */
  readonly test?: TestDatabase;
  /** Default: one that is kept in memory. */
  readonly rootKey?: RootKeyProvider;
}

export async function startInstallation(options: InstallationOptions = {}): Promise<Installation> {
  const test = options.test ?? (await createTestDatabase());
  const rootKey = options.rootKey ?? memoryRootKey();
  const admin = await session(test.adminUrl, 'test admin');
  const pool = pgDatabase({ connectionString: test.serviceUrl, maxConnections: 32 });
  const shared: Database = { ...pool, close: async () => undefined };
  const audit = auditTrail('test');
  let before: Promise<unknown> = Promise.resolve();
  // One at a time on the one connection, however many ask at once.
  const next = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = before.then(work);
    before = turn.catch(() => undefined);
    return turn;
  };
  let keys: Promise<DataKeys> | undefined;
  // No cache: every key is read, and unwrapped, anew.
  const freshKeys = (): Promise<DataKeys> =>
    (keys ??= openWrappingKeys(shared, rootKeysOf(rootKey), audit).then(
      (wrapping) => new DataKeys(shared, wrapping, audit, { keyCacheSize: 1, keyCacheMs: 0, now: () => new Date() }),
    ));

  const sealUnder = (key: DataKey, place: Place, value: string): Sealed => ({
    keyId: key.id,
    envelope: seal(key.key, key.id, Buffer.from(value), secretAad({ ...place, keyId: key.id })),
  });

  return {
    test,
    rootKey,
    admin,
    sql: <R extends Row>(text: string, values: unknown[] = []) =>
      next(async () => (await admin.query<R>(text, values)).rows),
    behindTheFence: (text, values = []) =>
      next(async () => {
        await admin.query('begin');
        try {
          await admin.query('set local session_replication_role = replica');
          await admin.query(text, values);
          await admin.query('commit');
        } catch (error) {
          await admin.query('rollback');
          throw error;
        }
      }),
    async asOwner(...statements) {
      await using owner = await session(test.ownerUrl, 'test owner');
      for (const statement of statements) await owner.query(statement);
    },
    open: ({ wrap = (database: Database) => database, ...options } = {}) =>
      // No heartbeats: which statements are sent when is up to the test.
      openKeyring({ database: wrap(shared), rootKey, heartbeatMs: 3_600_000, ...options }),
    async seal(place, value, keyId) {
      const keys = await freshKeys();
      keys.forgetPrimary(place.projectId);
      const key = keyId === undefined ? await keys.primary(place.projectId) : await keys.get(place.projectId, keyId);
      return sealUnder(key, place, value);
    },
    async sealAll(column, values) {
      const keys = await freshKeys();
      keys.forgetPrimary(column.projectId);
      const key = await keys.primary(column.projectId);
      return new Map([...values].map(([rowId, value]) => [rowId, sealUnder(key, { ...column, rowId }, value)]));
    },
    async staged(projectId, from, count) {
      const keys = await freshKeys();
      const store = async (): Promise<void> => {
        const made = Array.from({ length: count }, (_, index) => keys.create(projectId, from + index));
        await keys.insertAll(shared, await Promise.all(made));
      };
      // It has been open for long: the wrapping key may have been rotated since, which the first refusal tells.
      await store().catch(store);
    },
    async unseal(place, { keyId, envelope }) {
      const keys = await freshKeys();
      const { key } = await keys.get(place.projectId, keyId);
      return open(key, keyId, envelope, secretAad({ ...place, keyId })).toString('utf8');
    },
    release: async () => {
      await pool.close();
      await admin.end();
    },
    async end() {
      await pool.close();
      await admin.end();
      await test.drop();
    },
  };
}
