/**
 * What monitoring and reports are made of: what `api.ts` has for those who watch. Types only. No fact holds a name, an id, a
 * URI or a value.
 */
import type { AuditHealth } from './api-audit.ts';
import type { Distribution, SchemeTally } from './tally.ts';

export type { Distribution, SchemeTally } from './tally.ts';

export interface Monitoring {
  /**
   * How things stand. Never older than `factsMaxAgeMs` (what takes a look at every project: twelve times that), asked of the
   * database once for everybody who asks meanwhile, and given up after five seconds. Does not reject.
   */
  facts(): Promise<MonitoringFacts>;
  /**
   * What became of keys and rotations in a range of time. Reads nothing yet: its sections are read when they are gone through, a page
   * at a time. Each page is of its own moment.
   * @throws KeyringError `invalid_argument` unless `since` is before `until`.
   */
  report(options: ReportOptions): Report;
}

export interface ReportOptions {
  readonly since: Date;
  /** Exclusive. Default: now. */
  readonly until?: Date;
}

export type ReportSection = 'rotations' | 'keys' | 'overdue' | 'off';

export interface Report {
  readonly since: Date;
  readonly until: Date;
  /** Every rotation that was open at some moment of the range, the oldest first. */
  rotations(): AsyncIterable<ReportedRotation>;
  /**
   * Every key that was there at some moment of the range: root keys, wrapping keys, then data keys by project and version. Their
   * status is that of now. Versions of a project that was deleted are in the trail only.
   */
  keys(): AsyncIterable<ReportedKey>;
  /** Every project that `policies.overdue` names, by id. */
  overdue(): AsyncIterable<OverdueProject>;
  /** Every project with a key whose policy, its own or the default, is off, by id. */
  off(): AsyncIterable<OffProject>;
}

export interface ReportedRotation {
  readonly id: string;
  readonly kind: RotationKind;
  readonly trigger: string;
  /** Its state, which is its outcome once it has ended. */
  readonly outcome: string;
  readonly requestedBy: string;
  readonly reason: string | undefined;
  readonly requestedAt: Date;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  /** Undefined until it has ended. */
  readonly durationMs: number | undefined;
  /** In all, and by state. */
  readonly projects: Readonly<Record<string, number>> & { readonly total: number };
  /** Secrets; of wrapping keys' rotations keys, and of a root key's wrapping keys. */
  readonly moved: number;
  readonly verified: number;
  readonly quarantined: number;
  /** Codes of what its projects met that did not complete. */
  readonly errors: readonly string[];
  /** How many signed receipts there are: one for each project that was finalized. */
  readonly receipts: number;
  /** Ids of the keys that signed them. */
  readonly signingKeys: readonly string[];
}

export interface ReportedKey {
  readonly kind: RotationKind;
  readonly id: string;
  readonly projectId: string | undefined;
  readonly projectName: string | undefined;
  readonly version: number | undefined;
  readonly status: string;
  readonly fingerprint: string;
  readonly createdAt: Date;
  readonly activatedAt: Date | undefined;
  readonly deactivatedAt: Date | undefined;
  readonly suspendedAt: Date | undefined;
  readonly compromisedAt: Date | undefined;
  readonly rolledBackAt: Date | undefined;
  readonly retentionUntil: Date | undefined;
  readonly destroyedAt: Date | undefined;
  readonly encryptions: number | undefined;
}

export interface OverdueProject {
  readonly projectId: string;
  readonly projectName: string;
  readonly keyId: string;
  readonly version: number;
  readonly because: 'age' | 'use';
  readonly keyCreatedAt: Date;
  /** When the age of its policy was reached; undefined when it is its use that makes it overdue. */
  readonly dueAt: Date | undefined;
  readonly encryptions: number;
}

export interface OffProject {
  readonly projectId: string;
  readonly projectName: string;
  readonly keyId: string;
  readonly version: number;
  /** Why it is off. */
  readonly reason: string | undefined;
  readonly keyCreatedAt: Date;
  /** When the age of its policy is, or was, reached. */
  readonly dueAt: Date;
  readonly encryptions: number;
}

export interface MonitoringFacts {
  readonly process: ProcessFacts;
  /** Undefined while the database does not answer. */
  readonly database: DatabaseFacts | undefined;
  /** Undefined while the database does not answer. */
  readonly audit: AuditHealth | undefined;
  /** Undefined until it was seen once; what was seen last while it cannot be seen anew. */
  readonly fleet: FleetFacts | undefined;
}

/** Of this process alone, since it began. */
export interface ProcessFacts {
  /** Of the library. */
  readonly version: string;
  readonly cacheHits: number;
  readonly cacheMisses: number;
  readonly fenceRefusals: number;
  /**
   * The trail is not as it was written: sealing here last found that, or the checkpoint that is kept here says so, or what anybody verified
   * last, which stands until a verification of all of it finds nothing.
   */
  readonly auditBroken: boolean;
  /** The last checkpoint of the trail could not be kept outside the database from here. */
  readonly checkpointUnkept: boolean;
  readonly rootKeys: readonly SchemeTally[];
  /** Looks at the database that failed or took too long. */
  readonly failedLooks: number;
}

export type RotationKind = 'data_key' | 'wrapping_key' | 'root_key';

/** Rotations that ended, over all of the history. */
export interface EndedRotations {
  readonly kind: RotationKind;
  readonly trigger: string;
  readonly outcome: 'completed' | 'rolled_back' | 'canceled' | 'failed';
  /** From start to end, in seconds. */
  readonly seconds: Distribution;
}

export interface OpenRotations {
  readonly kind: RotationKind;
  readonly trigger: string;
  readonly state: string;
  readonly rotations: number;
}

/** Read anew every few seconds. */
export interface DatabaseFacts {
  readonly schemaVersion: string;
  readonly ended: readonly EndedRotations[];
  readonly open: readonly OpenRotations[];
  /** Open rotations that want somebody to drive them, and have nobody alive. */
  readonly undriven: number;
  /** How long ago the oldest open rotation was asked for. 0 without one. */
  readonly oldestOpenSeconds: number;
  /** Projects of open rotations, by their state. */
  readonly openProjects: Readonly<Record<string, number>>;
  readonly secrets: {
    /** Over all of the history; does not fall. */
    readonly moved: number;
    readonly verified: number;
    /** What open rotations still have to move, of what is counted so far. */
    readonly remaining: number;
  };
  /** Quarantined rows, by reason. */
  readonly quarantined: Readonly<Record<string, number>>;
  readonly workers: { readonly alive: number; readonly silent: number };
  readonly instances: {
    readonly alive: number;
    readonly silent: number;
    /** Live ones that were given a root key which they cannot use. */
    readonly troubled: number;
  };
  readonly backups: {
    /** Wrapping keys that no backup holds which is known to have reached its file. */
    readonly missing: number;
    readonly lastWrittenAt: Date | undefined;
    readonly lastVerifiedAt: Date | undefined;
  };
}

/** What takes a look at every project. */
export interface FleetFacts {
  /** Projects that have a key. */
  readonly projects: number;
  /** Of the oldest primary version. 0 without any. */
  readonly oldestKeySeconds: number;
  /** Whose policy wants a rotation now, by age or by use. */
  readonly due: number;
  /** Of these, since more than a day, or past 0.95 × 2^32 encryptions. */
  readonly overdue: number;
  /** Encryptions of the fullest primary version, over 2^32 (SP 800-38D). */
  readonly usageRatio: number;
  /** How old this is. */
  readonly ageSeconds: number;
}
