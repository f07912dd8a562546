import { MAX_PLAINTEXT_BYTES } from '../envelope/format.ts';
import { KeyringError } from '../errors.ts';
import { wipe } from '../secret-bytes.ts';

/** Gives the bytes of a value, and wipes them where they are a copy. @throws KeyringError `invalid_value`. */
export async function withValue<T>(
  value: string | Uint8Array,
  work: (plaintext: Uint8Array) => Promise<T>,
): Promise<T> {
  const plaintext = requireValue(value);
  try {
    return await work(plaintext);
  } finally {
    if (typeof value === 'string') wipe(plaintext);
  }
}

/** A value's bytes: a copy of a text, the caller's own otherwise. */
function requireValue(value: string | Uint8Array): Uint8Array {
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
