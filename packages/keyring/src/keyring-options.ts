import { hostname } from 'node:os';
import type { Actor } from './api.ts';
import { requireActor } from './audit/actor.ts';
import type { Database } from './db/port.ts';
import type { RootKeyProvider } from './providers/provider.ts';

/** One root key, as it is given. */
export type RootKeyOption = string | RootKeyProvider;

/** What `openKeyring` takes. Unknown names are refused. */
export interface KeyringOptions {
  /**
   * A PostgreSQL URL (the pool is then ours), or a `Database` made by `pgDatabase` (closed with the keyring all the same).
   */
  readonly database: string | Database;
  /**
   * Of a `database` given by its URL: name the statements of hot paths, so that PostgreSQL plans them once per connection.
   * Default true. Switch it off behind a transaction-mode pooler that does not track prepared statements.
   */
  readonly preparedStatements?: boolean;
  /**
   * A root key: a URI such as `file:./root.key`, or a provider. Or several, while the root key changes: one that opens the database is
   * enough, and those that cannot be used are tried again in the background. Asked at opening, and once for each wrapping
   * key that is new. A new installation is under the first.
   */
  readonly rootKey: RootKeyOption | readonly RootKeyOption[];
  /** What a relative `file:` root key is relative to. Default: the working directory. */
  readonly cwd?: string;
  /**
   * The environment of a root key that is read from it (`env:`), or whose provider takes credentials from it
   * (`VAULT_TOKEN` and the like). The library reads none by itself. Default: empty.
   */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Who acts, for the audit log. A bare name is a service's. Default: the service `library`. */
  readonly actor?: string | Actor;
  /** Unwrapped data keys held at once. Default 10,000. */
  readonly keyCacheSize?: number;
  /** How long an unwrapped data key is used before it is read again, in milliseconds. Default 300,000. */
  readonly keyCacheMs?: number;
  /** Rows per statement of a sweep at full speed. Default 1,000. */
  readonly sweepBatchSize?: number;
  /** Units of a rotation, each of one project or many, worked on at once. Default 4. */
  readonly rotationConcurrency?: number;
  /** Small projects that a rotation takes through a step in one transaction, at most. Default 250. */
  readonly rotationSetSize?: number;
  /**
   * How long a rotation waits for rows and keyrings that others hold before it calls a project blocked, and for a database
   * that went away before it gives up, in milliseconds. Default 60,000.
   */
  readonly lockPatienceMs?: number;
  /**
   * How often this process says that it is alive, and looks for wrapping keys that are new, in milliseconds. Default 5,000. Whoever
   * does not for 15 seconds is not waited for when a wrapping or root key is rotated.
   */
  readonly heartbeatMs?: number;
  /**
   * How old what `monitoring.facts` says may be, in milliseconds; what takes a look at every project, twelve times that. Default
   * 5,000; 0: read at every call.
   */
  readonly factsMaxAgeMs?: number;
  /** The present moment. Default: the system's clock. */
  readonly now?: () => Date;
}

export type ResolvedOptions = Required<KeyringOptions> & { readonly actor: Actor; readonly runner: string };

const defaults = {
  preparedStatements: true,
  cwd: '.',
  env: {},
  actor: 'library',
  keyCacheSize: 10_000,
  keyCacheMs: 300_000,
  sweepBatchSize: 1_000,
  rotationConcurrency: 4,
  rotationSetSize: 250,
  lockPatienceMs: 60_000,
  heartbeatMs: 5_000,
  factsMaxAgeMs: 5_000,
  now: () => new Date(),
};

const required = ['database', 'rootKey'];
const limits: Record<string, readonly [number, number]> = {
  keyCacheSize: [1, 1_000_000],
  keyCacheMs: [0, 86_400_000],
  sweepBatchSize: [1, 10_000],
  rotationConcurrency: [1, 64],
  rotationSetSize: [1, 500],
  lockPatienceMs: [0, 86_400_000],
  heartbeatMs: [50, 3_600_000],
  factsMaxAgeMs: [0, 3_600_000],
};

/**
 * Fills in the defaults.
 * @throws TypeError for an option that does not exist, is missing, or is out of its range: misuse, not a failure.
 */
export function resolveOptions(options: KeyringOptions): ResolvedOptions {
  for (const name of Object.keys(options)) {
    if (!required.includes(name) && !(name in defaults)) throw new TypeError(`unknown option: ${name}`);
  }
  for (const name of required) {
    if (options[name as keyof KeyringOptions] === undefined) throw new TypeError(`missing option: ${name}`);
  }
  const actor = requireActor(options.actor ?? defaults.actor);
  const resolved = { ...defaults, ...options, actor, runner: `${hostname()}:${String(process.pid)}` };
  for (const [name, [least, most]] of Object.entries(limits)) {
    const value = resolved[name as keyof ResolvedOptions] as number;
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new TypeError(`option ${name} takes a whole number from ${String(least)} to ${String(most)}`);
    }
  }
  return resolved;
}
