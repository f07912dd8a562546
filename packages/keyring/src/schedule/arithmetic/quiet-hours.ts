import type { QuietHours, QuietWindow, Weekday } from '../../api-schedule.ts';
import { KeyringError } from '../../errors.ts';
import { DAY_MS } from './duration.ts';
import { instantOf, requireZone, wallClock, weekday } from './zone.ts';

/** A span of time in which rotations may begin: from `opens`, until `closes`, which is no longer in it. `Infinity`: for ever. */
export interface Window {
  readonly opens: number;
  readonly closes: number;
}

/** When a cron expression matches next, strictly after an instant; undefined when it never does again. */
export type CronTimes = (expression: string, zone: string) => (after: number) => number | undefined;

/** Windows one after the other, apart from each other. */
export interface Openings {
  /** The first window that has not closed at an instant, if there will be one. */
  from(instant: number): Window | undefined;
}

export const weekdays: readonly Weekday[] = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const MOST_WINDOWS = 50;
const MOST_CRON_CHARACTERS = 100;
const LEAST_OPEN_MINUTES = 5;
const MOST_OPEN_MINUTES = 7 * 24 * 60;
// What does not close for so long, and repeats every week, never does.
const ALWAYS_MS = 9 * DAY_MS;
const LOOK_AHEAD_DAYS = 16;

/** What quiet hours look like from the outside, checked, in one spelling. @throws KeyringError `invalid_argument`. */
export function requireQuietHours(given: QuietHours): QuietHours {
  const zone = requireZone(given.zone);
  if ('cron' in given) {
    const cron = given.cron.trim().replace(/\s+/g, ' ');
    if (cron.length > MOST_CRON_CHARACTERS) throw refused('The cron expression is too long.');
    // Nicknames, as `@daily`, are words of cron, too; five fields are what everybody knows.
    if (cron.split(' ').length !== 5) throw refused('A cron expression has five fields.');
    const { openForMinutes } = given;
    if (
      !Number.isInteger(openForMinutes) ||
      openForMinutes < LEAST_OPEN_MINUTES ||
      openForMinutes > MOST_OPEN_MINUTES
    ) {
      throw refused(`Quiet hours of a cron expression are open for ${String(LEAST_OPEN_MINUTES)} minutes to 7 days.`);
    }
    return { zone, cron, openForMinutes };
  }
  const { windows } = given;
  if (windows.length === 0) throw refused('Quiet hours without a window would never open.');
  if (windows.length > MOST_WINDOWS) throw refused(`Quiet hours have at most ${String(MOST_WINDOWS)} windows.`);
  return { zone, windows: windows.map(requireWindow) };
}

function requireWindow({ days, from, to }: QuietWindow): QuietWindow {
  const unknown = days.find((day) => !weekdays.includes(day));
  if (unknown !== undefined) throw refused(`There is no day "${unknown.slice(0, 20)}".`);
  if (days.length === 0) throw refused('Quiet hours without a day would never open.');
  parseTime(from);
  parseTime(to);
  return { days: weekdays.filter((day) => days.includes(day)), from, to };
}

/** Minutes since midnight. @throws KeyringError `invalid_argument`. */
function parseTime(text: string): number {
  const [, hours = '', minutes = ''] = /^([01]\d|2[0-4]):([0-5]\d)$/.exec(text) ?? [];
  const total = Number(hours) * 60 + Number(minutes);
  if (hours === '' || total > 24 * 60) throw refused(`"${text.slice(0, 20)}" is no time of day.`);
  return total;
}

function refused(message: string): KeyringError {
  return new KeyringError('invalid_argument', message, {
    remedy:
      'Write quiet hours as `sat,sun 22:00-06:00`, times from 00:00 to 24:00, or as a cron expression of five fields.',
  });
}

/** @throws KeyringError `invalid_argument` where `times` cannot read the expression. */
export function openings(quiet: QuietHours, times: CronTimes | undefined): Openings {
  if ('cron' in quiet) {
    if (times === undefined) throw new TypeError('a cron expression without anything that reads it');
    return joined(cronWindows(times(quiet.cron, quiet.zone), quiet.openForMinutes * 60_000), false);
  }
  return joined(weeklyWindows(quiet.zone, quiet.windows), true);
}

/** The same, asking for each window once: of a hundred thousand projects most look at the same ones. For a moment, not for ever. */
export function remembered(openings: Openings): Openings {
  const seen = new Map<number, Window | undefined>();
  return {
    from(instant) {
      if (!seen.has(instant)) seen.set(instant, openings.from(instant));
      return seen.get(instant);
    },
  };
}

/** Windows by the time they open, from the first that has not closed at an instant. They may overlap. */
type Raw = (instant: number) => Generator<Window>;

function weeklyWindows(zone: string, windows: readonly QuietWindow[]): Raw {
  const daily = windows.map(({ days, from, to }) => {
    const [start, end] = [parseTime(from) * 60_000, parseTime(to) * 60_000];
    return {
      days: new Set(days.map((day) => weekdays.indexOf(day))),
      start,
      length: end > start ? end - start : end - start + DAY_MS,
    };
  });
  return function* (instant) {
    const today = wallClock(zone, instant).day;
    // From the day before yesterday: a window over midnight is of the day on which it opens, and zones have skipped a day.
    for (let day = today - 2; day <= today + LOOK_AHEAD_DAYS; day++) {
      const ofDay = daily
        .filter(({ days }) => days.has(weekday(day)))
        .map(({ start, length }): Window => {
          const opens = instantOf(zone, day, start, 'earlier');
          const closes = instantOf(
            zone,
            day + Math.floor((start + length) / DAY_MS),
            (start + length) % DAY_MS,
            'later',
          );
          // A window that lies in the hour that clocks skip is as long after it: no night is without.
          return { opens, closes: closes > opens ? closes : opens + length };
        })
        .sort((a, b) => a.opens - b.opens);
      for (const window of ofDay) if (window.closes > instant) yield window;
    }
  };
}

function cronWindows(next: (after: number) => number | undefined, length: number): Raw {
  return function* (instant) {
    let after = instant - length;
    for (;;) {
      const opens = next(after);
      if (opens === undefined) return;
      yield { opens, closes: opens + length };
      after = opens;
    }
  };
}

/** Windows that touch are one: nobody is told that quiet hours end where they go on. */
function joined(raw: Raw, weekly: boolean): Openings {
  return {
    from(instant) {
      // Nothing comes after hours that never end.
      if (instant === Infinity) return undefined;
      let window: { opens: number; closes: number } | undefined;
      for (const one of raw(instant)) {
        if (window === undefined) window = { ...one };
        else if (one.opens <= window.closes) window.closes = Math.max(window.closes, one.closes);
        else break;
        if (window.closes - Math.max(window.opens, instant) > ALWAYS_MS)
          return { ...window, closes: weekly ? Infinity : window.closes };
      }
      return window;
    },
  };
}
