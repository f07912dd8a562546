import { KeyringError } from '@meshhook/keyring';

/** The only reader of the environment in this program, and the only place that lists what it reads. */

export interface Settings {
  /** `PORT`: default 8080; 0 lets the system choose. */
  readonly port: number;
  /** `HOST`: the address to listen on. Default 127.0.0.1: this machine only. */
  readonly host: string;
  /** `MESHHOOK_ALLOWED_HOSTS`: more names that the server is called by, separated by commas. */
  readonly allowedHosts: readonly string[];
  /** `DATABASE_URL`: a PostgreSQL 15 to 18. Absent: the embedded one in `home`. */
  readonly databaseUrl: string | undefined;
  /** `MESHHOOK_ROOT_KEY`: a URI such as `file:./root.key`. Absent: the file that goes with the embedded database. */
  readonly rootKeyUri: string | undefined;
  /** `MESHHOOK_PREPARED_STATEMENTS`: `off` behind a transaction-mode pooler that does not track them. Default `on`. */
  readonly preparedStatements: boolean;
  /** `MESHHOOK_HOME`: the folder of the embedded database and of the API token. Default `.meshhook`. */
  readonly home: string;
}

const unspecified = new Set(['0.0.0.0', '::', '*']);

/**
 * A variable that is set to nothing counts as not set.
 * @throws KeyringError `invalid_argument` naming the variable.
 */
export function readSettings(environment: NodeJS.ProcessEnv = process.env): Settings {
  const get = (name: string): string | undefined => environment[name] || undefined;
  const port = Number(get('PORT') ?? '8080');
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new KeyringError('invalid_argument', 'PORT is not a port.', {
      remedy: 'Set PORT to a number from 0 to 65535.',
    });
  }
  const host = get('HOST') ?? '127.0.0.1';
  const named = (get('MESHHOOK_ALLOWED_HOSTS') ?? '').split(',').map((name) => name.trim().toLowerCase());
  return {
    port,
    host,
    allowedHosts: [...named, ...(unspecified.has(host) ? [] : [host.toLowerCase()])].filter((name) => name !== ''),
    databaseUrl: get('DATABASE_URL'),
    rootKeyUri: get('MESHHOOK_ROOT_KEY'),
    preparedStatements: onOrOff('MESHHOOK_PREPARED_STATEMENTS', get('MESHHOOK_PREPARED_STATEMENTS')),
    home: get('MESHHOOK_HOME') ?? '.meshhook',
  };
}

function onOrOff(name: string, value = 'on'): boolean {
  if (value === 'on' || value === 'off') return value === 'on';
  throw new KeyringError('invalid_argument', `${name} is neither on nor off.`, { remedy: `Set ${name} to on or off.` });
}
