import { dataKeyAad } from '../envelope/aad.ts';
import { open } from '../envelope/seal.ts';
import { decryptionFailed } from '../errors.ts';
import { equalBytes, KEY_BYTES, keyFingerprint, keyFromBytes, wipe, type SecretKey } from '../secret-bytes.ts';
import type { EncryptionKeyRow } from './store.ts';
import type { WrappingKey } from './wrapping-keys.ts';

/**
 * The data key of a row, from its wrapped bytes, by the wrapping key that it names.
 * @throws KeyringError `decryption_failed` when they do not belong together.
 */
export function unwrapDataKey(
  row: Pick<EncryptionKeyRow, 'id' | 'project_id' | 'version' | 'fingerprint'>,
  wrapped: Uint8Array,
  wrapping: Pick<WrappingKey, 'id' | 'key'>,
): SecretKey {
  const place = { projectId: row.project_id, version: row.version, keyId: row.id, wrappingKeyId: wrapping.id };
  const bytes = open(wrapping.key, wrapping.id, wrapped, dataKeyAad(place));
  if (bytes.length !== KEY_BYTES) {
    wipe(bytes);
    throw decryptionFailed();
  }
  const key = keyFromBytes(bytes);
  if (!equalBytes(keyFingerprint(key, row.id), row.fingerprint)) throw decryptionFailed();
  return key;
}
