/**
 * What `openKeyring` gives: the whole public surface in one place, types only. Everything that can fail rejects with a
 * `KeyringError`; its codes are named where they matter. Ids are lower-case UUIDs. Dates are `Date`s. Lists are bounded.
 */

export interface Keyring {
  readonly projects: Projects;
  readonly secrets: Secrets;
  readonly keys: Keys;
  readonly rotations: Rotations;
  readonly quarantine: Quarantine;
  readonly audit: Audit;
  /** Opens every secret, checks the catalog and the hierarchy, and says what is wrong and what to do. Changes nothing. */
  doctor(options?: { readonly onProgress?: (rowsChecked: number) => void }): Promise<DoctorReport>;
  /** Is the database there, migrated, and the wrapping key in hand? @throws KeyringError saying what is not. */
  ready(): Promise<void>;
  /** Lets go of connections and keys. Waits for nothing: stop your rotations through their signal first. */
  close(): Promise<void>;
}

// ── projects ────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Project {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly createdAt: Date;
}

export interface Projects {
  /** `owner` is a user id; the nil UUID by default. Names are 1 to 200 characters and need not be unique. */
  create(options: { readonly name: string; readonly owner?: string }): Promise<Project>;
  /** By name, at most `limit` (default 1,000, at most 10,000). */
  list(options?: { readonly limit?: number }): Promise<Project[]>;
  /**
   * The project with this id, or the only one with this name.
   * @throws KeyringError `unknown_project`; `ambiguous_project` with `details.ids`.
   */
  resolve(nameOrId: string): Promise<Project>;
}

// ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A secret that was opened. Prints redacted; the value is reached only by naming `value` or `bytes`. */
export interface OpenedSecret {
  readonly id: string;
  readonly name: string;
  /** The value as UTF-8 text. */
  readonly value: string;
  /** The value as it was stored. */
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

// ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
  /** For the primary: when its policy (90 days by default) wants it rotated. */
  readonly nextDueAt: Date | undefined;
}

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

export interface Keys {
  /** By project name and version; `limit` projects (default 1,000, at most 10,000). */
  list(options?: { readonly projectId?: string; readonly limit?: number }): Promise<KeyVersion[]>;
  /** Undefined when there is none. */
  get(keyId: string): Promise<KeyVersion | undefined>;
  /**
   * Erases the wrapped key for good. Guarded in PostgreSQL, under a lock.
   * @throws KeyringError `unknown_key`, `key_is_primary`, `key_in_use`, `retention_not_over`, `unregistered_column`.
   */
  destroy(keyId: string, options: { readonly reason: string }): Promise<KeyVersion>;
  /**
   * Suspends a version: from now on it opens nothing (another process may use what it has unwrapped for `keyCacheMs` more).
   * Shows, before it is destroyed, whether anything still needs it. Refused while a row names it. No effect on one that is
   * suspended already.
   * @throws KeyringError `unknown_key`, `key_is_primary`, `key_in_use`, `key_destroyed`, `unregistered_column`; `illegal_state`
   *   for a compromised version; `contended` when a transaction with rows of it stays open.
   */
  disable(keyId: string, options: { readonly reason: string }): Promise<KeyVersion>;
  /**
   * Brings a suspended version back, at any time until it is destroyed, which its retention window forbids. No effect on one
   * that is not suspended.
   * @throws KeyringError `unknown_key`, `key_destroyed`; `illegal_state` for a compromised version.
   */
  restore(keyId: string, options: { readonly reason: string }): Promise<KeyVersion>;
  /**
   * The exposure report: every value that was ever under this version, overwritten and deleted ones from the trail. Rather
   * one too many than one too few; up to 100,000.
   * @throws KeyringError `unknown_key`.
   */
  exposure(keyId: string): Promise<ExposedSecret[]>;
}

