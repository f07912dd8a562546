import { KeyringError } from '../../errors.ts';

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

const units: readonly (readonly [name: string, ms: number])[] = [
  ['week', 7 * DAY_MS],
  ['day', DAY_MS],
  ['hour', HOUR_MS],
  ['minute', 60_000],
];

const spelled: Readonly<Record<string, number>> = {
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  minutes: 60_000,
  h: HOUR_MS,
  hour: HOUR_MS,
  hours: HOUR_MS,
  d: DAY_MS,
  day: DAY_MS,
  days: DAY_MS,
  w: 7 * DAY_MS,
  week: 7 * DAY_MS,
  weeks: 7 * DAY_MS,
};

/**
 * Milliseconds of `90d`, `12 weeks`, `36 hours`. A day is 24 hours: ages are elapsed time, not dates of a calendar.
 * @throws KeyringError `invalid_argument` for what is none, months and years too: they have no one length.
 */
export function parseDuration(text: string): number {
  const [, digits = '', unit = ''] = /^\s*(\d{1,9})\s*([a-z]+)\s*$/i.exec(text) ?? [];
  const ms = spelled[unit.toLowerCase()];
  if (digits !== '' && ms !== undefined) return Number(digits) * ms;
  throw new KeyringError('invalid_argument', `"${text.slice(0, 40)}" is no span of time.`, {
    remedy: 'Write it as `90d`, `12 weeks` or `36 hours`; a month has no one length, so say `30d`.',
  });
}

/** `90 days`, `12 weeks`, `1 day 12 hours`: the same span that `parseDuration` reads, where it is of one unit. */
export function durationInWords(ms: number): string {
  if (ms < 60_000) return '0 minutes';
  // Weeks only of what is nothing else: people say 90 days, and 12 weeks.
  const [week, ...smaller] = units;
  if (week !== undefined && ms % week[1] === 0 && ms / week[1] < 52 && ms % (30 * DAY_MS) !== 0) {
    return counted(ms / week[1], 'week');
  }
  let rest = ms;
  const parts: string[] = [];
  for (const [name, length] of smaller) {
    const n = Math.floor(rest / length);
    rest -= n * length;
    if (n > 0) parts.push(counted(n, name));
  }
  return parts.join(' ');
}

function counted(n: number, unit: string): string {
  return `${n.toLocaleString('en-US')} ${unit}${n === 1 ? '' : 's'}`;
}
