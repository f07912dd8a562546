import { randomUUID } from 'node:crypto';
import { auditTrail } from '../../../src/audit/audit.ts';
import { pgDatabase } from '../../../src/db/pg-database.ts';
import type { Connection, Database } from '../../../src/db/port.ts';
import { secretAad } from '../../../src/envelope/aad.ts';
import { open, seal } from '../../../src/envelope/seal.ts';
import { selectEncryptedColumns, type EncryptedColumn } from '../../../src/keyring/columns.ts';
import { DataKeys } from '../../../src/keyring/data-keys.ts';
import type { DataKey } from '../../../src/keyring/key-cache.ts';
import { openWrappingKeys } from '../../../src/keyring/open-wrapping-keys.ts';
import { rootKeysOf } from '../../../src/keyring/root-keys.ts';
import { SECRETS_LABEL } from '../../../src/secrets/store.ts';
import { createTestDatabase, type TestDatabase } from '../../../../../test/support/database.ts';
import { connect, type Session } from '../../database/support.ts';
import { memoryRootKey } from '../../engine/support/installation.ts';
import type { Backend } from './scheduler.ts';

/** How a project stands before anybody acts. Versions count from 1. */
export interface StartingPoint {
  readonly versions: number;
  readonly primary: number;
  /** Secrets by name: the version each is under. */
  readonly secrets: Readonly<Record<string, number>>;
  readonly rotation: { readonly state: string; readonly source: number; readonly target: number };
  /** Versions whose retention is over. */
  readonly retired?: readonly number[];
}

/** A project in one database, with real keys and real ciphertext, that can be put back to how it stood. */
export interface ScheduledProject {
  readonly projectId: string;
  readonly rotationId: string;
  readonly rotationState: string;
  readonly column: EncryptedColumn;
  /** A version's key id. */
  key(version: number): string;
  /** The number of a version, for reports. */
  version(keyId: string): number | undefined;
  /** A secret's row id; one that is not there yet gets one. */
  row(name: string): string;
  seal(version: number, rowId: string, value: string): Buffer;
  /** @throws KeyringError when it does not open under the key it names. */
  open(rowId: string, keyId: string, envelope: Buffer): string;
  /** Each secret's value at the beginning. */
  readonly values: ReadonlyMap<string, string>;
  reset(): Promise<void>;
}

// Everything that the actors change.
const tables = [
  'public.secrets',
  'keyring.encryption_keys',
  'keyring.keyrings',
  'keyring.rotations',
  'keyring.rotation_projects',
];
const leftBehind = ['keyring.audit_log', 'keyring.restore_doors'];

// What schedules leave behind is looked through by the next ones.
const RESETS_PER_VACUUM = 100;

/** A database with the connections of those who act in it, and of those who watch. */
export class LaneDatabase {
  readonly test: TestDatabase;
  readonly observer: Session;
  /** With triggers off. */
  readonly #resetter: Session;
  readonly #database: Database;
  readonly #databases: Database[] = [];
  readonly #backends = new Map<string, Backend & { readonly connection: Connection }>();
  readonly #dataKeys: DataKeys;
  #resets = 0;
  #made: { readonly start: StartingPoint; readonly project: ScheduledProject } | undefined;

  private constructor(
    test: TestDatabase,
    observer: Session,
    resetter: Session,
    database: Database,
    dataKeys: DataKeys,
  ) {
    this.test = test;
    this.observer = observer;
    this.#resetter = resetter;
    this.#database = database;
    this.#dataKeys = dataKeys;
  }

  static async open(): Promise<LaneDatabase> {
    const test = await createTestDatabase();
    const observer = await connect(test.adminUrl);
    // Who closes a ring of waiting transactions finds it at once, and is its victim: the same one in every replay.
    await observer.run(`alter database ${test.name} set deadlock_timeout = '1ms'`);
    // What a serializable transaction has read, and so which others it refuses, depends on how its statements are planned.
    for (const way of ['enable_seqscan', 'enable_bitmapscan']) {
      await observer.run(`alter database ${test.name} set ${way} = off`);
    }
    for (const table of [...tables, ...leftBehind]) {
      await observer.run(`alter table ${table} set (autovacuum_enabled = off)`);
    }
    const resetter = await connect(test.adminUrl);
    await resetter.run('set session_replication_role = replica');
    const database = pgDatabase({ connectionString: test.serviceUrl, maxConnections: 2 });
    const audit = auditTrail('test');
    const wrapping = await openWrappingKeys(database, rootKeysOf(memoryRootKey()), audit);
    const options = { keyCacheSize: 100, keyCacheMs: 86_400_000, now: () => new Date() };
    return new LaneDatabase(test, observer, resetter, database, new DataKeys(database, wrapping, audit, options));
  }

  /** A connection that is kept for the `index`-th actor. */
  async backend(index: number, login: 'service' | 'owner'): Promise<Backend> {
    const name = `${login} ${String(index)}`;
    const known = this.#backends.get(name);
    if (known !== undefined) return known;
    const url = login === 'service' ? this.test.serviceUrl : this.test.ownerUrl;
    const database = pgDatabase({ connectionString: url, maxConnections: 1, applicationName: `actor ${name}` });
    this.#databases.push(database);
    const connection = await database.connect();
    const { rows } = await connection.query<{ pid: number }>({ text: 'select pg_backend_pid() as pid' });
    const backend = { pid: rows[0]!.pid, connection };
    this.#backends.set(name, backend);
    return backend;
  }

