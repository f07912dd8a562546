import { randomUUID } from 'node:crypto';
import { KeyringError, type ErrorCode } from '@meshhook/keyring';

/**
 * The status of every code of the library: one each, so that a program may look at either. A 4xx is the caller's to
 * change; a 5xx is the operator's.
 */
const keyringStatus = {
  invalid_argument: 400,
  invalid_name: 400,
  invalid_value: 400,
  unauthenticated: 401,
  forbidden: 403,

  unknown_project: 404,
  unknown_secret: 404,
  unknown_key: 404,
  unknown_rotation: 404,
  not_quarantined: 404,
  unknown_token: 404,
  unknown_grant: 404,
  unknown_approval: 404,

  // Not done, but asked for: another admin decides.
  approval_needed: 202,

  ambiguous_project: 409,
  project_exists: 409,
  rotation_in_progress: 409,
  rotation_not_open: 409,
  rotation_blocked: 409,
  nothing_to_rotate: 409,
  illegal_state: 409,
  conflict: 409,
  idempotency_conflict: 409,
  key_is_primary: 409,
  key_in_use: 409,
  retention_not_over: 409,
  row_opens: 409,
  unregistered_column: 409,
  root_key_exists: 409,
  backup_exists: 409,
  backup_mismatch: 409,
  backup_incomplete: 409,
  plaintext_refused: 422,
  receipt_invalid: 422,
  backup_locked: 422,
  backup_unreadable: 422,
  malformed_envelope: 422,
  unsupported_envelope: 422,

  issuer_unreachable: 503,
  contended: 503,
  interrupted: 503,
  database_unreachable: 503,
  not_migrated: 503,
  schema_too_new: 503,
  root_key_missing: 503,
  root_key_unreadable: 503,
  root_key_permissions: 503,
  root_key_unreachable: 503,
  root_key_denied: 503,
  root_key_disabled: 503,
  unsupported_root_key: 503,
  wrong_root_key: 503,

  decryption_failed: 500,
  key_destroyed: 500,
  key_disabled: 500,
  audit_broken: 500,
  database_refused: 500,
  backup_unwritten: 500,
  internal: 500,
} satisfies Record<ErrorCode, number>;

/** What only HTTP can get wrong. */
const httpStatus = {
  malformed_json: 400,
  unknown_route: 404,
  method_not_allowed: 405,
  body_too_slow: 408,
  body_too_large: 413,
  rate_limited: 429,
  unsupported_media_type: 415,
  too_many_streams: 503,
} satisfies Record<string, number>;

export type HttpCode = keyof typeof httpStatus;
export type ProblemCode = ErrorCode | HttpCode;

export const httpCodes = Object.keys(httpStatus) as HttpCode[];
export const statusOfCode: Readonly<Record<ProblemCode, number>> = { ...keyringStatus, ...httpStatus };

/** RFC 9457, with our members: `code` (stable), `remedy` (for a person), and where they help `details`, `fields`, `id`. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
  readonly remedy?: string | undefined;
  /** Facts for a program: ids, limits, counts. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
  /** What is wrong with the request, field by field. */
  readonly fields?: readonly { readonly field: string; readonly message: string }[] | undefined;
  /** Of a 5xx: under what the operator finds it in the log. */
  readonly id?: string | undefined;
}

type ProblemMembers = Pick<Problem, 'remedy' | 'details' | 'fields' | 'id'>;

const RETRY_AFTER_SECONDS = '5';

export function problem(
  code: ProblemCode,
  detail: string,
  members: ProblemMembers = {},
  headers: Readonly<Record<string, string>> = {},
): Response {
  const status = statusOfCode[code];
  const title = code.charAt(0).toUpperCase() + code.slice(1).replaceAll('_', ' ');
  const body: Problem = { type: `urn:meshhook:keyring:problem:${code}`, title, status, detail, code, ...members };
  return new Response(toJson(body), {
    status,
    headers: {
      'content-type': 'application/problem+json',
      ...(status === 503 ? { 'retry-after': RETRY_AFTER_SECONDS } : {}),
      ...headers,
    },
  });
}

/**
 * The answer to something that was thrown. A caller's mistake is told in full. Of what is ours only the code goes out, and
 * an id; the message, which may name hosts and paths, goes to the log under that id.
 */
export function problemOf(error: unknown, onError: (error: unknown, id: string) => void): Response {
  const code = error instanceof KeyringError ? error.code : 'internal';
  if (error instanceof KeyringError && statusOfCode[code] < 500) {
    const details = Object.keys(error.details).length === 0 ? undefined : error.details;
    return problem(code, error.message, { remedy: error.remedy, details });
  }
  const id = randomUUID();
  onError(error, id);
  return problem(code, 'The server could not answer; why is in its log.', {
    remedy: `Ask the operator for the log entry ${id}.`,
    id,
  });
}

/** JSON, whatever numbers are in it: a `details` may hold a count that only a bigint holds. */
function toJson(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) => (typeof member === 'bigint' ? member.toString() : member));
}
