import { nearestHome } from '@meshhook/keyring-embedded';

/** The only reader of the environment in this program, and the only place that lists what it reads. */

export interface Settings {
  /** `DATABASE_URL`: a PostgreSQL 15 to 18. Absent: the embedded one in `home`. */
  readonly databaseUrl: string | undefined;
  /** `MESHHOOK_ROOT_KEY`: a URI such as `file:./root.key`. Absent: the file that goes with the embedded database. */
  readonly rootKeyUri: string | undefined;
  /** `MESHHOOK_NEXT_ROOT_KEY`: another one, while the root key changes. Either will do. */
  readonly nextRootKeyUri: string | undefined;
  /**
   * All of it, for the root key's provider alone: the variable of an `env:` root key, and a service's credentials
   * (docs/providers/). Never printed.
   */
  readonly environment: NodeJS.ProcessEnv;
  /** `MESHHOOK_PREPARED_STATEMENTS`: `off` behind a transaction-mode pooler that does not track them, else `on`. */
  readonly preparedStatements: string;
  /** `LOG_FORMAT`: how `mh-keys worker` writes what happens: `text`, or `json`, an object a line on standard error. */
  readonly logFormat: string;
  /** `LOG_LEVEL`: with `json`, what it says at least: `info`, `error` or `silent`. */
  readonly logLevel: string;
  /** `MESHHOOK_NOTIFICATIONS_ALLOW`: `private`, `http`, or both with a comma. */
  readonly notificationsAllow?: string | undefined;
  /** `MESHHOOK_HOME`: the folder of the embedded database. Default: the nearest `.meshhook`, from the working directory upwards. */
  readonly home: string;
  /**
   * `MESHHOOK_AUDIT_CHECKPOINT`: the file with the trail's last checkpoint, or `-` for standard output. Default `audit-checkpoint` in
   * `home`.
   */
  readonly auditCheckpoint: string | undefined;
  /** False with `NO_COLOR` (https://no-color.org) or on a dumb terminal. A terminal is needed besides. */
  readonly color: boolean;
  /** False with `CI` or on a dumb terminal: no progress bar that redraws itself. */
  readonly animated: boolean;
}

/** A variable that is set to nothing counts as not set. */
export function readSettings(environment: NodeJS.ProcessEnv = process.env, directory = '.'): Settings {
  const get = (name: string): string | undefined => environment[name] || undefined;
  const dumb = get('TERM') === 'dumb';
  return {
    databaseUrl: get('DATABASE_URL'),
    rootKeyUri: get('MESHHOOK_ROOT_KEY'),
    nextRootKeyUri: get('MESHHOOK_NEXT_ROOT_KEY'),
    environment,
    preparedStatements: get('MESHHOOK_PREPARED_STATEMENTS') ?? 'on',
    logFormat: get('LOG_FORMAT') ?? 'text',
    logLevel: get('LOG_LEVEL') ?? 'info',
    notificationsAllow: get('MESHHOOK_NOTIFICATIONS_ALLOW'),
    home: get('MESHHOOK_HOME') ?? nearestHome(directory),
    auditCheckpoint: get('MESHHOOK_AUDIT_CHECKPOINT'),
    color: get('NO_COLOR') === undefined && !dumb,
    animated: get('CI') === undefined && !dumb,
  };
}
