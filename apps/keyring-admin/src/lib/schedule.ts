import type { shapes } from '@meshhook/keyring-http';

/** Between what a form says and what a policy is. Pure. */

const DAY = 24 * 60 * 60 * 1000;

export const weekdays = [
  { value: 'mon', text: 'Mon' },
  { value: 'tue', text: 'Tue' },
  { value: 'wed', text: 'Wed' },
  { value: 'thu', text: 'Thu' },
  { value: 'fri', text: 'Fri' },
  { value: 'sat', text: 'Sat' },
  { value: 'sun', text: 'Sun' },
] as const;
export type Weekday = (typeof weekdays)[number]['value'];

export const units = [
  { value: 'days', text: 'days', ms: DAY },
  { value: 'weeks', text: 'weeks', ms: 7 * DAY },
] as const;

/** `90` and `days`; what is no whole number of days is not said by this form, and stays as it is. */
export function sayAge(ms: number): { readonly every: string; readonly unit: string } {
  const days = ms / DAY;
  if (days % 7 === 0 && days % 10 !== 0) return { every: String(days / 7), unit: 'weeks' };
  return { every: String(Math.round(days * 100) / 100), unit: 'days' };
}

export function ageOf(every: string, unit: string): number | undefined {
  const number = Number(every);
  const { ms } = units.find(({ value }) => value === unit) ?? units[0];
  return every.trim() === '' || !Number.isFinite(number) || number <= 0 ? undefined : Math.round(number * ms);
}

/** How the form's part for quiet hours begins. */
export function quietForm(quiet: shapes.QuietHours | null) {
  const usual = {
    when: 'any',
    zone: 'UTC',
    days: ['mon', 'tue', 'wed', 'thu', 'fri'] as string[],
    from: '22:00',
    to: '06:00',
    cron: '0 2 * * sat',
    openFor: '120',
    /** Windows that the form has no room for. */
    more: false,
  };
  if (quiet === null) return usual;
  if ('cron' in quiet) {
    return { ...usual, when: 'cron', zone: quiet.zone, cron: quiet.cron, openFor: String(quiet.openForMinutes) };
  }
  const [first] = quiet.windows;
  if (first === undefined) return usual;
  const { days, from, to } = first;
  return { ...usual, when: 'windows', zone: quiet.zone, days: [...days], from, to, more: quiet.windows.length > 1 };
}

const said = new Map<string, Intl.DateTimeFormat>();

/** `Thursday, 25 February 2027 at 02:00 GMT+1`. */
export function sayDate(at: string, zone: string): string {
  const format =
    said.get(zone) ??
    new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      weekday: 'long',
      day: 'numeric',
      month: 'long',
      year: 'numeric',
      hour: '2-digit',
      minute: '2-digit',
      timeZoneName: 'short',
    });
  said.set(zone, format);
  return format.format(new Date(at));
}
