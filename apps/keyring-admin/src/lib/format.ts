/** How numbers and times are said. Pure and in UTC, so that the server and the browser say the same. */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const whole = new Intl.NumberFormat('en');

export function count(number: number, one: string, many = `${one}s`): string {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

/** `12,345`. */
export function figure(number: number): string {
  return whole.format(number);
}

/** `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 days`. */
export function duration(ms: number): string {
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ${Math.floor((ms % MINUTE) / SECOND)} s`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ${Math.floor((ms % HOUR) / MINUTE)} min`;
  return count(Math.floor(ms / DAY), 'day');
}

/** `0.4 ms`, `12 ms`. */
export function milliseconds(ms: number): string {
  return `${ms < 10 ? String(Math.round(ms * 10) / 10) : figure(Math.round(ms))} ms`;
}

/** A moment as it comes: from the API it is text. */
export type Moment = Date | string;

const ms1970 = (at: Moment): number => new Date(at).getTime();

/** `under a minute`, `5 minutes`, `3 hours`, `12 days`. */
export function age(from: Moment, now: Moment): string {
  const ms = Math.max(ms1970(now) - ms1970(from), 0);
  if (ms < MINUTE) return 'under a minute';
  if (ms < HOUR) return count(Math.floor(ms / MINUTE), 'minute');
  if (ms < DAY) return count(Math.floor(ms / HOUR), 'hour');
  return count(Math.floor(ms / DAY), 'day');
}

/** `in 90 days`, `today`, `overdue by 3 days`. */
export function due(at: Moment, now: Moment): string {
  const days = Math.ceil((ms1970(at) - ms1970(now)) / DAY);
  if (days < 0) return `overdue by ${count(-days, 'day')}`;
  return days === 0 ? 'today' : `in ${count(days, 'day')}`;
}

/** `2026-11-23`. */
export function day(at: Moment): string {
  return new Date(at).toISOString().slice(0, 10);
}

/** `2026-11-23 20:30 UTC`. */
export function moment(at: Moment): string {
  return `${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
