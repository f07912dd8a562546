/**
 * The keys above the data keys, and the processes that use them: what `api.ts` has for what lies below. Types only.
 */
import type { BackupRecord } from './api.ts';
import type { RootKeyProvider } from './providers/provider.ts';

/** Of rotations of the keys above, the newest first: `limit` default 50, at most 500; before the rotation `before`. */
export interface UpperRotationsPage {
  readonly limit?: number;
  readonly before?: string;
}

// ── instances ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A process that has the keyring open, or had it lately. */
export interface Instance {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  /** Who acts there, as `openKeyring` was told. */
  readonly actor: string;
  /** Of the library. */
  readonly version: string;
  readonly startedAt: Date;
  readonly seenAt: Date;
  /** False when it has not been heard of for 15 seconds: nothing waits for it. */
  readonly alive: boolean;
  /** Fingerprints of the root keys through which it has unwrapped a wrapping key, of those that are in use. */
  readonly usableRoots: readonly string[];
  /** Ids of the wrapping keys that it holds unwrapped. */
  readonly wrappingKeys: readonly string[];
  /** Root keys that it was given and cannot use: where each is, and the code of the error. */
  readonly troubles: readonly string[];
}

export interface Instances {
  /** The live first, then those that fell silent within the hour; up to 1,000. */
  list(): Promise<Instance[]>;
}

// ── rotations of the keys above ─────────────────────────────────────────────────────────────────────────────────────

/** How a rotation of a wrapping or a root key is driven. */
export interface UpperRunOptions<Rotation> {
  /** Aborting stops between two statements, leaves the rotation resumable and rejects with `interrupted`. */
  readonly signal?: AbortSignal;
  /** Called a few times a second at most; `waitingFor` are the live instances that cannot follow yet. */
  readonly onProgress?: (rotation: Rotation, waitingFor: readonly Instance[]) => void;
  /** Ids of live instances that are not waited for, on the record: they may fail at what they do next. */
  readonly forcePast?: readonly string[];
  /** While live instances cannot follow: `wait` (the default), or `leave`, resolving with the rotation as it is. */
  readonly whenLagging?: 'wait' | 'leave';
}

// ── wrapping keys ───────────────────────────────────────────────────────────────────────────────────────────────────

export type WrappingKeyState = 'enabled' | 'disabled' | 'compromised' | 'destroyed';

export interface WrappingKeyVersion {
  readonly id: string;
  readonly version: number;
  /** `disabled`: never primary again; it still opens what is under it, as rows that were restored. */
  readonly state: WrappingKeyState;
  /** Is it the one that wraps new keys? */
  readonly active: boolean;
  /** Data and signing keys that are under it. */
  readonly keys: number;
  /** First 16 hex digits of its key check value. */
  readonly fingerprint: string;
  /** Fingerprints of the root keys that it is wrapped by. */
  readonly rootKeys: readonly string[];
  readonly createdAt: Date;
  readonly promotedAt: Date | undefined;
  /** When a root key that had wrapped it was found to have leaked. */
  readonly exposedAt: Date | undefined;
  readonly destroyedAt: Date | undefined;
}

export type WrappingRotationState =
  | 'requested'
  | 'prepared'
  | 'rewrapping'
  | 'verifying'
  | 'completed'
  | 'blocked'
  | 'rolling_back'
  | 'rolled_back'
  | 'canceled'
  | 'failed';

/** A key that could not be wrapped anew. */
export interface BlockingKey {
  readonly kind: 'data' | 'signing';
  readonly id: string;
  /** Of a data key. */
  readonly projectId: string | undefined;
  readonly version: number;
  /** `does_not_open` under the wrapping key it names; that is gone (`key_unavailable`); somebody holds its row (`held`). */
  readonly reason: 'does_not_open' | 'key_unavailable' | 'held';
}

export interface WrappingRotation {
  readonly id: string;
  readonly state: WrappingRotationState;
  /** The wrapping key it leaves is known to others: there is no way back. */
  readonly leaked: boolean;
  readonly fromKeyId: string;
  readonly fromVersion: number;
  /** Undefined until it is made. */
  readonly toKeyId: string | undefined;
  readonly toVersion: number | undefined;
  readonly requestedBy: string;
  readonly reason: string | undefined;
  readonly requestedAt: Date;
  readonly preparedAt: Date | undefined;
  readonly promotedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  /** Keys to wrap anew, as counted when the pointer moved; those that were, on the way back, too; and those read back. */
  readonly keys: { readonly total: number | undefined; readonly moved: number; readonly verified: number };
  /** Ids of instances that it was forced past. */
  readonly forced: readonly string[];
  /** Up to 1,000. */
  readonly blockedBy: readonly BlockingKey[];
  readonly errorCode: string | undefined;
  readonly errorDetail: string | undefined;
}

