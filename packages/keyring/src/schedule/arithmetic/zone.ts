/** Wall clocks of IANA time zones, as JavaScript's own tables of them have it. Pure: no clock is read here. */
import { KeyringError } from '../../errors.ts';
import { DAY_MS } from './duration.ts';

/** A day of the calendar: days since 1970-01-01, whatever the zone. */
export type CalendarDay = number;

const formats = new Map<string, Intl.DateTimeFormat>();
const MOST_FORMATS = 500;

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      calendar: 'iso8601',
      hourCycle: 'h23',
      ...{ year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' },
    });
    if (formats.size >= MOST_FORMATS) formats.clear();
    formats.set(zone, format);
  }
  return format;
}

/**
 * The zone as it is spelled in the tables. @throws KeyringError `invalid_argument` for one that is not in them: abbreviations and
 * offsets, which know nothing of summer time, are not.
 */
export function requireZone(zone: string): string {
  if (/^[A-Za-z][A-Za-z0-9_+\-/]{0,63}$/.test(zone)) {
    try {
      return formatOf(zone).resolvedOptions().timeZone === 'UTC' ? 'UTC' : zone;
    } catch {
      // Told below.
    }
  }
  throw new KeyringError('invalid_argument', `There is no time zone "${zone.slice(0, 64)}".`, {
    remedy: 'Name one of the IANA list, as Europe/Berlin, America/New_York or UTC.',
  });
}

/** What the zone's clocks show at an instant: its day, and milliseconds since that day's midnight as clocks count them. */
export function wallClock(zone: string, instant: number): { readonly day: CalendarDay; readonly ms: number } {
  const wall = instant + offset(zone, instant);
  const day = Math.floor(wall / DAY_MS);
  return { day, ms: wall - day * DAY_MS };
}

/**
 * The instant at which the zone's clocks show a time of a day. One that they show twice is the earlier or the later, as asked; one
 * that they skip is as long after the last moment before as it would have been, hence after the gap.
 */
export function instantOf(zone: string, day: CalendarDay, ms: number, twice: 'earlier' | 'later'): number {
  const wall = day * DAY_MS + ms;
  // A day before and after: nowhere do clocks jump further (Apia, 2011-12-30).
  const before = offset(zone, wall - DAY_MS);
  const after = offset(zone, wall + DAY_MS);
  const shown = [wall - before, wall - after].filter((instant) => instant + offset(zone, instant) === wall);
  if (shown.length === 0) return wall - before;
  return twice === 'earlier' ? Math.min(...shown) : Math.max(...shown);
}

/** 0: Sunday, as cron has it. */
export function weekday(day: CalendarDay): number {
  return (((day + 4) % 7) + 7) % 7;
}

/** Milliseconds that the zone's clocks are ahead of UTC. */
function offset(zone: string, instant: number): number {
  const whole = Math.floor(instant / 1000) * 1000;
  const parts: Partial<Record<Intl.DateTimeFormatPartTypes, number>> = {};
  for (const { type, value } of formatOf(zone).formatToParts(whole)) parts[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  return Date.UTC(year, month - 1, day, hour, minute, second) - whole;
}
