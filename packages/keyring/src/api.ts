/**
 * What `openKeyring` gives: the whole public surface in one place, types only. Everything that can fail rejects with a
 * `KeyringError`; its codes are named where they matter. Ids are lower-case UUIDs. Dates are `Date`s. Lists are bounded.
 */

import type { Access, AccessTokens, Grants } from './api-access.ts';
import type { Actor, Audit } from './api-audit.ts';
import type { EncryptedColumns } from './api-columns.ts';
import type { Keys } from './api-keys.ts';
import type { Monitoring } from './api-monitoring.ts';
import type { Notifications } from './api-notifications.ts';
import type { Overview } from './api-overview.ts';
import type { Quarantine } from './api-quarantine.ts';
import type { Rotations } from './api-rotations.ts';
import type { Policies } from './api-schedule.ts';
import type { Instances, RootKeys, WrappingKeys } from './api-upper-keys.ts';

export type * from './api-access.ts';
export type * from './api-audit.ts';
export type * from './api-backup.ts';
export type * from './api-columns.ts';
export type * from './api-keys.ts';
export type * from './api-monitoring.ts';
export type * from './api-notifications.ts';
export type * from './api-overview.ts';
export type * from './api-quarantine.ts';
export type * from './api-rotations.ts';
export type * from './api-schedule.ts';
export type * from './api-upper-keys.ts';

export interface Keyring {
  readonly projects: Projects;
  readonly secrets: Secrets;
  /** Values in columns of your own tables. */
  readonly columns: EncryptedColumns;
  readonly keys: Keys;
  readonly rotations: Rotations;
  readonly policies: Policies;
  readonly notifications: Notifications;
  readonly quarantine: Quarantine;
  readonly rootKeys: RootKeys;
  readonly wrappingKeys: WrappingKeys;
  readonly instances: Instances;
  readonly audit: Audit;
  readonly monitoring: Monitoring;
  readonly access: Access;
  /** Opens every secret, checks the catalog and the hierarchy, and says what is wrong and what to do. Changes nothing. */
  doctor(options?: { readonly onProgress?: (rowsChecked: number) => void }): Promise<DoctorReport>;
  /** How things stand at a glance, for projects `among` (default: all). Fit for a page that many people look at. */
  overview(options?: { readonly among?: ProjectIds }): Promise<Overview>;
  /** Is the database there, migrated, and the wrapping key in hand? @throws KeyringError saying what is not. */
  ready(): Promise<void>;
  /**
   * The same keyring, with the same keys and connections, in the name of somebody else: every entry that is written through it
   * names that actor. Costs next to nothing: make one a request. It is open as long as the original is, whose `close` is the
   * one that counts.
   * @throws TypeError for an actor without a name or of an unknown kind.
   */
  as(actor: Actor): Keyring;
  /**
   * What there is to look at, as far as a principal sees it: `user:ID`, `token:ID` or `person:NAME`. Everything is read under that
   * identity in PostgreSQL, which works out anew for every statement which projects it has, by owners, grants and tokens: what is asked
   * for besides is not there. For principals of projects; to one of the whole instance it shows nothing by that. Costs next to nothing:
   * make one a request.
   * @throws TypeError for anything else.
   */
  seenBy(principal: string): Sight;
  /** Lets go of connections and keys. Waits for nothing: stop your rotations through their signal first. */
  close(): Promise<void>;
}

/** What of a keyring is for looking at what projects have. */
export interface Sight extends Pick<Keyring, 'overview'> {
  readonly projects: Pick<Projects, 'list' | 'resolve'>;
  readonly secrets: Pick<Secrets, 'get' | 'reveal' | 'list'>;
  readonly keys: Pick<Keys, 'get' | 'list' | 'page' | 'exposure'>;
  readonly rotations: Pick<Rotations, 'get' | 'list' | 'standing' | 'projects' | 'receipts' | 'isAmong'>;
  readonly policies: Pick<Policies, 'show' | 'list' | 'next' | 'overdue'>;
  readonly quarantine: Pick<Quarantine, 'list'>;
  readonly audit: Pick<Audit, 'list' | 'export'>;
  readonly access: {
    readonly tokens: Pick<AccessTokens, 'list' | 'get'>;
    readonly grants: Pick<Grants, 'list' | 'get'>;
  };
}

// ── projects ────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Project {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly createdAt: Date;
}

/** Some projects, by their ids, or all there are. */
export type ProjectIds = 'all' | readonly string[];

