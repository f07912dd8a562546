/** How things stand at a glance: are we safe, and what comes next? Types only. */
import type { Rotation } from './api.ts';

/** A project, by the date of its primary version. */
export interface DueProject {
  readonly projectId: string;
  readonly projectName: string;
  readonly keyId: string;
  /** When the version was made. */
  readonly madeAt: Date;
  /** When its policy has its rotation begin; undefined: never, by age. */
  readonly dueAt: Date | undefined;
}

export type RecentRotation = Pick<
  Rotation,
  | 'id'
  | 'scope'
  | 'trigger'
  | 'state'
  | 'requestedBy'
  | 'reason'
  | 'requestedAt'
  | 'startedAt'
  | 'finishedAt'
  | 'durationMs'
> & {
  /** Names of its projects, up to three. */
  readonly projectNames: readonly string[];
  /** There are more. */
  readonly moreProjects: boolean;
};

/** How many primary versions are so old. */
export interface AgeGroup {
  /** Days: older than, or as old. */
  readonly fromDays: number;
  /** Days: younger than; undefined: any age. */
  readonly toDays: number | undefined;
  readonly keys: number;
}

export interface Overview {
  readonly at: Date;
  readonly projects: {
    readonly total: number;
    readonly withKey: number;
    /** Their policy wants them rotated, by age or by use. */
    readonly due: number;
    /** Their version is older than their policy allows, by more than an hour. */
    readonly overdue: number;
  };
  /** Versions that are compromised or suspended, and not destroyed yet. */
  readonly keys: { readonly compromised: number; readonly suspended: number };
  /** The primary version that was made first. */
  readonly oldest: DueProject | undefined;
  /** Primary versions by age, the youngest first; groups without any are there, too. */
  readonly ages: readonly AgeGroup[];
  readonly rotations: {
    /** Asked for, running or on their way back. */
    readonly running: number;
    readonly paused: number;
    readonly blocked: number;
    /** The newest ten. */
    readonly recent: readonly RecentRotation[];
  };
  /** Rows that do not open. */
  readonly quarantined: number;
  /** Up to ten that become due next by age, the soonest first. */
  readonly next: readonly DueProject[];
}