/** What a compromise did. Rotation cannot un-leak a value: those of the exposure report must be changed at their source. */
export interface Compromise {
  readonly key: KeyVersion;
  /** The emergency rotation, to be `run` now. Undefined when the version neither encrypts nor holds a row any more. */
  readonly rotation: Rotation | undefined;
  /** Rotations that were overtaken. */
  readonly overtaken: readonly string[];
}

// ── rotations ───────────────────────────────────────────────────────────────────────────────────────────────────────

export type RotationState =
  'requested' | 'running' | 'paused' | 'blocked' | 'rolling_back' | 'completed' | 'rolled_back' | 'canceled' | 'failed';

/**
 * `polite`: batches take turns with pauses, and back off when they, or ordinary reads, get slower. The first thousand rows pass
 * at once. `full`: as fast as it goes. An emergency is always `full`.
 */
export type RotationPace = 'polite' | 'full';

export interface PaceChange {
  readonly pace?: RotationPace;
  /**
   * Rows a second at most, 1 to 1,000,000, for each process that works on the rotation; sweeping and reading back are each
   * held to it. `null` lifts it.
   */
  readonly maxRate?: number | null;
}

export type RotationProjectState =
  | 'requested'
  | 'staged'
  | 'sweeping'
  | 'verifying'
  | 'completed'
  | 'blocked'
  | 'rolling_back'
  | 'rolled_back'
  | 'canceled'
  | 'failed';

export interface Rotation {
  readonly id: string;
  readonly scope: 'projects' | 'all';
  readonly trigger: 'manual' | 'api' | 'usage' | 'compromise';
  readonly state: RotationState;
  readonly requestedBy: string;
  readonly reason: string | undefined;
  readonly requestedAt: Date;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  /** From start to end, or to now. */
  readonly durationMs: number | undefined;
  /** A live process that drives it now, if any. */
  readonly runner: string | undefined;
  readonly pace: RotationPace;
  readonly maxRate: number | undefined;
  readonly projects: { readonly total: number } & Readonly<Partial<Record<RotationProjectState, number>>>;
  readonly rows: {
    readonly total: number;
    readonly moved: number;
    readonly verified: number;
    readonly quarantined: number;
  };
}

export interface RotationProject {
  readonly projectId: string;
  readonly projectName: string;
  readonly state: RotationProjectState;
  readonly direction: 'forward' | 'back';
  readonly sourceKeyId: string | undefined;
  readonly sourceVersion: number | undefined;
  readonly targetKeyId: string | undefined;
  readonly targetVersion: number | undefined;
  readonly rowsTotal: number | undefined;
  readonly rowsMoved: number;
  readonly rowsVerified: number;
  readonly rowsQuarantined: number;
  readonly errorCode: string | undefined;
  readonly errorDetail: string | undefined;
  readonly stagedAt: Date | undefined;
  readonly promotedAt: Date | undefined;
  readonly sweptAt: Date | undefined;
  readonly verifiedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
}

export interface QuarantinedRow {
  readonly projectId: string;
  /** The registry's label of the column, as `secrets.value`. */
  readonly label: string;
  readonly rowId: string;
  readonly keyId: string | undefined;
  readonly reason: 'does_not_open' | 'malformed' | 'unknown_key' | 'key_unavailable';
  readonly noticedAt: Date;
}

export interface RotationDetail extends Rotation {
  /** Up to 1,000, the unfinished first. */
  readonly projectDetails: readonly RotationProject[];
  /** Up to 1,000. */
  readonly quarantine: readonly QuarantinedRow[];
}

/** `due`: by age or usage, as their policies say. Otherwise: primary version made before a moment. */
export type ProjectMatch = { readonly due: true } | { readonly madeBefore: Date };

export interface RotationRequest {
  /** Project ids; every project that has a key; or those that match, leaving out what another rotation holds. */
  readonly projects: readonly string[] | 'all' | ProjectMatch;
  readonly reason?: string;
  readonly trigger?: 'manual' | 'api' | 'usage';
  /** Default `polite`. */
  readonly pace?: RotationPace;
  /** As `PaceChange` has it. Default: none. */
  readonly maxRate?: number;
}

