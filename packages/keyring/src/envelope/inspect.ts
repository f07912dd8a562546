import { ENVELOPE_OVERHEAD, FORMAT_VERSION, parseEnvelope, uuidFromBytes } from './format.ts';

/** What an envelope says in the clear. */
export interface EnvelopeFacts {
  readonly formatVersion: number;
  readonly algorithm: 'AES-256-GCM';
  readonly keyId: string;
  /** Hex. */
  readonly nonce: string;
  /** Length of the value inside. */
  readonly plaintextBytes: number;
  readonly totalBytes: number;
}

/**
 * Explains an envelope without opening it: needs no key and reveals no value but its length.
 * @throws KeyringError `malformed_envelope`, `unsupported_envelope`.
 */
export function inspectEnvelope(bytes: Uint8Array): EnvelopeFacts {
  const { keyId, nonce } = parseEnvelope(bytes);
  return {
    formatVersion: FORMAT_VERSION,
    algorithm: 'AES-256-GCM',
    keyId: uuidFromBytes(keyId),
    nonce: Buffer.from(nonce).toString('hex'),
    plaintextBytes: bytes.length - ENVELOPE_OVERHEAD,
    totalBytes: bytes.length,
  };
}
