import { performance } from 'node:perf_hooks';
import type { Database } from '../db/port.ts';
import { selectSecret, selectSomeSecretNames } from '../secrets/store.ts';

// So many rows are known by name at once, and read in turn before others are looked for.
const PLACES = 16;
const ROUNDS = 8;

// Where this process was busy for more of the time, the probe measured it, and not the database.
const MOST_ACTIVE = 0.5;

/**
 * The read that a `get` does, of a secret chosen at random, without opening it. Gives how long it took in milliseconds, or
 * undefined when there is nothing to read, it failed, or this process was too busy to notice the answer.
 */
export function readProbe(database: Database): () => Promise<number | undefined> {
  let places: { projectId: string; name: string }[] = [];
  let reads = 0;
  return async () => {
    try {
      if (reads % (PLACES * ROUNDS) === 0) places = await selectSomeSecretNames(database, PLACES);
      const place = places[reads++ % Math.max(places.length, 1)];
      if (place === undefined) return undefined;
      const before = performance.eventLoopUtilization();
      const start = performance.now();
      await selectSecret(database, place.projectId, place.name);
      const ms = performance.now() - start;
      return performance.eventLoopUtilization(before).utilization > MOST_ACTIVE ? undefined : ms;
    } catch {
      // The work itself fails on the same database and tells it better.
      return undefined;
    }
  };
}
