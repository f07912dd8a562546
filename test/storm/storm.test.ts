import { expect, test } from 'vitest';
import { stormOptions } from './support/options.ts';
import { runStorm } from './support/run.ts';
import { Storm } from './support/storm.ts';

// A worker holds a bounded number of rows and keys, however long it lives and whatever there is to move.
const MOST_RSS_BYTES = 400 * 2 ** 20;

const options = stormOptions();

test(
  'writers, readers, rotations and accidents come through a storm of kills with nothing lost, wrong, stale or illegal',
  async ({ task }) => {
    task.meta.seed = options.seed;
    console.log(`MESHHOOK_STORM_SEED=${String(options.seed)} MESHHOOK_STORM_KILLS=${String(options.kills)}`);
    const { kills, service, tally, units, peakRssBytes } = await runStorm(options);
    console.log(`kills ${JSON.stringify(kills)}\nservice ${JSON.stringify(service)}\nothers ${JSON.stringify(tally)}`);
    console.log(`units ${JSON.stringify(units)}; workers held ${(peakRssBytes / 2 ** 20).toFixed(0)} MB at most`);
    expect(kills.workers + kills.postgres).toBe(options.kills);
    // They did share: projects and parts, some of them for another one.
    expect(Math.min(units.projects, units.rows, units.ofOthers)).toBeGreaterThan(0);
    expect(peakRssBytes).toBeLessThan(MOST_RSS_BYTES);
  },
  900_000 + options.kills * 6_000,
);

test('a seed chooses the same again for each turn of an actor, whatever the turn before it met', () => {
  const chosen = (seed: number, met: number): number[] => {
    const storm = new Storm(seed);
    return [0, 1, 2].flatMap((turn) => {
      const random = storm.dice('operator', turn);
      const first = random(1_000);
      for (let more = 0; more < met; more++) random(1_000);
      return first;
    });
  };
  expect(chosen(7, 5)).toEqual(chosen(7, 0));
  expect(chosen(8, 0)).not.toEqual(chosen(7, 0));
});
