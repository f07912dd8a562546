import { existsSync } from 'node:fs';
import { link, rm } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { createRootKeyFile, KeyringError, migrate, pgDatabase, schemaStatus, type Queryable } from '@meshhook/keyring';
import type { Cluster } from './cluster.ts';
import { createCredentials, readCredentials, type Credentials, type Login } from './credentials.ts';
import { giveToOwner } from './facts.ts';
import { scramVerifier } from './scram.ts';

const DATABASE = 'meshhook';

// Any two numbers will do, as long as every version of this program takes the same. The second is 1 for the presence.
const LOCK = '1835561842, 2';

export interface Place {
  readonly home: string;
  readonly cluster: Cluster;
  /** Of the root key file that goes with this database; undefined when the root key is somewhere else. */
  readonly rootKeyPath: string | undefined;
}

export interface Prepared {
  readonly credentials: Credentials;
  readonly madeDatabase: boolean;
  readonly madeRootKey: boolean;
  /** Names of the migrations that were applied now. */
  readonly applied: readonly string[];
}

/** The URL of a login of ours; its password needs no escaping. */
export function loginUrl({ port }: Cluster, { user, password }: Login): string {
  return `postgresql://${user}:${password}@127.0.0.1:${String(port)}/${DATABASE}`;
}

/**
 * Brings everything to where a keyring can be opened, whatever of it is there already. Any number of processes may do so
 * at once, and any of them may be killed at any moment.
 * @throws KeyringError `root_key_missing` when there are keys and the root key that unlocks them is gone.
 */
export async function prepare(place: Place): Promise<Prepared> {
  return (await alreadyPrepared(place)) ?? (await alone(place.cluster, (admin) => prepareAlone(place, admin)));
}

/** Makes the database and its logins only: enough to look at the schema. */
export async function prepareDatabase(place: Place): Promise<Credentials> {
  const ready = await alreadyPrepared(place);
  if (ready !== undefined) return ready.credentials;
  return alone(place.cluster, async (admin) => (await ensureDatabase(place.home, admin)).credentials);
}

/** One look as the service itself: that it may see the schema's version shows that its login and its grant are there. */
async function alreadyPrepared({ home, cluster, rootKeyPath }: Place): Promise<Prepared | undefined> {
  const credentials = await readCredentials(home);
  if (credentials === undefined || (rootKeyPath !== undefined && !existsSync(rootKeyPath))) return undefined;
  const status = await schemaStatus({ connectionString: loginUrl(cluster, credentials.service) }).catch(
    () => undefined,
  );
  if (status?.state !== 'current') return undefined;
  return { credentials, madeDatabase: false, madeRootKey: false, applied: [] };
}

async function prepareAlone(place: Place, admin: Queryable): Promise<Prepared> {
  const { credentials, madeDatabase } = await ensureDatabase(place.home, admin);
  const madeRootKey = await ensureRootKey(place);
  const { applied } = await migrate({ connectionString: loginUrl(place.cluster, credentials.owner) });
  await admin.query({ text: `grant keyring_service to ${credentials.service.user}` });
  return { credentials, madeDatabase, madeRootKey, applied };
}

async function ensureDatabase(home: string, admin: Queryable) {
  const credentials = (await readCredentials(home)) ?? (await createCredentials(home));
  await ensureLogin(admin, credentials.owner, 'createrole');
  await ensureLogin(admin, credentials.service, 'nocreaterole');
  const { rowCount } = await admin.query({ text: 'select from pg_database where datname = $1', values: [DATABASE] });
  if (rowCount === 0) await admin.query({ text: `create database ${DATABASE} owner ${credentials.owner.user}` });
  return { credentials, madeDatabase: rowCount === 0 };
}

async function ensureLogin(admin: Queryable, { user, password }: Login, createRole: string): Promise<void> {
  const { rowCount } = await admin.query({ text: 'select from pg_roles where rolname = $1', values: [user] });
  const verb = rowCount === 0 ? 'create' : 'alter';
  const may = `login ${createRole} nosuperuser nocreatedb nobypassrls`;
  await admin.query({ text: `${verb} role ${user} ${may} password '${scramVerifier(password)}'` });
}

/** @returns whether it made the root key. */
async function ensureRootKey({ home, cluster, rootKeyPath: path }: Place): Promise<boolean> {
  if (path === undefined || existsSync(path)) return false;
  if (await hasKeys(cluster)) {
    throw new KeyringError(
      'root_key_missing',
      `This keyring has keys, but the root key that unlocks them is gone: ${path}`,
      {
        remedy:
          'Restore the file from your copy, mode 0600, or run `mh-keys root-key recover BACKUP --to file:PATH` with that path. Nobody can make it anew.',
        details: { path },
      },
    );
  }
  // Under its name only when it is whole, and never over another: killed in between, this leaves a key nobody used yet.
  const staging = `${path}.new`;
  await rm(staging, { force: true });
  await createRootKeyFile(pathToFileURL(staging).href);
  await giveToOwner(home, staging);
  await link(staging, path);
  await rm(staging);
  return true;
}

async function hasKeys(cluster: Cluster): Promise<boolean> {
  return connected(cluster.adminUrl(DATABASE), async (admin) => {
    const ask = async (condition: string): Promise<boolean> =>
      (await admin.query<{ answer: boolean }>({ text: `select ${condition} as answer` })).rows[0]?.answer === true;
    if (!(await ask(`to_regclass('keyring.wrapping_keys') is not null`))) return false;
    return ask('exists (select from keyring.wrapping_keys)');
  });
}

async function alone<T>(cluster: Cluster, task: (admin: Queryable) => Promise<T>): Promise<T> {
  return connected(cluster.adminUrl(), async (admin) => {
    await admin.query({ text: `select pg_advisory_lock(${LOCK})` });
    return task(admin);
  });
}

/** One session of its own from beginning to end: an advisory lock lasts as long. */
async function connected<T>(connectionString: string, task: (admin: Queryable) => Promise<T>): Promise<T> {
  const database = pgDatabase({ connectionString, maxConnections: 1, applicationName: 'meshhook-keyring host' });
  try {
    const connection = await database.connect();
    try {
      return await task(connection);
    } finally {
      connection.release(true);
    }
  } finally {
    await database.close();
  }
}
