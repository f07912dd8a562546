import type { KeyVersion } from '../api.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { KeyringError } from '../errors.ts';

export function unknownKey(keyId: string): KeyringError {
  return new KeyringError('unknown_key', `There is no key version ${keyId}.`, { remedy: 'Run `mh-keys keys list`.' });
}

/** What the guard in PostgreSQL said of suspending or destroying a version, for people. Undefined for any other error. */
export function refusal(error: unknown, key: KeyVersion): KeyringError | undefined {
  const details = { keyId: key.id, sqlState: sqlState(error) };
  const name = `Version ${String(key.version)} of ${key.projectName}`;
  if (sqlState(error) === sqlStates.retentionNotOver) {
    const until = key.retentionUntil;
    return new KeyringError(
      'retention_not_over',
      until === undefined
        ? `${name} was not retired by a finished rotation.`
        : `${name} is kept until ${until.toISOString()}, so that backups from before still open.`,
      {
        details,
        remedy: until === undefined ? 'Rotate the project first.' : 'Destroy it after that, or with --early.',
      },
    );
  }
  if (sqlState(error) !== sqlStates.inUse) return undefined;
  if (key.active) {
    return new KeyringError('key_is_primary', `${name} is the primary: it encrypts.`, {
      details,
      remedy: 'Rotate the project first.',
    });
  }
  return new KeyringError('key_in_use', `${name} is still in use: ${(error as Error).message}`, {
    details,
    remedy: 'Rotate the project: a finished rotation leaves no row under an old version.',
  });
}