/**
 * A part of a rotation that any process may do at any time, more than once, and beside others: it begins with what the
 * database says. Plain JSON, for a queue.
 */
export type WorkUnit = ProjectsUnit | RowsUnit;

/** Projects, each taken as far as it goes. */
export interface ProjectsUnit {
  readonly kind: 'projects';
  readonly rotationId: string;
  readonly projectIds: readonly string[];
  /** Which try it is for them, from 1: how long it waits for what others hold, and when it gives up. */
  readonly attempt: number;
  /** A project of more rows than twice this is given back in parts of about so many. Without it, no project is. */
  readonly partRows?: number;
}

/** The rows of one large project on a range of heap blocks of a column's table, moved as far as they will go in one pass. */
export interface RowsUnit {
  readonly kind: 'rows';
  readonly rotationId: string;
  /** The one project. */
  readonly projectIds: readonly [string];
  /** The label of the column. */
  readonly label: string;
  readonly fromBlock: number;
  /** Exclusive. Rows that are further back by then are found by the pass that follows. */
  readonly toBlock: number;
  /** About how many rows of the project they hold. */
  readonly rows: number;
}

export interface WorkResult {
  /** Projects that want another try, as number `attempt`, after a while: somebody holds a row or a keyring of theirs. */
  readonly waiting: readonly { readonly projectId: string; readonly attempt: number; readonly afterMs: number }[];
  /** Projects whose own rows in the rotation somebody holds for longer than the patience. */
  readonly held: readonly string[];
  /** Parts of large projects: once all those of a project are done, the project itself wants to go on. */
  readonly parts: readonly RowsUnit[];
}

/** Who does the units of a rotation. Units never wait for long: what has to wait is given back. */
export interface Executor {
  /** How many units it takes at once. */
  readonly atOnce: number;
  /** Projects to a unit, at most. Default: up to 500, less where there would be fewer than eight units, 50 at least. */
  readonly unitSize?: number;
  /** While several processes do units: how many rows of a large project to a part. Without it, nobody parts one. */
  readonly partRows?: number | undefined;
  execute(unit: WorkUnit, signal: AbortSignal): Promise<WorkResult>;
}

export interface RunOptions {
  /** Aborting stops between two statements, leaves the rotation resumable and rejects with `interrupted`. */
  readonly signal?: AbortSignal;
  /** Called a few times a second at most. */
  readonly onProgress?: (rotation: Rotation) => void;
  /** Who does the units. Default: this process, a few at a time. */
  readonly executor?: Executor;
  /**
   * While another live process drives it: `watch` (the default) until that one is done, taking over when it falls silent, or
   * `leave`, resolving with the rotation as it is.
   */
  readonly whenDriven?: 'watch' | 'leave';
}

