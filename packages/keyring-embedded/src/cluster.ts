import { randomBytes } from 'node:crypto';
import { mkdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KeyringError } from '@meshhook/keyring';
import { accountFor } from './account.ts';
import { installedBinaries, runnableBinaries } from './binaries.ts';
import { giveToOwner, readFacts, writeFacts, type Facts } from './facts.ts';
import { placeData, SHARED_DIRECTORY } from './placement.ts';
import { findPostmaster, stopPostmaster } from './postmaster.ts';
import { enter, type Presence } from './presence.ts';
import { isRoot } from './process.ts';
import { dataVersion, initialize, startServer, SUPERUSER, superuserUrl, type Settings } from './server.ts';
import { withStartLock } from './start-lock.ts';

export interface OpenClusterOptions {
  /** The folder of the installation, made with mode 0700 if it is missing. Default `.meshhook`. */
  readonly home?: string;
  /** Told what is made and where, one line each, for a person. */
  readonly log?: (line: string) => void;
  /** PostgreSQL settings, over ours, for as long as a start by this call lasts. */
  readonly settings?: Settings;
  /** Where data and binaries go when PostgreSQL cannot reach them in `home`. Default `/var/lib/meshhook-keyring`. */
  readonly sharedDirectory?: string;
  /** How long to wait for PostgreSQL, crash recovery included, in milliseconds. Default 60,000. */
  readonly patienceMs?: number;
}

/** A PostgreSQL 18 of our own, shared by every process that has opened the same home. */
export interface Cluster {
  /** A URL as superuser, password included: not for logs. Default database `postgres`. */
  adminUrl(database?: string): string;
  /** On 127.0.0.1. It changes only if PostgreSQL is stopped and finds its port taken when it starts again. */
  readonly port: number;
  readonly dataDirectory: string;
  readonly binDirectory: string;
  readonly logFile: string;
  /** `shared`: root's PostgreSQL runs as another user, who cannot enter `home`; the data is in `sharedDirectory`. */
  readonly placement: 'home' | 'shared';
  /** Whether this call started PostgreSQL. */
  readonly started: boolean;
  /** Whether this call made the cluster. */
  readonly created: boolean;
  /** Leaves; stops PostgreSQL if nobody else has it open. May be called again. */
  close(): Promise<void>;
}

// Statements, parameters and details of errors (`Failing row contains …`) hold values; the log gets none of them.
const quietLog: Settings = {
  log_statement: 'none',
  log_min_duration_statement: '-1',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
  log_parameter_max_length: '0',
  log_parameter_max_length_on_error: '0',
};

const defaults: Settings = {
  cluster_name: 'meshhook-keyring',
  shared_buffers: '128MB',
  max_connections: '100',
  log_timezone: 'UTC',
};

/**
 * Opens the cluster of a home: makes it if there is none, starts it if it does not run, joins it if it does. Any number
 * of processes may do so at once; the last to close stops it. One that dies without closing is no hindrance: PostgreSQL
 * goes on for the others, and the next to close stops it.
 *
 * PostgreSQL listens on 127.0.0.1 only, demands a password (SCRAM), and runs as another user when we are root.
 * `<home>/postgres.json` (mode 0600) says where everything is.
 * @throws KeyringError `database_unreachable`, with the remedy.
 */
export async function openCluster(options: OpenClusterOptions = {}): Promise<Cluster> {
  const home = await openHome(options.home ?? '.meshhook');
  const deadline = Date.now() + (options.patienceMs ?? 60_000);
  let made = { started: false, created: false };
  for (;;) {
    const facts = await readFacts(home);
    const found = facts === undefined ? ({ state: 'absent' } as const) : await enterOrExplain(home, facts);
    if (facts !== undefined && 'port' in found) return cluster(home, facts, found, made);
    const cause = 'cause' in found ? found.cause : undefined;
    if (Date.now() > deadline) throw unreachable(home, 'The embedded PostgreSQL runs, but does not let us in.', cause);
    if ('state' in found && found.state === 'wait') await delay(25);
    else {
      const now = await withStartLock(home, deadline, () => startIfDown(home, options, deadline));
      made = { started: now.started, created: made.created || now.created };
    }
  }
}

async function openHome(path: string): Promise<string> {
  await mkdir(dirname(resolve(path)), { recursive: true });
  await mkdir(resolve(path), { recursive: true, mode: 0o700 });
  const home = await realpath(path);
  const { uid } = await stat(home);
  if (!isRoot() && process.geteuid !== undefined && uid !== process.geteuid()) {
    throw new KeyringError('database_unreachable', `${home} belongs to another user.`, {
      remedy: 'Run this as the user who ran it first, or set MESHHOOK_HOME to a folder of your own.',
    });
  }
  return home;
}

async function enterOrExplain(home: string, facts: Facts) {
  try {
    return await enter(facts);
  } catch (cause) {
    throw unreachable(home, `The embedded PostgreSQL does not accept the password in ${home}/postgres.json.`, cause);
  }
}

