import { KeyringError } from '@meshhook/keyring';
import type { JwtOptions } from '@meshhook/keyring-http';

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
  /** `MESHHOOK_NEXT_ROOT_KEY`: another one, while the root key changes. Either will do. */
  readonly nextRootKeyUri: string | undefined;
  /**
   * All of it, for the root key's provider alone: the variable of an `env:` root key, and a service's credentials
   * (docs/providers/). Never printed.
   */
  readonly environment: NodeJS.ProcessEnv;
  /** `MESHHOOK_PREPARED_STATEMENTS`: `off` behind a transaction-mode pooler that does not track them. Default `on`. */
  readonly preparedStatements: boolean;
  /**
   * `MESHHOOK_AUDIT_CHECKPOINT`: the file with the trail's last checkpoint, or `-` for standard output. Default `audit-checkpoint` in
   * `home`.
   */
  readonly auditCheckpoint: string | undefined;
  /** `LOG_FORMAT`: `text` for people, or `json`: an object a line on standard output. Default `text`. */
  readonly logFormat: 'text' | 'json';
  /** `LOG_LEVEL`: `info`, `error` or `silent`. Default `info`. */
  readonly logLevel: 'info' | 'error' | 'silent';
  /**
   * Users of Supabase Auth, let in by their JWTs: `MESHHOOK_JWT_ISSUER`, and either `MESHHOOK_JWKS_URL` or `MESHHOOK_JWT_SECRET`;
   * `MESHHOOK_JWT_AUDIENCE`, by default `authenticated`. Absent: nobody.
   */
  readonly jwt: JwtOptions | undefined;
  /** `MESHHOOK_NOTIFICATIONS_ALLOW`: where notifications may go, too: `private`, `http`, or both with a comma. */
  readonly notificationsAllow: string;
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
    nextRootKeyUri: get('MESHHOOK_NEXT_ROOT_KEY'),
    environment,
    preparedStatements: onOrOff('MESHHOOK_PREPARED_STATEMENTS', get('MESHHOOK_PREPARED_STATEMENTS')),
    auditCheckpoint: get('MESHHOOK_AUDIT_CHECKPOINT'),
    logFormat: oneOf('LOG_FORMAT', ['text', 'json'], get('LOG_FORMAT')),
    logLevel: oneOf('LOG_LEVEL', ['info', 'error', 'silent'], get('LOG_LEVEL')),
    jwt: jwtOptions(get),
    notificationsAllow: get('MESHHOOK_NOTIFICATIONS_ALLOW') ?? '',
    home: get('MESHHOOK_HOME') ?? '.meshhook',
  };
}

function jwtOptions(get: (name: string) => string | undefined): JwtOptions | undefined {
  const issuer = get('MESHHOOK_JWT_ISSUER');
  const jwksUrl = get('MESHHOOK_JWKS_URL');
  const secret = get('MESHHOOK_JWT_SECRET');
  if (issuer === undefined && jwksUrl === undefined && secret === undefined) return undefined;
  const audience = get('MESHHOOK_JWT_AUDIENCE');
  const given = { issuer: issuer ?? '', ...(audience === undefined ? {} : { audience }) };
  if (issuer !== undefined && jwksUrl !== undefined && secret === undefined) return { ...given, jwksUrl };
  if (issuer !== undefined && secret !== undefined && jwksUrl === undefined) return { ...given, secret };
  throw new KeyringError('invalid_argument', 'The settings of JWTs are not whole.', {
    remedy: 'Set MESHHOOK_JWT_ISSUER, and either MESHHOOK_JWKS_URL or MESHHOOK_JWT_SECRET.',
  });
}

function onOrOff(name: string, value = 'on'): boolean {
  if (value === 'on' || value === 'off') return value === 'on';
  throw new KeyringError('invalid_argument', `${name} is neither on nor off.`, { remedy: `Set ${name} to on or off.` });
}

/** The first is the default. */
function oneOf<const Word extends string>(
  name: string,
  words: readonly [Word, ...Word[]],
  given: string = words[0],
): Word {
  const word = words.find((candidate) => candidate === given);
  if (word !== undefined) return word;
  throw new KeyringError('invalid_argument', `${name} is none of ${words.join(', ')}.`, {
    remedy: `Set ${name} to one of them, or unset it.`,
  });
}
