/** Key versions. Types only. */

import type { ProjectIds, Rotation } from './api.ts';

/** NIST SP 800-57 part 1: what people are shown. */
export type KeyStatus = 'pre-activation' | 'active' | 'deactivated' | 'suspended' | 'compromised' | 'destroyed';

export interface KeyVersion {
  readonly id: string;
  readonly projectId: string;
  readonly projectName: string;
  readonly version: number;
  readonly status: KeyStatus;
  /** Is it the primary: the one that encrypts? */
  readonly active: boolean;
  /** Rows that name it, over every registered column. */
  readonly rows: number;
  /** First 16 hex digits of its key check value. */
  readonly fingerprint: string;
  readonly createdAt: Date;
  readonly activatedAt: Date | undefined;
  readonly deactivatedAt: Date | undefined;
  /** Fixed when the version is retired; it can be destroyed after that. */
  readonly retentionUntil: Date | undefined;
  readonly destroyedAt: Date | undefined;
  /** Encryptions accounted for under it, rounded up by a block a process (SP 800-38D bounds them). */
  readonly encryptions: number;
  /** When it was last used to encrypt or to open a value for somebody, to the hour; rotations apart. Undefined: not since this is kept. */
  readonly lastUsedAt: Date | undefined;
  /** For the primary: when its policy wants it rotated, quiet hours included. Undefined: never, or quiet hours do not open again. */
  readonly nextDueAt: Date | undefined;
}

/** Where a version stands among all of them. */
export type KeyPosition = Pick<KeyVersion, 'projectName' | 'projectId' | 'version'>;

/** A value that was under a version, by the name it had. */
export interface ExposedSecret {
  /** The registry's label of the column, as `secrets.value`. */
  readonly label: string;
  readonly rowId: string;
  /** Undefined for rows that only their table knows: adopted ones, other tables. */
  readonly name: string | undefined;
  /** When the value was set. Undefined: not known, hence counted in. */
  readonly writtenAt: Date | undefined;
  /** When it was overwritten or deleted. Undefined: it is the present value, or not known. */
  readonly replacedAt: Date | undefined;
}

export interface Exposure {
  readonly secrets: readonly ExposedSecret[];
  /**
   * The version is older than the end of what was archived of the trail: values that were replaced or deleted before this moment are in the
   * archive, and may be missing here. Undefined: nothing is.
   */
  readonly archivedUntil: Date | undefined;
}

export interface Keys {
  /** By project name and version; `limit` projects (default 1,000, at most 10,000), and only those `among` (default: all). */
  list(options?: {
    readonly projectId?: string;
    readonly limit?: number;
    readonly among?: ProjectIds;
  }): Promise<KeyVersion[]>;
  /**
   * One page of them, for any number of projects: by project name, project id and version, after the position `after`; `limit`
   * versions (default 100, at most 10,000). `search` is in the project's name, whatever its case; `due` is about primary versions:
   * does their policy want them rotated, by age or by use?
   */
  page(options?: {
    readonly among?: ProjectIds;
    readonly projectId?: string;
    readonly search?: string;
    readonly status?: KeyStatus;
    readonly due?: boolean;
    readonly after?: KeyPosition;
    readonly limit?: number;
  }): Promise<KeyVersion[]>;
  /** Undefined when there is none. */
  get(keyId: string): Promise<KeyVersion | undefined>;
  /**
   * Erases the wrapped key for good. Guarded in PostgreSQL, under a lock. `early` ends a retention window first, which takes two
   * people where there are two admins: backups from before are not opened any more.
   * @throws KeyringError `unknown_key`, `key_is_primary`, `key_in_use`, `retention_not_over`, `unregistered_column`;
   *   `approval_needed` with `details.approval`.
   */
  destroy(keyId: string, options: { readonly reason: string; readonly early?: boolean }): Promise<KeyVersion>;
  /**
   * Suspends a version: from now on it opens nothing (another process may use what it has unwrapped for `keyCacheMs` more).
   * Shows, before it is destroyed, whether anything still needs it. Refused while a row names it. No effect on one that is
   * suspended already.
   * @throws KeyringError `unknown_key`, `key_is_primary`, `key_in_use`, `key_destroyed`, `unregistered_column`; `illegal_state`
   *   for a compromised version; `contended` when a transaction with rows of it stays open.
   */
  disable(keyId: string, options: { readonly reason: string }): Promise<KeyVersion>;
  /**
   * Brings a suspended version back, at any time until it is destroyed, which its retention window forbids.
   * @throws KeyringError `unknown_key`, `key_destroyed`; `illegal_state` for a compromised version, and for one that is not suspended.
   */
  restore(keyId: string, options: { readonly reason: string }): Promise<KeyVersion>;
  /**
   * The exposure report: every value that was ever under this version, overwritten and deleted ones from the trail. Rather
   * one too many than one too few; up to 100,000.
   * @throws KeyringError `unknown_key`.
   */
  exposure(keyId: string): Promise<Exposure>;
}

/** What a compromise did. Rotation cannot un-leak a value: those of the exposure report must be changed at their source. */
export interface Compromise {
  readonly key: KeyVersion;
  /** The emergency rotation, to be `run` now. Undefined when the version neither encrypts nor holds a row any more. */
  readonly rotation: Rotation | undefined;
  /** Rotations that were overtaken. */
  readonly overtaken: readonly string[];
}
