import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { KeyringError } from '../errors.ts';
import { databaseFailure, sqlState } from './failures.ts';
import { pgDatabase } from './pg-database.ts';
import { transaction, type Database, type Queryable } from './port.ts';

export interface MigrateOptions {
  /** A login that owns the database's schema `public`, or may create schemas and roles there; no superuser is needed. */
  readonly connectionString: string;
  readonly onApplied?: (name: string) => void;
}

export interface MigrateResult {
  /** File names, in order; empty when there was nothing to do. */
  readonly applied: readonly string[];
  readonly version: string;
}

export interface SchemaStatus {
  readonly state: 'not_migrated' | 'behind' | 'current' | 'newer';
  readonly current: string | undefined;
  readonly wanted: string;
}

/** The schema this program was written for: the number of its last migration. */
export const wantedSchemaVersion = '20261128001200';

// Any number will do, as long as every version of this program takes the same.
const migrationLock = 7_261_905_511_839;

/**
 * Applies what is missing, each migration in a transaction of its own that records it where Supabase's tools do, so that
 * this and `supabase db push` can be mixed. Any number of processes may run it at once.
 * @throws KeyringError `schema_too_new`, `database_unreachable`, `database_refused`.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const database = pgDatabase({
    connectionString: options.connectionString,
    maxConnections: 1,
    applicationName: 'meshhook-keyring migrate',
  });
  try {
    const status = await readSchemaStatus(database);
    if (status.state === 'newer') throw schemaTooNew(status);
    const applied: string[] = [];
    for (const file of await migrationFiles()) {
      if (await applyOnce(database, file)) {
        applied.push(file.name);
        options.onApplied?.(file.name);
      }
    }
    return { applied, version: wantedSchemaVersion };
  } finally {
    await database.close();
  }
}

/** Where the schema of a database stands against this program. */
export async function schemaStatus(options: { readonly connectionString: string }): Promise<SchemaStatus> {
  const database = pgDatabase({ connectionString: options.connectionString, maxConnections: 1 });
  try {
    return await readSchemaStatus(database);
  } finally {
    await database.close();
  }
}

export async function readSchemaStatus(database: Queryable): Promise<SchemaStatus> {
  const wanted = wantedSchemaVersion;
  const found = await database.query<{ there: boolean }>({
    text: `select exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
           where n.nspname = 'keyring' and p.proname = 'schema_version') as there`,
  });
  if (found.rows[0]?.there !== true) return { state: 'not_migrated', current: undefined, wanted };
  const { rows } = await database.query<{ version: string }>({ text: 'select keyring.schema_version() as version' });
  const current = rows[0]?.version ?? '';
  return { state: current === wanted ? 'current' : current < wanted ? 'behind' : 'newer', current, wanted };
}

/** @throws KeyringError `not_migrated`, `schema_too_new`. */
export async function requireSchema(database: Queryable): Promise<void> {
  const status = await readSchemaStatus(database);
  if (status.state === 'newer') throw schemaTooNew(status);
  if (status.state !== 'current') {
    throw new KeyringError(
      'not_migrated',
      status.state === 'behind' ? 'The schema is older than this program.' : 'The database has no keyring schema.',
      { remedy: 'Run `mh-keys migrate`.', details: { ...status } },
    );
  }
}

function schemaTooNew(status: SchemaStatus): KeyringError {
  return new KeyringError('schema_too_new', `The schema (${status.current ?? ''}) is newer than this program.`, {
    remedy: 'Upgrade MeshHook Keyring to the version that made it.',
    details: { ...status },
  });
}

interface MigrationFile {
  readonly version: string;
  readonly name: string;
  readonly url: URL;
}

async function migrationFiles(): Promise<MigrationFile[]> {
  // Shipped beside the built library; in a checkout of the sources, where Supabase's tools look for them.
  const shipped = new URL('../migrations/', import.meta.url);
  const folder = existsSync(shipped) ? shipped : new URL('../../../../supabase/migrations/', import.meta.url);
  const names = (await readdir(folder)).filter((name) => /^\d{14}_\w+\.sql$/.test(name)).sort();
  return names.map((name) => ({ version: name.slice(0, 14), name: name.slice(15, -4), url: new URL(name, folder) }));
}

async function applyOnce(database: Database, file: MigrationFile): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transaction(database, (tx) => claimAndApply(tx, file));
    } catch (error) {
      // Roles and grants belong to the server: two databases migrated at once can collide there, where our lock, which
      // belongs to the database, does not reach.
      if (sqlState(error) !== 'XX000' || attempt === 10) throw describeFailure(error, file);
    }
  }
}

async function claimAndApply(tx: Queryable, { version, name, url }: MigrationFile): Promise<boolean> {
  await tx.query({ text: 'select pg_catalog.pg_advisory_xact_lock($1)', values: [migrationLock] });
  const { rows } = await tx.query<{ there: boolean }>({
    text: `select pg_catalog.to_regclass('supabase_migrations.schema_migrations') is not null as there`,
  });
  if (rows[0]?.there !== true) {
    await tx.query({
      text: `create schema if not exists supabase_migrations;
             create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text)`,
    });
  }
  const sql = await readFile(url, 'utf8');
  const claimed = await tx.query({
    text: `insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, array[$3])
           on conflict (version) do nothing`,
    values: [version, name, sql],
  });
  if (claimed.rowCount === 0) return false;
  await tx.query({ text: sql });
  return true;
}

function describeFailure(error: unknown, { version, name }: MigrationFile): KeyringError {
  const failure = databaseFailure(error);
  if (failure.code !== 'database_refused') return failure;
  return new KeyringError(failure.code, `Migration ${version}_${name} failed: ${failure.message}`, {
    remedy:
      sqlState(failure) === '42501'
        ? 'Run migrations as the owner of the database, a role with CREATEROLE.'
        : 'Nothing of it was applied. Mend what PostgreSQL names, then run `mh-keys migrate` again.',
    details: failure.details,
  });
}
