import type { QuietHours, Weekday } from '../../api-schedule.ts';
import { durationInWords } from './duration.ts';
import { weekdays } from './quiet-hours.ts';

const names: Readonly<Record<Weekday, string>> = {
  sun: 'Sundays',
  mon: 'Mondays',
  tue: 'Tuesdays',
  wed: 'Wednesdays',
  thu: 'Thursdays',
  fri: 'Fridays',
  sat: 'Saturdays',
};
// The week as people list it.
const week: readonly Weekday[] = [...weekdays.slice(1), 'sun'];

/** `Saturdays and Sundays 22:00 to 06:00, Europe/Berlin`; of a cron expression, itself. */
export function quietHoursInWords(quiet: QuietHours | undefined): string {
  if (quiet === undefined) return 'at any time';
  if ('cron' in quiet) {
    return `for ${durationInWords(quiet.openForMinutes * 60_000)} from each time of the cron expression "${quiet.cron}", ${quiet.zone}`;
  }
  const windows = quiet.windows.map(({ days, from, to }) => `${daysInWords(days)} ${from} to ${to}`);
  return `${windows.join(', ')}, ${quiet.zone}`;
}

function daysInWords(days: readonly Weekday[]): string {
  if (days.length === 7) return 'every day';
  const given = week.filter((day) => days.includes(day));
  if (given.join() === week.slice(0, 5).join()) return 'Mondays to Fridays';
  const listed = given.map((day) => names[day]);
  const last = listed.pop() ?? '';
  return listed.length === 0 ? last : `${listed.join(', ')} and ${last}`;
}

interface Told {
  readonly enabled: boolean;
  readonly reason: string | undefined;
  readonly rotateAfterMs: number;
  readonly jitterMs: number;
  readonly quietHours: QuietHours | undefined;
}

/** One sentence without its full stop, as `every 90 days (up to 7 days earlier), at any time`. */
export function policyInWords({ enabled, reason, rotateAfterMs, jitterMs, quietHours }: Told): string {
  if (!enabled) return `not rotated on a schedule${reason === undefined ? '' : `: ${reason}`}`;
  const early = jitterMs === 0 ? '' : ` (up to ${durationInWords(jitterMs)} earlier)`;
  return `every ${durationInWords(rotateAfterMs)}${early}, ${quietHoursInWords(quietHours)}`;
}