/** The wrapping keys, between the root key and the data keys, and their rotation: secrets and their keys stay as they are. */
export interface WrappingKeys {
  /** The newest first. */
  list(): Promise<WrappingKeyVersion[]>;
  /**
   * Records a rotation to a next version; nothing changes until somebody runs it. `leaked`: the present one is known to others, and
   * is compromised for good from the moment that it is left.
   * @throws KeyringError `rotation_in_progress` naming the open rotation, of a wrapping or of the root key.
   */
  request(options?: { readonly reason?: string; readonly leaked?: boolean }): Promise<WrappingRotation>;
  /**
   * Drives a rotation to where it comes to rest: makes the next wrapping key, waits until every live instance holds it, moves the
   * pointer, wraps every key anew, reads every one back. Does no harm when two processes do it.
   * @throws KeyringError `unknown_rotation`, `interrupted`, `contended`; `root_key_*`, `wrong_root_key`: it goes on where it
   *   stopped once the root key can be used.
   */
  run(rotationId: string, options?: UpperRunOptions<WrappingRotation>): Promise<WrappingRotation>;
  /** From blocked on. Then `run` it. @throws KeyringError `rotation_not_open`. */
  resume(rotationId: string): Promise<WrappingRotation>;
  /** Before the pointer has moved. @throws KeyringError `rotation_not_open`, `illegal_state` after that. */
  cancel(rotationId: string): Promise<WrappingRotation>;
  /**
   * Moves the pointer back, until the rotation is completed. Then `run` it.
   * @throws KeyringError `rotation_not_open`; `illegal_state` before the pointer has moved, or away from a key that leaked.
   */
  rollback(rotationId: string): Promise<WrappingRotation>;
  get(rotationId: string): Promise<WrappingRotation | undefined>;
  rotations(page?: UpperRotationsPage): Promise<WrappingRotation[]>;
  /**
   * Erases its wrapped bytes for good. Guarded in PostgreSQL, under a lock.
   * @throws KeyringError `unknown_key`, `key_is_primary`, `key_in_use`.
   */
  destroy(keyId: string, options: { readonly reason: string }): Promise<WrappingKeyVersion>;
}

// ── root keys ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A root key that the installation knows, or that this process was given. */
export interface RootKeyEntry {
  readonly fingerprint: string;
  /** Where it is, as it was when it was first used. */
  readonly uri: string;
  /** `disabled`: nothing is wrapped by it any more. Undefined: the installation does not know it. */
  readonly state: 'enabled' | 'disabled' | 'compromised' | 'destroyed' | undefined;
  /** Wrapping keys that are wrapped by it. */
  readonly wrappingKeys: number;
  readonly createdAt: Date | undefined;
  /** Was this process given it, and has it been used here? */
  readonly usableHere: boolean;
  /** Ids of the live instances that can use it. */
  readonly usableBy: readonly string[];
}

export type RootRotationState = 'requested' | 'prepared' | 'completed' | 'canceled' | 'failed';

export interface RootRotation {
  readonly id: string;
  readonly state: RootRotationState;
  /** The root key it leaves is known to others. */
  readonly leaked: boolean;
  readonly from: { readonly uri: string; readonly fingerprint: string };
  readonly to: { readonly uri: string; readonly fingerprint: string };
  readonly requestedBy: string;
  readonly reason: string | undefined;
  readonly requestedAt: Date;
  readonly preparedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  /** Ids of instances that it was forced past. */
  readonly forced: readonly string[];
  readonly errorCode: string | undefined;
  readonly errorDetail: string | undefined;
}

export interface RootRotationRequest {
  /** A URI, or a provider. */
  readonly to: string | RootKeyProvider;
  readonly reason?: string;
  /** The present root key is known to others: it is compromised for good, and the wrapping key is rotated right after. */
  readonly leaked?: boolean;
}

/** The root keys, outside the database, and the move from one to another: wrapping keys stay as they are. */
export interface RootKeys {
  /** Those that are in use first. */
  list(): Promise<RootKeyEntry[]>;
  /** What the database remembers of backups of the wrapping keys, the newest first, up to a thousand. */
  backups(): Promise<BackupRecord[]>;
  /** Root keys that this process was given and cannot use: where each is, and why. */
  troubles(): readonly { readonly name: string; readonly error: Error }[];
  /**
   * Has this process use another root key, too, from now on: what a restart with it would do. Gives its fingerprint.
   * @throws KeyringError `root_key_*` of its provider.
   */
  use(root: string | RootKeyProvider): Promise<string>;
  /**
   * Opens the new root key, and records a rotation to it; nothing changes until somebody runs it.
   * @throws KeyringError `rotation_in_progress` naming the open rotation, of a wrapping or of the root key; `conflict` when everything is
   *   under that root key already; `illegal_state` when that one is compromised; `root_key_*` of its provider.
   */
  request(request: RootRotationRequest): Promise<RootRotation>;
  /**
   * Drives a rotation to its end: every wrapping key also wrapped by the new root key, read back through it and compared; then,
   * once every live instance has reported that it can use it, the old one is disabled, and what it had wrapped is erased. Until
   * then either will do. A `leaked` one is compromised, and a rotation of the wrapping key is open after it: run that as well.
   * @throws KeyringError `unknown_rotation`, `interrupted`; `wrong_root_key` when this process was not given the new root key;
   *   `root_key_*`: it goes on where it stopped once the root key can be used.
   */
  run(rotationId: string, options?: UpperRunOptions<RootRotation>): Promise<RootRotation>;
  /** Until it is completed: what the new root key wrapped for it is erased. @throws KeyringError `rotation_not_open`. */
  cancel(rotationId: string): Promise<RootRotation>;
  get(rotationId: string): Promise<RootRotation | undefined>;
  rotations(page?: UpperRotationsPage): Promise<RootRotation[]>;
}
