import { expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import { DAY_MS, durationInWords, HOUR_MS, parseDuration } from '../../src/schedule/arithmetic/duration.ts';

test.each([
  ['90d', 90 * DAY_MS],
  ['12 weeks', 84 * DAY_MS],
  [' 36 Hours ', 36 * HOUR_MS],
  ['1 day', DAY_MS],
  ['45min', 45 * 60_000],
])('%s is read', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(['', '90', 'd', '-1d', '1.5d', '3 months', '1y', '90d 3h', '9999999999d', 'P90D'])(
  '%j is refused',
  (text) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  },
);

test.each([
  [90 * DAY_MS, '90 days'],
  [84 * DAY_MS, '12 weeks'],
  [7 * DAY_MS, '1 week'],
  [DAY_MS, '1 day'],
  [36 * HOUR_MS, '1 day 12 hours'],
  [365 * DAY_MS, '365 days'],
  [0, '0 minutes'],
])('%d ms are said as %s', (ms, words) => {
  expect(durationInWords(ms)).toBe(words);
});

test('a span of one unit is read back from its words', () => {
  const spans = fc.tuple(fc.integer({ min: 1, max: 520 }), fc.constantFrom('d', 'w', 'days', 'weeks'));
  fc.assert(
    fc.property(spans, ([n, unit]) => {
      const ms = parseDuration(`${String(n)} ${unit}`);
      expect(parseDuration(durationInWords(ms).replaceAll(',', ''))).toBe(ms);
    }),
  );
});