  /** A project that stands like this, in place of the one before; the same one again when that stood like this, too. */
  async project(start: StartingPoint): Promise<ScheduledProject> {
    if (this.#made?.start !== start) this.#made = { start, project: await this.#makeProject(start) };
    return this.#made.project;
  }

  async #makeProject(start: StartingPoint): Promise<ScheduledProject> {
    const projectId = randomUUID();
    const rotationId = randomUUID();
    const run = (text: string, values: unknown[]): Promise<unknown> => this.#resetter.run(text, values);
    for (const table of [...tables, ...leftBehind]) await this.#resetter.run(`delete from ${table}`);
    await run('insert into public.projects (id, owner, name) values ($1, $2, $3)', [
      projectId,
      randomUUID(),
      'project',
    ]);
    const keys: DataKey[] = [];
    for (let version = 1; version <= start.versions; version++) {
      const made = await this.#dataKeys.create(projectId, version);
      const used = version <= start.primary;
      await run(
        `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint,
           activated_at, deactivated_at, retention_until)
         values ($1, $2, $3, $4, $5, $6, case when $7 then now() - interval '3 days' end,
           case when $8 then now() - interval '2 days' end, case when $9 then now() - interval '1 day' end)`,
        [
          made.id,
          projectId,
          version,
          made.wrappedKey,
          made.wrappingKeyId,
          made.fingerprint,
          used,
          used && version !== start.primary,
          start.retired?.includes(version) ?? false,
        ],
      );
      keys.push(await this.#dataKeys.get(projectId, made.id));
    }
    const key = (version: number): DataKey => keys[version - 1]!;
    await run('insert into keyring.keyrings (project_id, primary_key_id) values ($1, $2)', [
      projectId,
      key(start.primary).id,
    ]);
    const { state, source, target } = start.rotation;
    await run(
      `insert into keyring.rotations (id, scope, trigger, state, requested_by) values ($1, 'projects', 'manual', 'running', 'test')`,
      [rotationId],
    );
    await run(
      `insert into keyring.rotation_projects (rotation_id, project_id, project_name, state, source_key_id, target_key_id)
       values ($1, $2, 'project', $3, $4, $5)`,
      [rotationId, projectId, state, key(source).id, key(target).id],
    );

    const aad = (rowId: string, keyId: string): Uint8Array =>
      secretAad({ projectId, label: SECRETS_LABEL, rowId, keyId });
    const sealed = (version: number, rowId: string, value: string): Buffer =>
      seal(key(version).key, key(version).id, Buffer.from(value), aad(rowId, key(version).id));
    const ids = new Map<string, string>();
    const rowId = (name: string): string => {
      const id = ids.get(name) ?? randomUUID();
      ids.set(name, id);
      return id;
    };
    const values = new Map<string, string>();
    for (const [name, version] of Object.entries(start.secrets)) {
      const value = `${name} as it was`;
      values.set(name, value);
      await run(
        `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id, value_written_at, created_at, updated_at)
         values ($1, $2, $3, $4, $5, now() - interval '1 day', now() - interval '1 day', now() - interval '1 day')`,
        [rowId(name), projectId, name, sealed(version, rowId(name), value), key(version).id],
      );
    }

    const restore = await this.#copyOfEverything();
    const [column] = await selectEncryptedColumns(this.#database);
    return {
      projectId,
      rotationId,
      rotationState: state,
      column: column!,
      values,
      key: (version) => key(version).id,
      version: (keyId) => keys.find(({ id }) => id === keyId)?.version,
      row: rowId,
      seal: sealed,
      open: (row, keyId, envelope) =>
        open(keys.find(({ id }) => id === keyId)!.key, keyId, envelope, aad(row, keyId)).toString(),
      reset: async () => {
        if (this.#resets++ % RESETS_PER_VACUUM === 0) {
          await this.#resetter.run(`vacuum ${[...tables, ...leftBehind].join(', ')}`);
        }
        await this.#resetter.run(restore);
      },
    };
  }

  async close(): Promise<void> {
    for (const { connection } of this.#backends.values()) connection.release();
    await this.#dataKeys.close();
    await Promise.all([this.#database, ...this.#databases].map((database) => database.close()));
    await Promise.all([this.observer, this.#resetter].map(({ client }) => client.end()));
    await this.test.drop();
  }

  /** Keeps a copy, and gives the statements that bring it back: in one round trip, because every schedule begins with it. */
  async #copyOfEverything(): Promise<string> {
    await this.#resetter.run('drop schema if exists kept cascade; create schema kept');
    const copies = tables.map((table) => ({ table, copy: `kept.${table.replace('.', '_')}` }));
    for (const { table, copy } of copies) await this.#resetter.run(`create table ${copy} as table ${table}`);
    return [
      ...[...tables, ...leftBehind].map((table) => `delete from ${table}`),
      ...copies.map(({ table, copy }) => `insert into ${table} overriding system value table ${copy}`),
    ].join(';');
  }
}
