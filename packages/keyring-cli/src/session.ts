import { hostname, userInfo } from 'node:os';
import { KeyringError, openKeyring, type Keyring } from '@meshhook/keyring';
import { openHost, type Host, type OpenHostOptions } from '@meshhook/keyring-embedded';
import { sharing } from '@meshhook/keyring-worker';
import type { Settings } from './env.ts';
import { untilInterrupted } from './interruption.ts';
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
      rootKey: rootKeyUri,
      preparedStatements: isOn(app.settings),
      actor: actor(),
    });
    try {
      if (options.minds !== 'signal') return await untilInterrupted(app.signal, work(keyring, databaseUrl));
      // Only what minds the signal drives rotations.
      const log = { info: () => undefined, error: (text: string) => app.terminal.note(text) };
      return await work(sharing(keyring, { databaseUrl, log }), databaseUrl);
    } finally {
      await keyring.close();
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

/** @throws KeyringError `invalid_argument` unless MESHHOOK_PREPARED_STATEMENTS is `on` or `off`. */
function isOn({ preparedStatements }: Settings): boolean {
  if (preparedStatements === 'on' || preparedStatements === 'off') return preparedStatements === 'on';
  throw new KeyringError('invalid_argument', 'MESHHOOK_PREPARED_STATEMENTS is neither on nor off.', {
    remedy: 'Set it to off behind a transaction-mode pooler that does not track prepared statements, or unset it.',
  });
}

/** Who acts, for the audit log: `cli:ada@laptop`. */
export function actor(): string {
  return `cli:${userName()}@${hostname()}`.slice(0, 200);
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user without an entry in the password file.
    return String(process.getuid?.() ?? 'unknown');
  }
}
