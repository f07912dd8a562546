import { beforeAll, expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import type { QuietHours, QuietWindow } from '../../src/api-schedule.ts';
import { loadCron } from '../../src/schedule/arithmetic/cron.ts';
import { DAY_MS, HOUR_MS } from '../../src/schedule/arithmetic/duration.ts';
import { openings, requireQuietHours, weekdays, type CronTimes } from '../../src/schedule/arithmetic/quiet-hours.ts';
import { wallClock, weekday } from '../../src/schedule/arithmetic/zone.ts';

let cron: CronTimes;
beforeAll(async () => {
  cron = await loadCron();
});

const every = (from: string, to: string): QuietWindow => ({ days: weekdays, from, to });
const opened = (quiet: QuietHours, from: string, count: number): string[] => {
  const found = openings(requireQuietHours(quiet), cron);
  const windows: string[] = [];
  for (let instant = Date.parse(from); windows.length < count;) {
    const window = found.from(instant);
    if (window === undefined) break;
    windows.push(`${text(window.opens)} to ${text(window.closes)}`);
    if (window.closes === Infinity) break;
    instant = window.closes;
  }
  return windows;
};
const text = (instant: number): string =>
  instant === Infinity ? 'ever' : new Date(instant).toISOString().slice(0, 16);

test('a window over midnight belongs to the day on which it opens', () => {
  const quiet = { zone: 'Europe/Berlin', windows: [{ days: ['sat'], from: '22:00', to: '06:00' }] } as const;
  expect(opened(quiet, '2026-11-23T00:00Z', 2)).toEqual([
    '2026-11-28T21:00 to 2026-11-29T05:00',
    '2026-12-05T21:00 to 2026-12-06T05:00',
  ]);
  // In the middle of it, after midnight.
  expect(opened(quiet, '2026-11-29T04:59Z', 1)).toEqual(['2026-11-28T21:00 to 2026-11-29T05:00']);
  expect(opened(quiet, '2026-11-29T05:00Z', 1)).toEqual(['2026-12-05T21:00 to 2026-12-06T05:00']);
});

test.each<[string, string, QuietWindow, string, string[]]>([
  [
    'the hour that clocks skip',
    'Europe/Berlin',
    every('02:00', '03:00'),
    '2026-03-28T20:00Z',
    ['2026-03-29T01:00 to 2026-03-29T02:00', '2026-03-30T00:00 to 2026-03-30T01:00'],
  ],
  [
    'a part of it',
    'Europe/Berlin',
    every('02:15', '03:15'),
    '2026-03-28T20:00Z',
    ['2026-03-29T01:15 to 2026-03-29T02:15', '2026-03-30T00:15 to 2026-03-30T01:15'],
  ],
  [
    'the night in which it is',
    'Europe/Berlin',
    every('22:00', '06:00'),
    '2026-03-28T12:00Z',
    ['2026-03-28T21:00 to 2026-03-29T04:00'],
  ],
  [
    'the hour that clocks show twice',
    'Europe/Berlin',
    every('02:00', '03:00'),
    '2026-10-24T20:00Z',
    ['2026-10-25T00:00 to 2026-10-25T02:00', '2026-10-26T01:00 to 2026-10-26T02:00'],
  ],
  [
    'the same in New York',
    'America/New_York',
    every('01:00', '02:00'),
    '2026-10-31T20:00Z',
    ['2026-11-01T05:00 to 2026-11-01T07:00', '2026-11-02T06:00 to 2026-11-02T07:00'],
  ],
  [
    'the half hour of Lord Howe',
    'Australia/Lord_Howe',
    every('02:00', '02:30'),
    '2026-10-03T12:00Z',
    ['2026-10-03T15:30 to 2026-10-03T16:00', '2026-10-04T15:00 to 2026-10-04T15:30'],
  ],
  [
    'a day that was not',
    'Pacific/Apia',
    { days: ['fri'], from: '01:00', to: '05:00' },
    '2011-12-28T12:00Z',
    ['2011-12-30T11:00 to 2011-12-30T15:00', '2012-01-05T11:00 to 2012-01-05T15:00'],
  ],
])('quiet hours in %s open once', (_, zone, window, from, expected) => {
  expect(opened({ zone, windows: [window] }, from, expected.length)).toEqual(expected);
});

test('windows that touch are one, and those that leave no gap never close', () => {
  const weekend = { days: ['sat', 'sun'] as const, from: '00:00', to: '24:00' };
  expect(opened({ zone: 'UTC', windows: [weekend] }, '2026-11-25T00:00Z', 1)).toEqual([
    '2026-11-28T00:00 to 2026-11-30T00:00',
  ]);
  expect(opened({ zone: 'Europe/Berlin', windows: [every('00:00', '24:00')] }, '2026-03-25T12:00Z', 2)).toEqual([
    expect.stringMatching(/ to ever$/),
  ]);
});

test.each<[string, string, string[]]>([
  [
    '0 3 * * sat',
    '2026-11-23T00:00Z',
    ['2026-11-28T02:00 to 2026-11-28T03:00', '2026-12-05T02:00 to 2026-12-05T03:00'],
  ],
  [
    '30 2 29 3 *',
    '2026-01-01T00:00Z',
    ['2026-03-29T01:00 to 2026-03-29T02:00', '2027-03-29T00:30 to 2027-03-29T01:30'],
  ],
  [
    '30 2 25 10 *',
    '2026-01-01T00:00Z',
    ['2026-10-25T00:30 to 2026-10-25T01:30', '2027-10-25T00:30 to 2027-10-25T01:30'],
  ],
  ['0,30 3 1 * *', '2026-11-25T00:00Z', ['2026-12-01T02:00 to 2026-12-01T03:30']],
  ['0 0 30 2 *', '2026-01-01T00:00Z', []],
])('a cron expression opens them: %s', (expression, from, expected) => {
  const quiet = { zone: 'Europe/Berlin', cron: expression, openForMinutes: 60 };
  expect(opened(quiet, from, expected.length + (expected.length === 0 ? 1 : 0))).toEqual(expected);
});

test.each<[unknown, RegExp]>([
  [{ zone: 'UTC', windows: [] }, /never open/],
  [{ zone: 'UTC', windows: [{ days: [], from: '00:00', to: '01:00' }] }, /never open/],
  [{ zone: 'UTC', windows: [{ days: ['someday'], from: '00:00', to: '01:00' }] }, /no day "someday"/],
  [{ zone: 'UTC', windows: [{ days: ['sun'], from: '25:00', to: '01:00' }] }, /no time of day/],
  [{ zone: 'UTC', windows: [{ days: ['sun'], from: '24:30', to: '01:00' }] }, /no time of day/],
  [{ zone: 'UTC', windows: Array(51).fill(every('00:00', '01:00')) }, /at most 50/],
  [{ zone: 'Nowhere', windows: [every('00:00', '01:00')] }, /no time zone/],
  [{ zone: 'UTC', cron: '* * * * * *', openForMinutes: 60 }, /five fields/],
  [{ zone: 'UTC', cron: '@daily', openForMinutes: 60 }, /five fields/],
  [{ zone: 'UTC', cron: '0 3 * * *', openForMinutes: 0 }, /5 minutes to 7 days/],
])('%j are refused', (quiet, message) => {
  expect(() => requireQuietHours(quiet as QuietHours)).toThrow(message);
});

test.each(['61 * * * *', 'a b c d e', '* * * * 9'])(
  'a cron expression that cannot be read is refused: %s',
  (expression) => {
    expect(() => openings({ zone: 'UTC', cron: expression, openForMinutes: 60 }, cron)).toThrow(
      expect.objectContaining({ code: 'invalid_argument' }),
    );
  },
);

const times = fc.integer({ min: 0, max: 23 * 60 + 59 }).map((minutes) => {
  return `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;
});
const windowsOf = fc.array(fc.record({ days: fc.subarray([...weekdays], { minLength: 1 }), from: times, to: times }), {
  minLength: 1,
  maxLength: 4,
});

test('where clocks do not change, an instant is in quiet hours exactly when its wall clock is', () => {
  const minutes = fc.integer({ min: Date.UTC(2025) / 60_000, max: Date.UTC(2027) / 60_000 });
  fc.assert(
    fc.property(fc.constantFrom('UTC', 'Asia/Kathmandu'), windowsOf, minutes, (zone, windows, minute) => {
      const instant = minute * 60_000;
      const { day, ms } = wallClock(zone, instant);
      const on = (of: number, { days }: QuietWindow) => days.includes(weekdays[weekday(of)] ?? 'sun');
      const time = (clock: string) => Number(clock.slice(0, 2)) * HOUR_MS + Number(clock.slice(3)) * 60_000;
      const isIn = windows.some((window) => {
        const [start, end] = [time(window.from), time(window.to)];
        if (end > start) return on(day, window) && ms >= start && ms < end;
        return (on(day, window) && ms >= start) || (on(day - 1, window) && ms < end);
      });
      const found = openings({ zone, windows }, undefined).from(instant);
      expect(found !== undefined && found.opens <= instant).toBe(isIn);
      expect(found?.closes).toBeGreaterThan(instant);
    }),
    { numRuns: 300 },
  );
});

test('in every zone windows come in order, apart from each other, and with no week without one', () => {
  const zones = fc.constantFrom('Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Apia');
  const starts = fc.integer({ min: Date.UTC(2011, 6) / HOUR_MS, max: Date.UTC(2027) / HOUR_MS });
  fc.assert(
    fc.property(zones, windowsOf, starts, (zone, windows, hour) => {
      const quiet = openings({ zone, windows }, undefined);
      let instant = hour * HOUR_MS;
      for (let step = 0; step < 12; step++) {
        const window = quiet.from(instant);
        if (window === undefined) throw new Error('none');
        expect(window.closes).toBeGreaterThan(window.opens);
        if (step > 0) expect(window.opens).toBeGreaterThan(instant);
        expect(window.opens - instant).toBeLessThanOrEqual(8 * DAY_MS);
        if (window.closes === Infinity) return;
        instant = window.closes;
      }
    }),
    { numRuns: 100 },
  );
});
