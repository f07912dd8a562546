/** Rotations: asked for, driven, looked at, and what proves them. Types only. */

import type { Compromise, ProjectIds } from './api.ts';

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
  /** `schedule` and `usage`: a policy asked for it. */
  readonly trigger: 'manual' | 'api' | 'usage' | 'schedule' | 'compromise';
  readonly state: RotationState;
  readonly requestedBy: string;
  readonly reason: string | undefined;
  readonly requestedAt: Date;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  /** Of one that a policy asked for: when the first of its projects might have begun. Asked for minutes later, it was late. */
  readonly plannedFor: Date | undefined;
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
  /** Up to 1,000, the unfinished first: `Rotations.projects` has them all. */
  readonly projectDetails: readonly RotationProject[];
  /** Up to 1,000. */
  readonly quarantine: readonly QuarantinedRow[];
}

/** `due`: by age or usage, as their policies say. Otherwise: primary version made before a moment. */
export type ProjectMatch = { readonly due: true } | { readonly madeBefore: Date };

export interface RotationRequest {
  /** Project ids; every project that has a key; or those that match, leaving out what another rotation holds. */
  readonly projects: readonly string[] | 'all' | ProjectMatch;
  /** Where `projects` are not ids: of these alone. Default: all. */
  readonly among?: ProjectIds;
  readonly reason?: string;
  readonly trigger?: 'manual' | 'api' | 'usage';
  /** Default `polite`. */
  readonly pace?: RotationPace;
  /** As `PaceChange` has it. Default: none. */
  readonly maxRate?: number;
  /** For a request that may be sent again because its answer was lost. */
  readonly idempotency?: NamedRequest;
}

/** The same actor's same request under the same key, within 24 hours, makes nothing twice. */
export interface NamedRequest {
  /** The caller's, random. */
  readonly key: string;
  /** All that it asks for, in one spelling. */
  readonly request: string;
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
   *   `nothing_to_rotate`, `unknown_project`, `idempotency_conflict`.
   */
  request(request: RotationRequest): Promise<Rotation>;
  /**
   * The rotation that a request with this name made, if it was sent before.
   * @throws KeyringError `idempotency_conflict` when it asked for something else then.
   */
  madeBy(request: NamedRequest): Promise<Rotation | undefined>;
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
  /** The same without its projects and rows: for who asks often. */
  standing(rotationId: string): Promise<Rotation | undefined>;
  /**
   * How long an ordinary read of a secret takes now, in milliseconds, without opening it: what polite rotations go by.
   * Undefined when there is nothing to read, it failed, or this process was too busy to tell. Never rejects.
   */
  probeRead(): Promise<number | undefined>;
  /**
   * Marks a version compromised and, in the same transaction, makes a new one primary: writes never stop, and none is
   * under the compromised one from then on. Overtakes an open rotation of the project. The compromised version opens its own
   * rows until they are moved; it never encrypts again, and there is no rollback to it. Then `run` the rotation.
   * @throws KeyringError `unknown_key`, `key_destroyed`, `contended` when a transaction of the project holds its keyring.
   */
  compromise(
    keyId: string,
    options: { readonly reason: string; readonly idempotency?: NamedRequest },
  ): Promise<Compromise>;
  /**
   * The projects of a rotation: by project id, `limit` (default 1,000, and at most that) after the project `after`, and only those
   * in a state.
   * @throws KeyringError `unknown_rotation`; `invalid_argument` where `after` is no id.
   */
  projects(
    rotationId: string,
    options?: { readonly state?: RotationProjectState; readonly after?: string; readonly limit?: number },
  ): Promise<RotationProject[]>;
  /**
   * The signed receipts of the projects that a rotation finalized, or of one of them: by project id, `limit` (default 1,000, and at most
   * that) after the project `after`.
   */
  receipts(
    rotationId: string,
    options?: { readonly projectId?: string; readonly after?: string; readonly limit?: number },
  ): Promise<Receipt[]>;
  /**
   * Newest first; `limit` default 50, at most 500; before the rotation `before`; only those all of whose projects are `among`
   * (default: all), that are in a state, or that have a project.
   */
  list(options?: {
    readonly limit?: number;
    readonly before?: string;
    readonly among?: ProjectIds;
    readonly state?: RotationState;
    readonly projectId?: string;
  }): Promise<Rotation[]>;
  /** Is there such a rotation, and are all of its projects among these? */
  isAmong(rotationId: string, projects: ProjectIds): Promise<boolean>;
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
