import type { shapes } from '@meshhook/keyring-http';

/** What a rotation's numbers mean. Pure. */

export type RotationState = shapes.Rotation['state'];

/** Something is happening, or will by itself. */
export function isOpen(state: RotationState): boolean {
  return state === 'requested' || state === 'running' || state === 'rolling_back';
}

export function isFinished(state: RotationState): boolean {
  return state === 'completed' || state === 'rolled_back' || state === 'canceled' || state === 'failed';
}

/** Moving is one half of the way, reading back the other. */
export function percent({ rows }: Pick<shapes.Rotation, 'rows'>): number {
  if (rows.total === 0) return 0;
  return Math.min(100, Math.floor((50 * (rows.moved + rows.verified)) / rows.total));
}

export const phases = ['requested', 'staged', 'sweeping', 'verifying', 'completed'] as const;

/**
 * How many projects are in each phase now, which phases all of them have passed, and how many are somewhere else. Of a project that is
 * blocked `alone`, its times say how far it came.
 */
export function phaseCounts(
  projects: shapes.Rotation['projects'],
  alone?: Pick<shapes.RotationProject, 'direction' | 'stagedAt' | 'promotedAt' | 'sweptAt' | 'verifiedAt'>,
): {
  readonly phases: readonly {
    readonly name: string;
    readonly count: number;
    readonly passed: boolean;
    /** It is here that the one project is blocked. */
    readonly stopped: boolean;
  }[];
  readonly others: readonly { readonly name: string; readonly count: number }[];
} {
  const known = new Set<string>(['total', ...phases]);
  const countOf = (name: string): number => projects[name] ?? 0;
  const beyond = (index: number): number => phases.slice(index + 1).reduce((sum, name) => sum + countOf(name), 0);
  const isBlocked = projects.total === 1 && countOf('blocked') === 1 && alone?.direction === 'forward';
  const ends = isBlocked ? [alone.stagedAt, alone.promotedAt, alone.sweptAt, alone.verifiedAt] : [];
  const stop = isBlocked ? ends.findIndex((end) => end === null) : -1;
  return {
    phases: phases.map((name, index) => ({
      name,
      count: countOf(name),
      passed: index < stop || (projects.total > 0 && beyond(index) === projects.total),
      stopped: index === stop,
    })),
    others: Object.entries(projects).flatMap(([name, count]) =>
      known.has(name) || count === 0 ? [] : [{ name, count }],
    ),
  };
}

export interface Sample {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly moved: number;
  readonly verified: number;
  /** How long ordinary reads took then; null where nobody timed them. */
  readonly reads: shapes.RotationEvent['reads'];
}

export interface Rate {
  readonly at: number;
  /** Rows a second since the sample before. */
  readonly moved: number;
  readonly verified: number;
}

/** Between each two samples; a rotation that was turned back counts down, which is no rate. */
export function ratesOf(samples: readonly Sample[]): Rate[] {
  return samples.slice(1).flatMap((sample, index) => {
    const before = samples[index];
    if (before === undefined || sample.at <= before.at) return [];
    const seconds = (sample.at - before.at) / 1000;
    return [
      {
        at: sample.at,
        moved: Math.max(0, sample.moved - before.moved) / seconds,
        verified: Math.max(0, sample.verified - before.verified) / seconds,
      },
    ];
  });
}

const SPEED_WINDOW_MS = 10_000;

/** Of the last ten seconds: rows handled a second, moved and read back alike, and how long the rest takes at that. */
export function speedOf(
  { rows, state }: Pick<shapes.Rotation, 'rows' | 'state'>,
  samples: readonly Sample[],
): { readonly perSecond: number; readonly remainingMs: number | undefined } | undefined {
  const last = samples.at(-1);
  const first = samples.find(({ at }) => last !== undefined && at >= last.at - SPEED_WINDOW_MS);
  if (last === undefined || first === undefined || last.at - first.at < 500) return undefined;
  const done = Math.abs(last.moved - first.moved) + Math.abs(last.verified - first.verified);
  const perMs = done / (last.at - first.at);
  const left =
    state === 'rolling_back'
      ? rows.moved
      : Math.max(0, 2 * (rows.total - rows.quarantined) - rows.moved - rows.verified);
  return { perSecond: perMs * 1000, remainingMs: perMs === 0 ? undefined : left / perMs };
}
