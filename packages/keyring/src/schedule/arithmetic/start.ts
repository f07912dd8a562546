/**
 * When a version is rotated. Pure. A version is due at a moment, and promised to be gone by a later one; quiet hours say when
 * rotations may begin. It begins in the first of them once it is due; or, if they would next open after the promise, in the last
 * before, so that a key gets no older than its policy says.
 */
import { DAY_MS, HOUR_MS } from './duration.ts';
import type { Openings, Window } from './quiet-hours.ts';

/** Milliseconds since 1970. */
export interface Dates {
  readonly madeAt: number;
  /** From then on it may be rotated. */
  readonly dueAt: number;
  /** By then it should be: when its policy's age is reached. */
  readonly promisedAt: number;
}

/** What decides between `dueAt` and `promisedAt`, and how far apart they are. */
export interface Ages {
  readonly rotateAfterMs: number;
  /** Width of the spread. */
  readonly jitterMs: number;
}

/**
 * Nothing younger is rotated for its age, not for the last quiet hours before the promise either: half the floor of policies. Of a
 * policy for every night, one that began late, or took long, does not cost the next night.
 */
export const LEAST_AGE_MS = DAY_MS / 2;

/**
 * The dates of a version that is made at `madeAt`, by a project whose place in the spread is `fraction`, 0 to less than 1. As
 * the view `keyring.scheduled_projects` has them.
 */
export function datesOf(madeAt: number, { rotateAfterMs, jitterMs }: Ages, fraction: number): Dates {
  const promisedAt = madeAt + rotateAfterMs;
  const early = Math.min(jitterMs, rotateAfterMs - DAY_MS) * fraction;
  return { madeAt, promisedAt, dueAt: Math.floor((promisedAt - early) / HOUR_MS) * HOUR_MS };
}

/** May it begin at this instant? `window` is the one that is open, `reopens` when the next one opens (undefined: never). */
export function mayStart(dates: Dates, instant: number, window: Window, reopens: number | undefined): boolean {
  if (instant < window.opens || instant >= window.closes) return false;
  return dates.dueAt <= instant || isLastChance(dates, instant, window, reopens);
}

/** Closes too early for the date, and opens again too late for the promise. Never for what was made since it opened. */
function isLastChance(dates: Dates, instant: number, window: Window, reopens: number | undefined): boolean {
  return (
    dates.dueAt >= window.closes &&
    dates.promisedAt < (reopens ?? Infinity) &&
    dates.madeAt < window.opens &&
    dates.madeAt + LEAST_AGE_MS <= instant
  );
}

/**
 * The first instant at or after `notBefore` at which it may begin; undefined when quiet hours never open again. Without quiet hours
 * that is once it is due.
 */
export function startOf(dates: Dates, quiet: Openings | undefined, notBefore: number): number | undefined {
  const from = Math.max(dates.dueAt, notBefore);
  if (quiet === undefined) return from;
  const first = quiet.from(from);
  const regular = first && Math.max(first.opens, from);
  if (dates.dueAt <= notBefore || (regular !== undefined && regular <= dates.promisedAt)) return regular;
  return lastChance(dates, quiet, notBefore) ?? regular;
}

/** The last window before the promise, looked for from ever further back. */
function lastChance(dates: Dates, quiet: Openings, notBefore: number): number | undefined {
  const earliest = Math.max(notBefore, dates.madeAt + LEAST_AGE_MS);
  for (let back = DAY_MS; ; back *= 4) {
    const from = Math.max(dates.dueAt - back, earliest);
    let found: number | undefined;
    let window = quiet.from(from);
    while (window !== undefined && window.opens <= dates.promisedAt) {
      const next: Window | undefined = quiet.from(window.closes);
      const start = Math.max(window.opens, earliest);
      if (start < window.closes && mayStart(dates, start, window, next?.opens)) found = start;
      window = next;
    }
    if (found !== undefined) return found;
    if (from === earliest) return undefined;
  }
}

/** The next `count` rotations, each of the version that the one before it makes; fewer when quiet hours end for ever. */
export function nextStarts(
  first: Dates,
  ages: Ages,
  fraction: number,
  quiet: Openings | undefined,
  notBefore: number,
  count: number,
): number[] {
  const starts: number[] = [];
  let dates = first;
  for (let earliest = notBefore; starts.length < count;) {
    const start = startOf(dates, quiet, earliest);
    if (start === undefined) break;
    starts.push(start);
    dates = datesOf(start, ages, fraction);
    earliest = start;
  }
  return starts;
}
