/** When keys are rotated by themselves: what `api.ts` has for what is done by hand. Types only. */

import type { ProjectIds } from './api.ts';

export type Weekday = 'sun' | 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat';

/** On each of the days from `from`, as `22:00`; where `to` is not later, until then on the day after. `24:00` is midnight. */
export interface QuietWindow {
  readonly days: readonly Weekday[];
  readonly from: string;
  readonly to: string;
}

/** When rotations may begin, on the clocks of an IANA time zone: by days and times, or from each time of a cron expression. */
export type QuietHours =
  | { readonly zone: string; readonly windows: readonly QuietWindow[] }
  | {
      readonly zone: string;
      /** Five fields: minute, hour, day of the month, month, day of the week. */
      readonly cron: string;
      /** 5 to 10,080. */
      readonly openForMinutes: number;
    };

/** How, and whether, versions are rotated by themselves. */
export interface RotationPolicy {
  /** Undefined: the default of every project without one of its own. */
  readonly projectId: string | undefined;
  readonly projectName: string | undefined;
  /** Grows with every change; 0: the project has none of its own, and this is the default's. */
  readonly revision: number;
  readonly enabled: boolean;
  /** Why it is off, or as it is. */
  readonly reason: string | undefined;
  /** No version that encrypts gets older: 24 hours to 10 years. */
  readonly rotateAfterMs: number;
  /** A version that has encrypted so often is due. */
  readonly maxEncryptions: number;
  /**
   * Rotations for age begin up to so much earlier, each project's at its own place in between, to the full hour: so that what was installed
   * on one day does not all move in one hour.
   */
  readonly jitterMs: number;
  /** Undefined: rotations begin at any time. */
  readonly quietHours: QuietHours | undefined;
  /** How long an old version is kept for restored backups. */
  readonly retentionMs: number;
  /** Is it destroyed after that, unless a row names it? Otherwise by hand. */
  readonly destroyAfterRetention: boolean;
  readonly changedAt: Date;
  readonly changedBy: string | undefined;
  /** All of it in a sentence, as `every 90 days (up to 7 days earlier), at any time`. */
  readonly inWords: string;
}

/** Where a policy is in the list of them. Without a project: the default, which is the first. */
export type PolicyPosition = Pick<RotationPolicy, 'projectId' | 'projectName'>;

/** What is left out stays as it is. */
export interface PolicyChange {
  readonly enabled?: boolean;
  readonly rotateAfterMs?: number;
  readonly maxEncryptions?: number;
  /** `null`: a tenth of the age, 7 days at most. */
  readonly jitterMs?: number | null;
  /** `null`: at any time. */
  readonly quietHours?: QuietHours | null;
  readonly retentionMs?: number;
  readonly destroyAfterRetention?: boolean;
  /** 1 to 1,000 characters. Wanted to switch it off. Otherwise, left out is none. */
  readonly reason?: string;
}

export interface PolicyDates {
  readonly policy: RotationPolicy;
  /** When the next rotations begin; fewer than asked for where quiet hours never open again, none when it is off. */
  readonly dates: readonly Date[];
  /**
   * Whose they are: a project's; without a project, of the project by the default policy that comes first, or where there is
   * none, of a version made now.
   */
  readonly of: 'project' | 'first project' | 'new version';
  /** When the age of the policy is reached: quiet hours permitting, no date is later. */
  readonly promisedAt: Date;
}

/** Why a project is overdue, in the order in which they are looked for. */
export type OverdueCause =
  /** Its rotation is open, and goes on. */
  | 'running'
  /** Its rotation is open, and somebody has to mend or resume it. */
  | 'blocked'
  | 'paused'
  /** Its last rotation failed; the next is asked for at `retryAt`. */
  | 'failed'
  /** Its last rotation was canceled or turned back; it is due again at `retryAt`. */
  | 'given_up'
  /** Quiet hours have not opened since, or never do again. */
  | 'waiting'
  /** Nobody has asked for its rotation: is a worker alive? */
  | 'not_requested';

