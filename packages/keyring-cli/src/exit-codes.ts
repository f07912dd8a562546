import { KeyringError, type ErrorCode } from '@meshhook/keyring';
import { CommanderError } from 'commander';

/** What a shell learns from us. Documented in `mh-keys --help` and docs/cli.md; a number never changes its meaning. */
export const exitCodes = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  notFound: 3,
  conflict: 4,
  unhealthy: 5,
  crypto: 6,
  database: 7,
  interrupted: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export const exitCodeMeanings: Readonly<Record<ExitCode, string>> = {
  0: 'done',
  1: 'unexpected: a bug of ours, or a computer in trouble',
  2: 'usage: an argument, option, name or value that cannot be',
  3: 'not found, or not the only one of its name',
  4: 'not now: the state of things forbids it',
  5: 'blocked or unhealthy: rows or checks failed, and are named',
  6: 'a key or a ciphertext cannot be used',
  7: 'the database is not there, or its schema is not ours',
  130: 'interrupted; what was begun can be resumed',
};

const { unexpected, usage, notFound, conflict, unhealthy, crypto, database, interrupted } = exitCodes;

export const exitCodeOf = {
  invalid_argument: usage,
  invalid_name: usage,
  invalid_value: usage,
  // Only the HTTP API has callers that authenticate.
  unauthenticated: unexpected,
  issuer_unreachable: unexpected,
  forbidden: unexpected,
  unknown_project: notFound,
  ambiguous_project: notFound,
  project_exists: conflict,
  unknown_secret: notFound,
  unknown_key: notFound,
  unknown_rotation: notFound,
  not_quarantined: notFound,
  unknown_token: notFound,
  unknown_grant: notFound,
  unknown_approval: notFound,
  rotation_in_progress: conflict,
  rotation_not_open: conflict,
  rotation_blocked: unhealthy,
  nothing_to_rotate: conflict,
  illegal_state: conflict,
  conflict,
  idempotency_conflict: conflict,
  contended: conflict,
  key_is_primary: conflict,
  key_in_use: conflict,
  retention_not_over: conflict,
  row_opens: conflict,
  unregistered_column: unhealthy,
  plaintext_refused: conflict,
  interrupted,
  approval_needed: conflict,
  decryption_failed: crypto,
  malformed_envelope: crypto,
  unsupported_envelope: crypto,
  key_destroyed: crypto,
  key_disabled: crypto,
  receipt_invalid: crypto,
  audit_broken: unhealthy,
  root_key_missing: crypto,
  root_key_unreadable: crypto,
  root_key_permissions: crypto,
  root_key_exists: conflict,
  root_key_unreachable: crypto,
  root_key_denied: crypto,
  root_key_disabled: crypto,
  unsupported_root_key: usage,
  wrong_root_key: crypto,
  backup_exists: conflict,
  backup_unwritten: unexpected,
  backup_locked: crypto,
  backup_unreadable: crypto,
  backup_mismatch: crypto,
  backup_incomplete: unhealthy,
  database_unreachable: database,
  not_migrated: database,
  schema_too_new: database,
  database_refused: database,
  internal: unexpected,
} as const satisfies Record<ErrorCode, ExitCode>;

/** The answer was given, and it is a bad one: rows or checks that failed are named in it. */
export class Unhealthy extends Error {
  readonly remedy: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(message: string, remedy: string, details: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.remedy = remedy;
    this.details = details;
  }
}

export function exitCodeFor(error: unknown): ExitCode {
  if (error instanceof Unhealthy) return unhealthy;
  if (error instanceof KeyringError) return exitCodeOf[error.code];
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : usage;
  return unexpected;
}
