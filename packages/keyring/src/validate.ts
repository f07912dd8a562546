import { KeyringError } from './errors.ts';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
// Control characters, and the marks that turn the direction of text around: a name must look like what it is.
const unprintable = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

export const MAX_NAME_CHARACTERS = 200;

export function isUuid(text: string): boolean {
  return uuid.test(text);
}

/** The UUID in lower case, as PostgreSQL prints it. @throws KeyringError `invalid_argument`. */
export function requireUuid(what: string, text: string): string {
  if (!isUuid(text)) throw new KeyringError('invalid_argument', `The ${what} is not a UUID.`);
  return text.toLowerCase();
}

const MAX_REASON = 1000;

/** @throws KeyringError `invalid_argument` for a reason over 1,000 characters. */
export function requireReason(reason: string | undefined): void {
  if (reason !== undefined && reason.length > MAX_REASON) {
    throw new KeyringError('invalid_argument', `The reason has more than ${String(MAX_REASON)} characters.`);
  }
}

/** For what is not done without one. @throws KeyringError `invalid_argument` for a reason that is blank or too long. */
export function requireGivenReason(reason: string): void {
  requireReason(reason);
  if (reason.trim() === '')
    throw new KeyringError('invalid_argument', 'A reason is wanted.', {
      remedy: 'Say why: --reason, or `reason` of the API.',
    });
}

/** @throws KeyringError `invalid_name` when empty, over 200 characters, or with control characters. */
export function requireName(what: string, name: string): void {
  const length = [...name].length;
  if (length === 0) throw new KeyringError('invalid_name', `The ${what} is empty.`);
  if (length > MAX_NAME_CHARACTERS) {
    throw new KeyringError(
      'invalid_name',
      `The ${what} has ${String(length)} characters; at most ${String(MAX_NAME_CHARACTERS)} are allowed.`,
    );
  }
  if (!name.isWellFormed() || unprintable.test(name)) {
    throw new KeyringError('invalid_name', `The ${what} has control characters in it.`);
  }
}