export interface OverdueVersion {
  readonly projectId: string;
  readonly projectName: string;
  readonly keyId: string;
  /** When its policy's age was reached; undefined: it is overdue by use. */
  readonly promisedAt: Date | undefined;
  readonly cause: OverdueCause;
  /** The rotation that is open, failed, or was given up. */
  readonly rotationId: string | undefined;
  readonly retryAt: Date | undefined;
  /** Of the project in that rotation. */
  readonly errorCode: string | undefined;
}

export interface OverduePosition {
  /** When the age of the policy is reached, also of one that is overdue by use. */
  readonly promisedAt: Date;
  readonly projectId: string;
}

export interface DueRequest {
  /** Undefined: nothing may begin now. */
  readonly rotationId: string | undefined;
  readonly projects: number;
  /** When the first of them might have begun. */
  readonly plannedFor: Date | undefined;
}

export interface DestroyedVersions {
  /** Ids of those that it destroyed. */
  readonly destroyed: readonly string[];
  /** Past their retention, and named by rows: brought back by a restore, most likely. Of all of them, the first twenty. */
  readonly inUse: {
    readonly total: number;
    readonly versions: readonly {
      readonly keyId: string;
      readonly projectId: string;
      readonly version: number;
      readonly rows: number;
    }[];
  };
  /** There may be more to destroy now. */
  readonly more: boolean;
}

export interface Policies {
  /**
   * A project's, or the default. @throws KeyringError `unknown_project`.
   */
  show(projectId?: string): Promise<RotationPolicy>;
  /**
   * The default, then those of projects that have one of their own, by name; `limit` default 1,000, at most 10,000; after the policy
   * `after`.
   */
  list(options?: {
    readonly limit?: number;
    readonly among?: ProjectIds;
    readonly after?: PolicyPosition;
  }): Promise<RotationPolicy[]>;
  /**
   * Changes it, if it still is of `revision`. A project without one gets its own, a copy of the default but for the
   * change: from then on changes of the default do not reach it.
   * @throws KeyringError `conflict` when somebody changed it meanwhile; `approval_needed` for a shorter retention while the rule of two
   *   people is in force; `invalid_argument`; `unknown_project`.
   */
  set(
    change: PolicyChange,
    options: { readonly projectId?: string | undefined; readonly revision: number },
  ): Promise<RotationPolicy>;
  /** A project goes by the default again. @throws KeyringError as `set`; `illegal_state` when it has none of its own. */
  unset(projectId: string, options: { readonly revision: number; readonly reason?: string }): Promise<RotationPolicy>;
  /**
   * The next rotations by a policy as it is, or as it would be after a change. `count` default 5, at most 50.
   * @throws KeyringError `invalid_argument`, `unknown_project`.
   */
  next(options?: {
    readonly projectId?: string | undefined;
    readonly change?: PolicyChange;
    readonly count?: number;
    /** Without a project: of which `first project` is looked for. Default all. */
    readonly among?: ProjectIds;
  }): Promise<PolicyDates>;
  /**
   * Projects whose version is older, or more used, than their policy allows, the oldest first: how many there are, and `limit` (default
   * 1,000, at most 10,000) of them after the position `after`. `next` is where the list goes on; undefined at its end.
   */
  overdue(options?: {
    readonly limit?: number;
    readonly among?: ProjectIds;
    readonly after?: OverduePosition;
  }): Promise<{
    readonly total: number;
    readonly projects: OverdueVersion[];
    readonly next: OverduePosition | undefined;
  }>;
  /**
   * Asks for one rotation of all that may begin now, as policies and quiet hours have it, by the database's clock. Any number of
   * processes may call it at any time: one at a time does it, and `atMostEveryMs` after another it does nothing.
   * @throws KeyringError `unregistered_column`.
   */
  requestDue(options?: { readonly atMostEveryMs?: number }): Promise<DueRequest>;
  /** Notes in the trail which projects became overdue since it was last called, and gives their number. */
  noteOverdue(): Promise<number>;
  /**
   * Destroys versions whose retention is over and that no row names, where their policy says so: in small sets, each a transaction, 5,000 or
   * a few more at a time. Any number of processes may call it at any time: one does it, once an hour, and at once where `more` are left.
   * `signal` stops it between two sets.
   * @throws KeyringError `unregistered_column`.
   */
  destroyRetired(options?: { readonly signal?: AbortSignal }): Promise<DestroyedVersions>;
}
