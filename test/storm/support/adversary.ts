import { setTimeout as sleep } from 'node:timers/promises';
import type { Site } from './site.ts';
import type { Storm } from './storm.ts';
import type { Workers } from './workers.ts';

const SHORTEST_PEACE_MS = 200;
const LONGEST_PEACE_MS = 2_200;
/** Of so many kills, one is of PostgreSQL. */
const KILLS_PER_STOP = 4;

export interface Kills {
  workers: number;
  /** Of these, while it was driving a rotation. */
  driving: number;
  postgres: number;
}

/** Kills workers and PostgreSQL, which are started again at once, until it has done so often enough. */
export async function attack(storm: Storm, site: Site, workers: Workers, count: number, kills: Kills): Promise<void> {
  for (let kill = 0; kill < count && !storm.over.aborted; kill++) {
    const round = Math.floor(kill / KILLS_PER_STOP);
    const stops = storm.dice('adversary’s round', round)(Math.min(KILLS_PER_STOP, count - round * KILLS_PER_STOP));
    const random = storm.dice('adversary', kill);
    const peace = SHORTEST_PEACE_MS + random(LONGEST_PEACE_MS - SHORTEST_PEACE_MS);
    const victim = random(workers.count);
    await sleep(peace, undefined, { signal: storm.over }).catch(() => undefined);
    if (kill % KILLS_PER_STOP === stops) {
      storm.note('adversary', 'stops PostgreSQL');
      const { port } = site.cluster;
      await site.cluster.restart('immediate');
      if (site.cluster.port !== port) throw new Error('PostgreSQL came back on another port.');
      kills.postgres += 1;
    } else {
      storm.note('adversary', `kills worker ${String(victim)}`);
      kills.workers += 1;
      if ((await workers.kill(victim)) > 0) kills.driving += 1;
    }
  }
}
