import { expect, test } from 'vitest';
import { live } from '../../packages/keyring-worker/test/support/life.ts';
import { residents } from '../../packages/keyring-worker/test/support/residents.ts';
import { changesOf } from '../../packages/keyring-worker/test/support/wall-clock.ts';
import { seed } from '../support/seeded.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

const from = Date.parse('2026-01-15T10:17:23Z');
const until = Date.parse('2028-01-15T00:00:00Z');
const zones = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'];

describeLong('two years with a rotation every night (MESHHOOK_LONG=1)', () => {
  test.for([1])(
    'nothing is missed, doubled or outside quiet hours, whenever nobody is there and whatever the clock shows (%i)',
    { timeout: LONG_MS },
    async (round, { task }) => {
      task.meta.seed = seed;
      const lived = await live({
        ...{ seed: seed + round, from, until },
        byDefault: { rotateAfterMs: 90 * 86_400_000, jitterMs: 0 },
        residents: residents(from, { often: true, nightlyDays: [] }),
        closely: zones.flatMap((zone) => changesOf(zone, from, until)),
        ...{ outages: 15, jumps: 30, failing: 30 },
      });
      console.log(JSON.stringify(lived));
      expect(lived.moved).toBeGreaterThan(700);
      for (const what of ['failed', 'killed', 'late', 'overdue', 'outages', 'jumps'] as const) {
        expect(lived[what], what).toBeGreaterThan(2);
      }
    },
  );
});