async function startIfDown(home: string, options: OpenClusterOptions, deadline: number) {
  const known = await readFacts(home);
  if (known !== undefined && (await findPostmaster(known.dataDirectory)) !== undefined) {
    return { started: false, created: false };
  }
  const log = options.log ?? (() => undefined);
  const shared = options.sharedDirectory ?? SHARED_DIRECTORY;
  const settings = { ...defaults, ...quietLog, ...options.settings };
  const created = known === undefined || (await neverFinished(known));
  const facts = created ? await create(home, shared, settings, log) : known;

  const account = await accountFor(facts.dataDirectory);
  const binaries = await runnableBinaries(installedBinaries(), account, shared);
  await requireSameMajor(facts, binaries.version);
  const port = await startServer({
    ...facts,
    ...binaries,
    account,
    settings,
    preferredPort: facts.port,
    detached: true,
    deadline,
  });
  await giveToOwner(home, facts.logFile);
  await writeFacts(home, { ...facts, ...binaries, port });
  log(`PostgreSQL ${binaries.version} started on 127.0.0.1:${String(port)}`);
  return { started: true, created };
}

/** Killed between writing down the password and putting the data in place: there is nothing to lose yet. */
async function neverFinished(facts: Facts): Promise<boolean> {
  return facts.port === null && (await dataVersion(facts.dataDirectory)) === undefined;
}

async function create(
  home: string,
  sharedDirectory: string,
  settings: Settings,
  log: (line: string) => void,
): Promise<Facts> {
  const inHome = join(home, 'postgres');
  if ((await dataVersion(inHome)) !== undefined) {
    throw new KeyringError(
      'database_unreachable',
      `${inHome} holds a database, but its password is gone with postgres.json.`,
      {
        remedy: `Restore ${home}/postgres.json from a backup, or move ${inHome} away to begin anew.`,
      },
    );
  }
  const account = await accountFor(home);
  const place = await placeData(home, account, sharedDirectory);
  const binaries = await runnableBinaries(installedBinaries(), account, sharedDirectory);
  const facts: Facts = {
    format: 1,
    host: '127.0.0.1',
    port: null,
    user: SUPERUSER,
    password: randomBytes(24).toString('base64url'),
    ...binaries,
    ...place,
    logFile: join(home, 'postgres.log'),
  };
  await initialize({ ...facts, account, settings }, () => writeFacts(home, facts));
  log(`Made a PostgreSQL database in ${place.dataDirectory}`);
  if (place.placement === 'shared') log(`It is there because the user who runs PostgreSQL cannot enter ${home}`);
  return facts;
}

async function requireSameMajor({ dataDirectory }: Facts, version: string): Promise<void> {
  const found = await dataVersion(dataDirectory);
  if (found === undefined) {
    throw new KeyringError('database_unreachable', `The database of this installation is gone: ${dataDirectory}.`, {
      remedy: 'Restore it from a backup, or delete postgres.json in MESHHOOK_HOME to begin with an empty one.',
    });
  }
  if (found !== Number.parseInt(version, 10)) {
    throw new KeyringError(
      'database_unreachable',
      `The database is PostgreSQL ${String(found)}'s; this is ${version}.`,
      {
        remedy: `Dump it with the version that made it, and restore it here: ${dataDirectory}.`,
      },
    );
  }
}

function cluster(home: string, facts: Facts, entered: Presence, made: { started: boolean; created: boolean }): Cluster {
  let present: Presence | undefined = entered;
  let port = entered.port;
  let closing: Promise<void> | undefined;
  const isOpen = () => closing === undefined;

  // After a restart by somebody else we have to be counted again, or the next to close stops PostgreSQL under us.
  // Starting it is left to `openCluster`: whoever stopped it may have wanted it down.
  async function stayPresent(presence: Presence): Promise<void> {
    await presence.ended;
    present = undefined;
    while (isOpen()) {
      const again = await enter(facts).catch(() => undefined);
      if (again !== undefined && 'port' in again) {
        if (!isOpen()) return again.end();
        present = again;
        port = again.port;
        return stayPresent(again);
      }
      await delay(500, undefined, { ref: false });
    }
  }
  void stayPresent(entered);

  return {
    ...made,
    adminUrl: (database) => superuserUrl(port, facts.password, database),
    get port() {
      return port;
    },
    dataDirectory: facts.dataDirectory,
    binDirectory: facts.binDirectory,
    logFile: facts.logFile,
    placement: facts.placement,
    close: () => (closing ??= present === undefined ? Promise.resolve() : leave(home, facts, present)),
  };
}

async function leave(home: string, facts: Facts, presence: Presence): Promise<void> {
  try {
    // Nobody enters while we hold the exclusive lock, and nobody starts another PostgreSQL while we hold the start
    // lock: as long as our session lives, what we stop is what we left.
    if (!(await presence.leave())) return;
    await withStartLock(home, Date.now() + 10_000, async () => {
      if (await presence.isAlive()) await stopPostmaster(facts.dataDirectory, 'fast');
    });
  } catch {
    // Stopped by somebody else meanwhile, or the home is gone: there is nothing left to leave.
  } finally {
    await presence.end();
  }
}

function unreachable(home: string, message: string, cause: unknown): KeyringError {
  const logFile = join(home, 'postgres.log');
  return new KeyringError('database_unreachable', message, {
    remedy: `Read the end of ${logFile}; \`MESHHOOK_HOME\` names another folder to begin anew in.`,
    details: { logFile },
    cause,
  });
}
