import type { shapes } from '@meshhook/keyring-http';
import { count, figure } from './format.ts';

/** How old the keys that encrypt are, in words. Pure. */

export type AgeGroup = shapes.Overview['ages'][number];

const said: Readonly<Record<number, string>> = { 180: 'half a year', 365: 'a year' };
const days = (number: number): string => said[number] ?? count(number, 'day');

/** `under 7 days`, `30 to 60 days`, `over a year`. */
export function sayGroup({ fromDays, toDays }: AgeGroup): string {
  if (toDays === null) return `over ${days(fromDays)}`;
  if (fromDays === 0) return `under ${days(toDays)}`;
  return `${toDays in said ? days(fromDays) : String(fromDays)} to ${days(toDays)}`;
}

/** The same, as short as there is room under a bar. */
export function sayGroupShortly({ fromDays, toDays }: AgeGroup): string {
  if (toDays === null) return `${figure(fromDays)}+`;
  return fromDays === 0 ? `< ${toDays}` : `${fromDays}–${toDays}`;
}