export interface Rotations {
  /**
   * Checks the catalog and records the rotation; nothing moves until somebody runs it.
   * @throws KeyringError `unregistered_column` naming the column, `rotation_in_progress` naming the open rotation,
   *   `nothing_to_rotate`, `unknown_project`.
   */
  request(request: RotationRequest): Promise<Rotation>;
  /**
   * Trial-opens every row a rotation would move, and times it. Changes no row, key, rotation or trail; it counts up to 500
   * encryptions, those of the sample that is timed and rolled back.
   * @throws KeyringError as `request` does, except `rotation_in_progress`; `interrupted`.
   */
  preview(request: RotationRequest, options?: PreviewOptions): Promise<RotationPreview>;
  /**
   * Drives a rotation from whatever state it is in to its end, and resolves with it: `completed`, `blocked`,
   * `rolled_back`, `canceled`, `failed`, or `paused` when somebody paused it. Does no harm when two processes do it.
   * @throws KeyringError `unknown_rotation`, `interrupted`.
   */
  run(rotationId: string, options?: RunOptions): Promise<Rotation>;
  /**
   * Does one unit of a rotation that somebody else drives; nothing when it is paused, turned round or over by now.
   * @throws KeyringError `unknown_rotation`, `interrupted`.
   */
  work(unit: WorkUnit, options?: { readonly signal?: AbortSignal }): Promise<WorkResult>;
  /** Ids of rotations that want a runner and have none alive: emergencies first, then the oldest. */
  waiting(which?: { readonly trigger?: Rotation['trigger'] }): Promise<string[]>;
  /** @throws KeyringError `rotation_not_open` unless it is requested, running or blocked. */
  pause(rotationId: string): Promise<Rotation>;
  /** From paused or blocked to running (or rolling back): blocked projects are tried again. Then `run` it. */
  resume(rotationId: string): Promise<Rotation>;
  /**
   * Takes those projects out that are not promoted yet: their keys stay as they are. The others go on to their end; `rollback`
   * turns those back, too.
   * @throws KeyringError `rotation_not_open`, `illegal_state` when every project is promoted or at its end.
   */
  cancel(rotationId: string): Promise<Rotation>;
  /**
   * Turns every project that is not finalized back to the version it came from. Then `run` it.
   * @throws KeyringError `rotation_not_open` when nothing is left to turn back.
   */
  rollback(rotationId: string): Promise<Rotation>;
  /**
   * Changes how fast it goes, also while it runs: whoever works on it notices within half a second.
   * @throws KeyringError `unknown_rotation`, `rotation_not_open` when it has ended, `illegal_state` for an emergency,
   *   `invalid_argument`.
   */
  setPace(rotationId: string, change: PaceChange): Promise<Rotation>;
  get(rotationId: string): Promise<RotationDetail | undefined>;
  /**
   * Marks a version compromised and, in the same transaction, makes a new one primary: writes never stop, and none is
   * under the compromised one from then on. Overtakes an open rotation of the project. The compromised version opens its own
   * rows until they are moved; it never encrypts again, and there is no rollback to it. Then `run` the rotation.
   * @throws KeyringError `unknown_key`, `key_destroyed`, `contended` when a transaction of the project holds its keyring.
   */
  compromise(keyId: string, options: { readonly reason: string }): Promise<Compromise>;
  /** The signed receipts of the projects that a rotation finalized, up to 1,000. */
  receipts(rotationId: string): Promise<Receipt[]>;
  /** Newest first; `limit` default 50, at most 500; before the rotation `before`. */
  list(options?: { readonly limit?: number; readonly before?: string }): Promise<Rotation[]>;
}

export interface PreviewOptions {
  readonly signal?: AbortSignal;
  /** Called a few times a second at most. */
  readonly onProgress?: (progress: PreviewProgress) => void;
}

export interface PreviewProgress {
  /** Rows tried so far. */
  readonly rows: number;
  /** Rows there were at the start. */
  readonly total: number;
}

export interface RotationPreview {
  readonly projects: number;
  /** Rows that a rotation would move, those that do not open too. */
  readonly rows: number;
  /** Rows that do not open, and would block their projects. */
  readonly unreadableRows: number;
  /** Of these, up to 1,000 by name. */
  readonly unreadable: readonly QuarantinedRow[];
  /** Undefined when there was nothing to time: no row, or all of them held by others. */
  readonly estimate: RotationEstimate | undefined;
}

/** What a rotation at full speed would take, by the rates measured here and now. */
export interface RotationEstimate {
  readonly seconds: number;
  readonly rowsPerSecond: number;
  /** Rows whose re-encryption was timed, and rolled back. Every row's opening was. */
  readonly sampled: number;
}

// ── quarantine ──────────────────────────────────────────────────────────────────────────────────────────────────────

