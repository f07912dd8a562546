import type { KeyringError } from '../errors.ts';

/**
 * What a root-key provider does, and all it does (the contract of Kubernetes' KMS v2, in three methods). A provider
 * wraps and unwraps wrapping keys, 32 bytes each; it never sees a data key or a secret.
 */
export interface RootKeyProvider {
  /** The URI it was made from, without credentials: shown to people and stored. */
  readonly uri: string;

  /**
   * Encrypts `key` (32 bytes), bound to `context`.
   * @throws KeyringError `root_key_*` naming the remedy.
   */
  wrap(key: Uint8Array, context: Uint8Array): Promise<WrapResult>;

  /**
   * The inverse of `wrap`. The caller owns the result and zeroes it.
   * @throws KeyringError `decryption_failed` when key, context or bytes do not belong together.
   */
  unwrap(wrapped: Uint8Array, context: Uint8Array): Promise<Uint8Array>;

  /** Which root key this is, and whether it can be used now. Says so, and does not throw. */
  status(): Promise<RootKeyStatus>;
}

export interface WrapResult {
  readonly wrapped: Uint8Array;
  /** The fingerprint of the root key that was used, as `status` gives it. */
  readonly fingerprint: string;
}

export interface RootKeyStatus {
  readonly healthy: boolean;
  /** Names the root key without revealing it: 32 lower-case hex digits. Equal for equal keys. */
  readonly fingerprint: string;
  /** Why it is not healthy, with the remedy. */
  readonly trouble?: KeyringError;
}
