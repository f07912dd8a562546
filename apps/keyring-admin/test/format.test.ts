import { expect, it } from 'vitest';
import { age, count, day, due, duration, moment } from '../src/lib/format.ts';

const now = new Date('2026-11-23T20:30:00.000Z');
const after = (ms: number): Date => new Date(now.getTime() + ms);
const DAY = 86_400_000;

it('says numbers and times as people do', () => {
  expect([count(0, 'row'), count(1, 'row'), count(12_345, 'row')]).toEqual(['0 rows', '1 row', '12,345 rows']);
  expect([0, 420, 9_999, 12_900, 185_000, 7_800_000, 3 * DAY].map(duration)).toEqual([
    ...['0.0 s', '0.4 s', '10.0 s', '12 s', '3 min 5 s', '2 h 10 min', '3 days'],
  ]);
  expect([5_000, 0, -61_000, -3 * 3_600_000, -DAY].map((ms) => age(after(ms), now))).toEqual([
    ...['under a minute', 'under a minute', '1 minute', '3 hours', '1 day'],
  ]);
  expect([90 * DAY, 1, 0, -1, -DAY, -3 * DAY].map((ms) => due(after(ms), now))).toEqual([
    ...['in 90 days', 'in 1 day', 'today', 'today', 'overdue by 1 day', 'overdue by 3 days'],
  ]);
  expect([day(now), moment(now)]).toEqual(['2026-11-23', '2026-11-23 20:30 UTC']);
});
