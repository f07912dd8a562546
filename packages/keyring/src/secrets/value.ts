import { MAX_PLAINTEXT_BYTES } from '../envelope/format.ts';
import { KeyringError } from '../errors.ts';

/** A value's bytes: a copy of a text, the caller's own otherwise. @throws KeyringError `invalid_value`. */
export function requireValue(value: string | Uint8Array): Uint8Array {
  if (typeof value === 'string' && !value.isWellFormed()) {
    throw new KeyringError('invalid_value', 'The value is not well-formed Unicode; pass it as bytes.');
  }
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  if (bytes.length === 0) throw new KeyringError('invalid_value', 'The value is empty.');
  if (bytes.length > MAX_PLAINTEXT_BYTES) {
    throw new KeyringError(
      'invalid_value',
      `The value has ${String(bytes.length)} bytes; at most ${String(MAX_PLAINTEXT_BYTES)} are allowed.`,
    );
  }
  return bytes;
}
