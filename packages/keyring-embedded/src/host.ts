import { join, resolve } from 'node:path';
import { realpath } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { KeyringError } from '@meshhook/keyring';
import { openCluster, type Cluster } from './cluster.ts';
import { loginUrl, prepare, prepareDatabase, type Prepared } from './preparation.ts';

export interface OpenHostOptions {
  /** The folder of the embedded installation. Default `.meshhook`. */
  readonly home?: string | undefined;
  /** A PostgreSQL of somebody's own. Absent: the embedded one. */
  readonly databaseUrl?: string | undefined;
  /** Absent: a file in `home` that goes with the embedded database. */
  readonly rootKeyUri?: string | undefined;
  /** Told what is made and where while it happens, one line each, for a person. */
  readonly log?: ((line: string) => void) | undefined;
  /**
   * Default true: the embedded database is migrated, and gets a root key. False leaves both as they are, to look at the
   * schema. Somebody's own database is never migrated by this.
   */
  readonly migrate?: boolean | undefined;
  /** Where the embedded database goes when PostgreSQL cannot reach it in `home`. Default `/var/lib/meshhook-keyring`. */
  readonly sharedDirectory?: string | undefined;
}

/** Everything it takes to open a keyring. */
export interface Host {
  /** For the service, password included: not for logs. */
  readonly databaseUrl: string;
  /** For `migrate`, password included. */
  readonly migrationUrl: string;
  readonly rootKeyUri: string;
  readonly embedded: boolean;
  /** What this call made, and where. */
  readonly made: readonly { readonly what: string; readonly where: string }[];
  /** Names of the migrations that this call applied. */
  readonly applied: readonly string[];
  /** What a person has to know, one sentence each. */
  readonly notices: readonly string[];
  /** Absolute. */
  readonly home: string;
  /** Leaves the embedded database, and stops it if nobody else uses it. Close the keyring first. May be called again. */
  close(): Promise<void>;
}

/**
 * Finds or makes what a keyring needs: a database with its schema, its logins, a root key. Any number of processes may
 * do so at once.
 * @throws KeyringError `root_key_missing` when `databaseUrl` is given without a root key, or when the embedded database
 *   has keys and its root key file is gone; `database_unreachable`, `schema_too_new`.
 */
export async function openHost(options: OpenHostOptions = {}): Promise<Host> {
  const home = resolve(options.home ?? '.meshhook');
  return options.databaseUrl === undefined
    ? openEmbedded(home, options)
    : attach(home, options.databaseUrl, options.rootKeyUri);
}

function attach(home: string, databaseUrl: string, rootKeyUri: string | undefined): Host {
  if (rootKeyUri === undefined) {
    throw new KeyringError('root_key_missing', 'No root key is named for the database of DATABASE_URL.', {
      remedy:
        'Set MESHHOOK_ROOT_KEY to a URI such as file:./root.key; `mh-keys root-key create file:./root.key` makes the first one.',
    });
  }
  return {
    ...{ databaseUrl, migrationUrl: databaseUrl, rootKeyUri, embedded: false, home },
    ...{ made: [], applied: [], notices: [] },
    close: () => Promise.resolve(),
  };
}

async function openEmbedded(path: string, options: OpenHostOptions): Promise<Host> {
  const { log, sharedDirectory, rootKeyUri } = options;
  const cluster = await openCluster({
    home: path,
    ...(log === undefined ? {} : { log }),
    ...(sharedDirectory === undefined ? {} : { sharedDirectory }),
  }).catch((error: unknown) => {
    throw explain(path, error);
  });
  try {
    const home = await realpath(path);
    const rootKeyPath = rootKeyUri === undefined ? join(home, 'root.key') : undefined;
    const place = { home, cluster, rootKeyPath };
    const prepared: Prepared =
      options.migrate === false
        ? { credentials: await prepareDatabase(place), madeDatabase: false, madeRootKey: false, applied: [] }
        : await prepare(place);
    return {
      databaseUrl: loginUrl(cluster, prepared.credentials.service),
      migrationUrl: loginUrl(cluster, prepared.credentials.owner),
      rootKeyUri: rootKeyUri ?? pathToFileURL(join(home, 'root.key')).href,
      embedded: true,
      made: listMade(cluster, prepared, rootKeyPath),
      applied: prepared.applied,
      notices: listNotices(home, cluster, prepared, rootKeyPath),
      home,
      close: () => cluster.close(),
    };
  } catch (error) {
    await cluster.close();
    throw explain(path, error);
  }
}

function listMade(cluster: Cluster, prepared: Prepared, rootKeyPath: string | undefined) {
  const { created, dataDirectory } = cluster;
  return [
    ...(created ? [{ what: 'PostgreSQL database', where: dataDirectory }] : []),
    ...(prepared.madeRootKey && rootKeyPath !== undefined ? [{ what: 'root key', where: rootKeyPath }] : []),
    ...(prepared.applied.length > 0 ? [{ what: 'schema', where: migrations(prepared.applied.length) }] : []),
  ];
}

function migrations(n: number): string {
  return n === 1 ? '1 migration applied' : `${String(n)} migrations applied`;
}

function listNotices(home: string, cluster: Cluster, { madeRootKey }: Prepared, rootKeyPath: string | undefined) {
  const notices: string[] = [];
  if (madeRootKey && rootKeyPath !== undefined) {
    notices.push(`Keep a copy of ${rootKeyPath} elsewhere: whoever loses that file loses every secret.`);
  }
  if (cluster.created && cluster.placement === 'shared') {
    notices.push(`The database is not in ${home}, because the user who runs PostgreSQL cannot enter that folder.`);
  }
  return notices;
}

/** What the operating system says about the folder, as an error that names the remedy. */
function explain(home: string, error: unknown): unknown {
  const { code, path } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string' || typeof path !== 'string') return error;
  return new KeyringError('database_unreachable', `The folder ${home} cannot be used: ${code} at ${path}.`, {
    remedy: 'Set MESHHOOK_HOME to a folder that you may write to, on a disk with room.',
    cause: error,
  });
}
