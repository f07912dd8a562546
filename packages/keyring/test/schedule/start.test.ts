import { beforeAll, expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import type { QuietHours } from '../../src/api-schedule.ts';
import { loadCron } from '../../src/schedule/arithmetic/cron.ts';
import { DAY_MS, HOUR_MS } from '../../src/schedule/arithmetic/duration.ts';
import { openings, weekdays, type CronTimes, type Openings } from '../../src/schedule/arithmetic/quiet-hours.ts';
import {
  datesOf,
  LEAST_AGE_MS,
  mayStart,
  nextStarts,
  startOf,
  type Dates,
} from '../../src/schedule/arithmetic/start.ts';
import { wallClock } from '../../src/schedule/arithmetic/zone.ts';

let cron: CronTimes;
beforeAll(async () => {
  cron = await loadCron();
});

const text = (instant: number | undefined): string | undefined =>
  instant === undefined ? undefined : new Date(instant).toISOString().slice(0, 16);
const plain = { rotateAfterMs: 90 * DAY_MS, jitterMs: 0 };
const made = Date.parse('2026-01-01T10:20:00Z');

test('without quiet hours it begins at the full hour before its age is reached', () => {
  expect(text(startOf(datesOf(made, plain, 0), undefined, made))).toBe('2026-04-01T10:00');
  expect(nextStarts(datesOf(made, plain, 0), plain, 0, undefined, made, 5).map(text)).toEqual([
    '2026-04-01T10:00',
    '2026-06-30T10:00',
    '2026-09-28T10:00',
    '2026-12-27T10:00',
    '2027-03-27T10:00',
  ]);
});

test('one whose date has passed begins at once, and what follows is counted from then', () => {
  const now = Date.parse('2026-05-05T05:05:00Z');
  expect(nextStarts(datesOf(made, plain, 0), plain, 0, undefined, now, 2).map(text)).toEqual([
    '2026-05-05T05:05',
    '2026-08-03T05:00',
  ]);
});

test('where quiet hours would open too late, it begins in the last before the age is reached', () => {
  const saturdays = openings({ zone: 'UTC', windows: [{ days: ['sat'], from: '02:00', to: '04:00' }] }, undefined);
  // 90 days after Thursday, 1 January is Wednesday, 1 April.
  expect(text(startOf(datesOf(made, plain, 0), saturdays, made))).toBe('2026-03-28T02:00');
  // That one was missed: the next, and late.
  expect(text(startOf(datesOf(made, plain, 0), saturdays, Date.parse('2026-03-28T04:00Z')))).toBe('2026-04-04T02:00');
});

test('quiet hours that open more seldom than the age allows are used each time, and never twice', () => {
  const yearly = openings({ zone: 'UTC', cron: '0 3 1 2 *', openForMinutes: 120 }, cron);
  expect(nextStarts(datesOf(made, plain, 0), plain, 0, yearly, made, 3).map(text)).toEqual([
    '2026-02-01T03:00',
    '2027-02-01T03:00',
    '2028-02-01T03:00',
  ]);
});

test('quiet hours that have ended for ever give no date', () => {
  const never: Openings = { from: () => undefined };
  expect(startOf(datesOf(made, plain, 0), never, made)).toBeUndefined();
  expect(nextStarts(datesOf(made, plain, 0), plain, 0, never, made, 5)).toEqual([]);
});

const zones = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Apia', 'UTC'];
const hours = fc.integer({ min: 0, max: 24 }).map((hour) => `${String(hour % 24).padStart(2, '0')}:00`);
const quietHours: fc.Arbitrary<QuietHours | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.record({
    zone: fc.constantFrom(...zones),
    windows: fc.array(fc.record({ days: fc.subarray([...weekdays], { minLength: 1 }), from: hours, to: hours }), {
      minLength: 1,
      maxLength: 2,
    }),
  }),
  fc.record({
    zone: fc.constantFrom(...zones),
    cron: fc.constantFrom('0 2 * * *', '30 2 * * sun', '15 1 1 * *', '0 3 1 1,7 *', '0 0,12 * * mon-fri'),
    openForMinutes: fc.constantFrom(60, 300),
  }),
);
// Found by chance: hours that never end.
const allDay: QuietHours = { zone: 'Europe/Berlin', windows: [{ days: [...weekdays], from: '02:00', to: '02:00' }] };
const ages = fc
  .record({ days: fc.integer({ min: 1, max: 200 }), spread: fc.double({ min: 0, max: 0.2, noNaN: true }) })
  .map(({ days, spread }) => ({ rotateAfterMs: days * DAY_MS, jitterMs: Math.floor(days * spread * DAY_MS) }));
