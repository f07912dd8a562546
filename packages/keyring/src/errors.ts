/**
 * Every way the keyring says no. A code is stable: it is in the HTTP API's problems, in `--json` output and in the
 * documentation, and is never reused for another meaning.
 */
export const errorCodes = [
  // What the caller gave.
  'invalid_argument',
  'invalid_name',
  'invalid_value',
  'unauthenticated',
  'issuer_unreachable',
  'forbidden',
  // What was named does not exist, or is named twice.
  'unknown_project',
  'ambiguous_project',
  'project_exists',
  'unknown_secret',
  'unknown_key',
  'unknown_rotation',
  'not_quarantined',
  'unknown_token',
  'unknown_grant',
  'unknown_approval',
  // The moment is wrong.
  'rotation_in_progress',
  'rotation_not_open',
  'rotation_blocked',
  'nothing_to_rotate',
  'illegal_state',
  'conflict',
  'idempotency_conflict',
  'contended',
  'key_is_primary',
  'key_in_use',
  'retention_not_over',
  'row_opens',
  'unregistered_column',
  'plaintext_refused',
  'interrupted',
  'approval_needed',
  // Keys and ciphertext.
  'decryption_failed',
  'malformed_envelope',
  'unsupported_envelope',
  'key_destroyed',
  'key_disabled',
  'receipt_invalid',
  // The trail.
  'audit_broken',
  // The root key.
  'root_key_missing',
  'root_key_unreadable',
  'root_key_permissions',
  'root_key_exists',
  'root_key_unreachable',
  'root_key_denied',
  'root_key_disabled',
  'unsupported_root_key',
  'wrong_root_key',
  // Backups of it.
  'backup_exists',
  'backup_unwritten',
  'backup_locked',
  'backup_unreadable',
  'backup_mismatch',
  'backup_incomplete',
  // The database.
  'database_unreachable',
  'not_migrated',
  'schema_too_new',
  'database_refused',
  'internal',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

export interface KeyringErrorOptions {
  /** What to do about it, one sentence for a person. */
  readonly remedy?: string;
  /** Facts for a program (ids, limits, counts): never a value, a key or a credential. */
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/**
 * The one error class of the library. `message` says what is wrong, `remedy` what to do about it; neither ever holds a
 * secret's value or key bytes. Programmer misuse (an option that does not exist) is a `TypeError` instead.
 */
export class KeyringError extends Error {
  override readonly name = 'KeyringError';
  readonly code: ErrorCode;
  readonly remedy: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: KeyringErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.remedy = options.remedy;
    this.details = options.details ?? {};
  }
}

/**
 * The one answer to wrong key, wrong place and tampered bytes: telling them apart would tell an attacker which.
 */
export function decryptionFailed(): KeyringError {
  return new KeyringError('decryption_failed', 'The ciphertext could not be opened.', {
    remedy: 'Run `mh-keys doctor`: it names every row that does not open.',
  });
}