export interface QuarantineEntry extends QuarantinedRow {
  /** Grows with time; a bigint as text. */
  readonly id: string;
  readonly projectName: string;
  /** The rotation that met it last. */
  readonly rotationId: string;
  /** The secret's name. Undefined for rows of other tables, and when the row is gone. */
  readonly name: string | undefined;
}

export interface QuarantineScope {
  readonly projectId?: string;
  readonly rotationId?: string;
}

export interface QuarantineRetry {
  /** Rows that were tried again. */
  readonly tried: number;
  /** Of these, rows that open now: they have left quarantine. */
  readonly opened: number;
  /** Rows that are no longer there: they have left, too. */
  readonly gone: number;
  /** Rows that still do not open. */
  readonly unreadableRows: number;
  /** Of these, up to 1,000 by name, with the reason they have now. */
  readonly unreadable: readonly QuarantineEntry[];
  /** Blocked rotations that were resumed, because a row of theirs has left: `run` them, and they move it. */
  readonly resumed: readonly string[];
}

/** A row, as the registry and its table name it. */
export interface RowPlace {
  readonly projectId: string;
  readonly label: string;
  readonly rowId: string;
}

export interface DiscardedRow extends RowPlace {
  readonly name: string | undefined;
  readonly keyId: string;
  readonly reason: QuarantinedRow['reason'];
  /** The rotation that it blocked. */
  readonly rotationId: string;
}

/** Rows that a rotation could not open, and the ways out. */
export interface Quarantine {
  /** Oldest first; `limit` default 1,000, at most 10,000; after the entry `after`. */
  list(options?: QuarantineScope & { readonly limit?: number; readonly after?: string }): Promise<QuarantineEntry[]>;
  /**
   * Tries quarantined rows again: all, or those of a project or a rotation. Those that open, or are gone, leave; the blocked
   * rotations that this frees are resumed. Safe to repeat at any point.
   * @throws KeyringError `unregistered_column`, `interrupted`.
   */
  retry(options?: QuarantineScope & { readonly signal?: AbortSignal }): Promise<QuarantineRetry>;
  /**
   * Deletes a row that does not open, for good, if it still holds the very bytes that do not: a concurrent edit wins. Then
   * `retry` or resume the rotation that it blocked.
   * @throws KeyringError `not_quarantined` when it is not, or the row is gone; `row_opens`; `key_disabled` and `wrong_root_key`
   *   when it is its key that is away, and can come back; `conflict` when the row keeps changing or other rows refer to it;
   *   `contended` when somebody holds it.
   */
  discard(row: RowPlace, options: { readonly reason: string }): Promise<DiscardedRow>;
}

/** A signed receipt, self-contained: `verifyReceipt` needs nothing else. */
export interface Receipt {
  /** The signed text: JSON, exactly these characters in UTF-8. */
  readonly payload: string;
  /** Ed25519 (RFC 8032), base64. */
  readonly signature: string;
  /** 32 bytes, base64: the key that signed. Compare it with one kept from before. */
  readonly publicKey: string;
  readonly keyId: string;
}

export interface VerifiedReceipt {
  /** What was signed. */
  readonly content: Readonly<Record<string, unknown>>;
  readonly keyId: string;
  /** Was it compared with a public key of the caller's? Without, only its integrity is shown, not its origin. */
  readonly trusted: boolean;
}

// ── audit ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface AuditEntry {
  /** Grows with time; a bigint as text. */
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  /** As `rotation.completed`. */
  readonly action: string;
  readonly outcome: 'succeeded' | 'failed' | 'refused';
  readonly projectId: string | undefined;
  /** What it was done to, as `kind:id`. */
  readonly subject: string;
  readonly reason: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface Audit {
  /** Newest first; `limit` default 100, at most 1,000; older than the entry `before`. */
  list(options?: {
    readonly projectId?: string;
    readonly limit?: number;
    readonly before?: string;
  }): Promise<AuditEntry[]>;
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
