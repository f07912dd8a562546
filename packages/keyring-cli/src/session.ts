import { hostname, userInfo } from 'node:os';
import {
  KeyringError,
  openKeyring,
  pgDatabase,
  type Actor,
  type Database,
  type Keyring,
  type PrincipalKind,
} from '@meshhook/keyring';
import { openHost, type Host, type OpenHostOptions } from '@meshhook/keyring-embedded';
import type { Settings } from './env.ts';
import { untilInterrupted } from './interruption.ts';
import { sealBehind } from './seal-behind.ts';
import type { InputStream } from './terminal/prompt.ts';
import type { OutputStream, Terminal } from './terminal/terminal.ts';

/** What every command is given. */
export interface App {
  readonly settings: Settings;
  readonly terminal: Terminal;
  readonly stdin: InputStream;
  /** Where questions are asked. */
  readonly stderr: OutputStream;
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
}

export interface SessionOptions {
  /** The work looks at `app.signal` itself and comes to rest on its own terms. */
  readonly minds?: 'signal';
  /** What the process is. Default `cli`. */
  readonly kind?: PrincipalKind;
  /** Another root key that will do, too. */
  readonly rootKey?: string;
}

/** Opens the keyring, does the work, and closes everything however that ends: the last one out stops the embedded database. */
export async function withKeyring<T>(
  app: App,
  work: (keyring: Keyring, databaseUrl: string) => Promise<T>,
  options: SessionOptions = {},
): Promise<T> {
  return withHost(app, {}, async ({ databaseUrl, rootKeyUri }) => {
    const keyring = await openKeyring({
      database: databaseUrl,
      rootKey: rootKeys(app.settings, rootKeyUri, options.rootKey),
      env: app.settings.environment,
      preparedStatements: isOn(app.settings),
      actor: { ...actor(), ...(options.kind === undefined ? {} : { kind: options.kind }) },
    });
    try {
      if (options.minds !== 'signal') return await untilInterrupted(app.signal, work(keyring, databaseUrl));
      // Only what minds the signal drives rotations. The queue takes longer to load than most other commands take.
      const { sharing } = await import('@meshhook/keyring-worker');
      const log = { info: () => undefined, error: (text: string) => app.terminal.note(text) };
      return await work(sharing(keyring, { databaseUrl, log }), databaseUrl);
    } finally {
      await sealBehind(app, keyring, databaseUrl);
      await keyring.close();
    }
  });
}

export interface DatabaseOptions extends SessionOptions {
  /** It need not be there: an embedded database gets none, and is not refused for want of it. */
  readonly withoutRootKey?: boolean;
}

/** The database alone, and where its root keys are. */
export async function withDatabase<T>(
  app: App,
  work: (database: Database, rootKeyUris: readonly string[]) => Promise<T>,
  { minds, withoutRootKey = false }: DatabaseOptions = {},
): Promise<T> {
  const rootKeyUri = app.settings.rootKeyUri ?? (withoutRootKey ? 'file:./not-asked-for.key' : undefined);
  const settings = { ...app.settings, rootKeyUri };
  return withHost({ ...app, settings }, {}, async (host) => {
    const database = pgDatabase({
      ...{ connectionString: host.databaseUrl, maxConnections: 2, applicationName: 'mh-keys' },
      preparedStatements: isOn(settings),
    });
    try {
      const working = work(database, rootKeys(settings, host.rootKeyUri));
      return await (minds === 'signal' ? working : untilInterrupted(app.signal, working));
    } finally {
      await database.close();
    }
  });
}

/** Opens the host only; tells what it made. */
export async function withHost<T>(
  { settings, terminal, signal }: App,
  options: Pick<OpenHostOptions, 'migrate'>,
  work: (host: Host) => Promise<T>,
): Promise<T> {
  const { rootKeyUri, home } = settings;
  const host = await openHost({ databaseUrl: foreignDatabase(settings), rootKeyUri, home, ...options });
  try {
    for (const { what, where } of host.made) terminal.note(`made: ${what}, ${where}`);
    for (const notice of host.notices) terminal.note(notice);
    signal.throwIfAborted();
    return await work(host);
  } finally {
    await host.close();
  }
}

/**
 * The database of DATABASE_URL, if it is set.
 * @throws KeyringError `invalid_argument` for what the driver would take for the name of a database somewhere.
 */
export function foreignDatabase({ databaseUrl }: Settings): string | undefined {
  if (databaseUrl === undefined || /^(postgres(ql)?:\/\/|socket:|\/)/.test(databaseUrl)) return databaseUrl;
  throw new KeyringError('invalid_argument', 'DATABASE_URL is not the URL of a PostgreSQL database.', {
    remedy: 'Write it as postgres://user@host:5432/database, or unset it to use the embedded one.',
  });
}

/** The one at hand, and the next one while the root key changes. */
export function rootKeys({ nextRootKeyUri }: Settings, ...given: readonly (string | undefined)[]): string[] {
  return [...new Set([...given, nextRootKeyUri])].filter((uri) => uri !== undefined);
}

/** @throws KeyringError `invalid_argument` unless MESHHOOK_PREPARED_STATEMENTS is `on` or `off`. */
function isOn({ preparedStatements }: Settings): boolean {
  if (preparedStatements === 'on' || preparedStatements === 'off') return preparedStatements === 'on';
  throw new KeyringError('invalid_argument', 'MESHHOOK_PREPARED_STATEMENTS is neither on nor off.', {
    remedy: 'Set it to off behind a transaction-mode pooler that does not track prepared statements, or unset it.',
  });
}

/** Who acts, for the audit log: `cli:ada@laptop`. */
export function actor(): Actor {
  return { name: `cli:${userName()}@${hostname()}`.slice(0, 200), kind: 'cli' };
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user without an entry in the password file.
    return String(process.getuid?.() ?? 'unknown');
  }
}
