import { expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import { DAY_MS, HOUR_MS } from '../../src/schedule/arithmetic/duration.ts';
import { instantOf, requireZone, wallClock, weekday } from '../../src/schedule/arithmetic/zone.ts';

const zones = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Asia/Kathmandu',
  'America/St_Johns',
  'Africa/Casablanca',
];
const day = (date: string): number => Date.parse(`${date}T00:00:00Z`) / DAY_MS;
const at = (time: string): number => {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  return hours * HOUR_MS + minutes * 60_000;
};
const resolve = (zone: string, date: string, time: string, twice: 'earlier' | 'later'): string =>
  new Date(instantOf(zone, day(date), at(time), twice)).toISOString();

test.each([
  ['Europe/Berlin', '2026-03-29', '02:30', '2026-03-29T01:30:00.000Z', 'is skipped, and comes after the gap'],
  ['America/New_York', '2026-03-08', '02:30', '2026-03-08T07:30:00.000Z', 'is skipped, and comes after the gap'],
  ['Australia/Lord_Howe', '2026-10-04', '02:15', '2026-10-03T15:45:00.000Z', 'is in a gap of half an hour'],
  ['Pacific/Apia', '2011-12-30', '12:00', '2011-12-30T22:00:00.000Z', 'is on a day that was not'],
  ['Asia/Kathmandu', '2026-06-01', '00:00', '2026-05-31T18:15:00.000Z', 'has an offset of 5:45'],
])('%s, %s %s %s', (zone, date, time, expected) => {
  expect([resolve(zone, date, time, 'earlier'), resolve(zone, date, time, 'later')]).toEqual([expected, expected]);
});

test.each([
  ['Europe/Berlin', '2026-10-25', '02:30', '2026-10-25T00:30:00.000Z', '2026-10-25T01:30:00.000Z'],
  ['America/New_York', '2026-11-01', '01:30', '2026-11-01T05:30:00.000Z', '2026-11-01T06:30:00.000Z'],
  ['Australia/Lord_Howe', '2026-04-05', '01:45', '2026-04-04T14:45:00.000Z', '2026-04-04T15:15:00.000Z'],
])('%s shows %s %s twice', (zone, date, time, earlier, later) => {
  expect([resolve(zone, date, time, 'earlier'), resolve(zone, date, time, 'later')]).toEqual([earlier, later]);
});

test('every instant of twenty years is found again by what the clocks of its zone show', () => {
  const instants = fc.integer({ min: Date.UTC(2010) / 1000, max: Date.UTC(2030) / 1000 });
  fc.assert(
    fc.property(fc.constantFrom(...zones), instants, (zone, seconds) => {
      const instant = seconds * 1000;
      const wall = wallClock(zone, instant);
      const found = [instantOf(zone, wall.day, wall.ms, 'earlier'), instantOf(zone, wall.day, wall.ms, 'later')];
      expect(found).toContain(instant);
      expect((found[1] ?? 0) - (found[0] ?? 0)).toBeLessThanOrEqual(HOUR_MS);
    }),
    { numRuns: 500 },
  );
});

test('days of the week are those of the calendar', () => {
  expect(['1969-12-28', '1970-01-01', '2026-11-27', '2026-11-28'].map((date) => weekday(day(date)))).toEqual([
    0, 4, 5, 6,
  ]);
});

test.each(['', 'Mars/Phobos', 'CEST', '+01:00', '../etc', 'Europe/Berlin; drop'])('%j is no zone', (zone) => {
  expect(() => requireZone(zone)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
});

test('zones are the ones people name', () => {
  expect(zones.map(requireZone)).toEqual(zones);
});