export interface Projects {
  /** `owner` is a user id; the nil UUID by default. Names are 1 to 200 characters and need not be unique. */
  create(options: { readonly name: string; readonly owner?: string }): Promise<Project>;
  /**
   * By name and id, at most `limit` (default 1,000, at most 10,000), after the project `after`, and only those `among` (default:
   * all) that have `search` in their name, whatever its case.
   */
  list(options?: {
    readonly limit?: number;
    readonly among?: ProjectIds;
    readonly search?: string;
    readonly after?: Pick<Project, 'name' | 'id'>;
  }): Promise<Project[]>;
  /**
   * The project with this id, or the only one with this name. One that is not `among` (default: all) is as good as missing, and as no
   * namesake of another.
   * @throws KeyringError `unknown_project`; `ambiguous_project` with `details.ids`.
   */
  resolve(nameOrId: string, options?: { readonly among?: ProjectIds }): Promise<Project>;
}

// ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A secret that was opened. Prints redacted; the value is reached only by naming `value` or `bytes`. */
export interface OpenedSecret {
  readonly id: string;
  readonly name: string;
  /** The value as UTF-8 text. */
  readonly value: string;
  /** The value as it was stored. Yours: overwrite it when you are done. `value` makes a string, which nobody can overwrite. */
  readonly bytes: Buffer;
  /** True when it is not under the project's primary version: readable, and waiting for a sweep. */
  readonly stale: boolean;
  readonly keyId: string;
  readonly writtenAt: Date | undefined;
}

export interface SecretEntry {
  readonly id: string;
  readonly name: string;
  /** Undefined: a plaintext row from before, not adopted yet. */
  readonly keyId: string | undefined;
  readonly version: number | undefined;
  readonly stale: boolean;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly writtenAt: Date | undefined;
}

export interface Secrets {
  /**
   * Encrypts and stores. The first put of a project makes its version 1. Retries by itself when a promote comes between.
   * Names are 1 to 200 characters without control characters; values 1 to 65,536 bytes.
   * @throws KeyringError `unknown_project`, `invalid_name`, `invalid_value`, `contended` when retries ran out.
   */
  put(projectId: string, name: string, value: string | Uint8Array): Promise<PutResult>;
  /**
   * Reads and opens; undefined when there is no such secret.
   * @throws KeyringError `decryption_failed`; `key_destroyed` naming the version; `illegal_state` for a plaintext row.
   */
  get(projectId: string, name: string): Promise<OpenedSecret | undefined>;
  /**
   * As `get`, for a person who looks at the value: the entry that says so is written before it is given.
   * @throws KeyringError as `get` does; `invalid_argument` without a reason.
   */
  reveal(projectId: string, name: string, options: { readonly reason: string }): Promise<OpenedSecret | undefined>;
  /** By name, without values, at most `limit` (default 1,000, at most 10,000), after the name `after`. */
  list(projectId: string, options?: { readonly limit?: number; readonly after?: string }): Promise<SecretEntry[]>;
  /** False when there was none. */
  remove(projectId: string, name: string): Promise<boolean>;
  /** Encrypts rows from before the keyring, online and resumable. */
  adopt(options?: AdoptOptions): Promise<AdoptReport>;
}

export interface PutResult {
  readonly id: string;
  readonly created: boolean;
  readonly keyId: string;
}

export interface AdoptOptions {
  /** One project instead of all. */
  readonly projectId?: string;
  /**
   * The 32-byte key that old rows are under (AES-256-GCM: 12-byte nonce ‖ ciphertext ‖ 16-byte tag). Without it old rows
   * are taken for plaintext. The caller's buffer is copied, not wiped.
   */
  readonly legacyKey?: Uint8Array;
  /** Counts, and with `legacyKey` trial-opens, but changes nothing. */
  readonly dryRun?: boolean;
  /** Closes the door behind: from then on plaintext cannot be stored. Refused while rows are left. */
  readonly finish?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly adopted: number; readonly total: number }) => void;
}

export interface AdoptReport {
  readonly found: number;
  readonly adopted: number;
  /** Rows that did not open under the legacy key, or are too long or empty; left as they were. */
  readonly failed: readonly { readonly projectId: string; readonly rowId: string; readonly reason: string }[];
  readonly remaining: number;
  readonly finished: boolean;
  readonly dryRun: boolean;
}

// ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface DoctorFinding {
  readonly severity: 'error' | 'warning';
  /** Stable, as `does_not_open`, `missing_fence`, `stale_rows`. */
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
}

export interface DoctorReport {
  /** True when no finding is an error. */
  readonly healthy: boolean;
  readonly rowsChecked: number;
  readonly keysChecked: number;
  readonly findings: readonly DoctorFinding[];
}