const fractions = fc.double({ min: 0, max: 0.999999, noNaN: true });
const moments = fc.integer({ min: Date.UTC(2011, 0) / 60_000, max: Date.UTC(2027) / 60_000 }).map((n) => n * 60_000);

test('looking every quarter of an hour finds it startable exactly from the date that was foretold', () => {
  fc.assert(
    fc.property(
      quietHours,
      ages,
      fractions,
      moments,
      fc.integer({ min: 0, max: 40 }),
      (given, age, fraction, at, daysOff) => {
        const quiet = given && openings(given, cron);
        const dates = datesOf(at, age, fraction);
        // Nobody looked for the first days: the server was down.
        const from = at + daysOff * DAY_MS;
        const start = startOf(dates, quiet, from);
        if (start === undefined) throw new Error('these quiet hours go on');
        const begins = (instant: number): boolean => {
          if (quiet === undefined) return dates.dueAt <= instant;
          const window = quiet.from(instant);
          if (window === undefined || window.opens > instant) return false;
          return mayStart(dates, instant, window, quiet.from(window.closes)?.opens);
        };
        expect(begins(start)).toBe(true);
        const step = 15 * 60_000;
        const first = Math.ceil(from / step) * step;
        // The last two days before it, and what is in between now and then, more coarsely.
        for (let instant = first; instant < start; instant += instant < start - 2 * DAY_MS ? 7 * HOUR_MS : step) {
          if (begins(instant))
            throw new Error(`startable at ${String(text(instant))} already, not at ${String(text(start))}`);
        }
      },
    ),
    { numRuns: 30, examples: [[allDay, { rotateAfterMs: DAY_MS, jitterMs: 0 }, 0, Date.UTC(2011, 0, 1), 0]] },
  );
});

test('over two years in every zone nothing is skipped, doubled, or older than promised where quiet hours open every week', () => {
  const twoYears = 730 * DAY_MS;
  fc.assert(
    fc.property(quietHours, ages, fractions, moments, (given, age, fraction, at) => {
      const quiet = given && openings(given, cron);
      let dates: Dates = datesOf(at, age, fraction);
      const weekly = given === undefined || !('cron' in given) || given.cron.startsWith('0 2');
      for (let now = at; now < at + twoYears;) {
        const start = startOf(dates, quiet, now);
        if (start === undefined) throw new Error('none');
        expect(start - dates.madeAt).toBeGreaterThanOrEqual(LEAST_AGE_MS);
        if (quiet !== undefined) expect(quiet.from(start)?.opens).toBeLessThanOrEqual(start);
        if (weekly && age.rotateAfterMs >= 16 * DAY_MS) expect(start).toBeLessThanOrEqual(dates.promisedAt);
        now = start;
        dates = datesOf(start, age, fraction);
      }
    }),
    { numRuns: 60 },
  );
});

test.each(zones)(
  'a nightly schedule in %s moves every night of two years, at the hour that its clocks show',
  (zone) => {
    const nightly = openings({ zone, windows: [{ days: weekdays, from: '03:00', to: '05:00' }] }, undefined);
    const daily = { rotateAfterMs: DAY_MS, jitterMs: 0 };
    const from = Date.parse(zone === 'Pacific/Apia' ? '2011-01-01T00:00Z' : '2026-01-01T00:00Z');
    const starts = nextStarts(datesOf(from - DAY_MS, daily, 0), daily, 0, nightly, from, 730);
    const days = starts.map((start) => wallClock(zone, start).day);
    expect(new Set(days).size).toBe(730);
    for (const start of starts) {
      const { ms } = wallClock(zone, start);
      expect(ms).toBeGreaterThanOrEqual(3 * HOUR_MS);
      expect(ms).toBeLessThan(5 * HOUR_MS);
    }
    // Apia had no 30 December 2011.
    expect((days.at(-1) ?? 0) - (days[0] ?? 0)).toBe(zone === 'Pacific/Apia' ? 730 : 729);
  },
);

test('the spread is always the same for a project, and never past the promise', () => {
  fc.assert(
    fc.property(ages, fractions, moments, (age, fraction, at) => {
      const { dueAt, promisedAt } = datesOf(at, age, fraction);
      expect(dueAt).toBeLessThanOrEqual(promisedAt);
      expect(dueAt).toBeGreaterThan(promisedAt - age.jitterMs - HOUR_MS - 1);
      expect(dueAt - at).toBeGreaterThanOrEqual(LEAST_AGE_MS);
    }),
  );
});
