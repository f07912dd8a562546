import { expect, test } from 'vitest';
import { live } from './support/life.ts';
import { residents } from './support/residents.ts';
import { changesOf } from './support/wall-clock.ts';

const from = Date.parse('2026-01-15T10:17:23Z');
const until = Date.parse('2028-01-15T00:00:00Z');

test('over two years of a real database nothing is missed, doubled or outside quiet hours, and every date is the one that was said', async () => {
  const lived = await live({
    ...{ seed: 20_261_127, from, until },
    byDefault: { rotateAfterMs: 90 * 86_400_000, jitterMs: 0 },
    residents: residents(from, {
      often: false,
      nightlyDays: [
        ['2026-03-04', '2026-03-12'],
        ['2026-10-29', '2026-11-05'],
      ],
    }),
    closely: ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'].flatMap((zone) =>
      changesOf(zone, from, until),
    ),
    outages: 8,
    jumps: 6,
    failing: 12,
  });
  expect(lived.rotations).toBeGreaterThan(100);
  expect(lived.moved).toBeGreaterThan(100);
  for (const what of ['failed', 'killed', 'late', 'overdue', 'outages', 'jumps', 'together', 'destroyed'] as const) {
    expect(lived[what], what).toBeGreaterThan(2);
  }
});
