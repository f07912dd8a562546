import { setTimeout as sleep } from 'node:timers/promises';
import { pick } from '../../../packages/keyring/test/engine/support/random.ts';
import type { Site } from './site.ts';
import type { Storm } from './storm.ts';
import type { Workers } from './workers.ts';

const SHORTEST_PEACE_MS = 200;
const LONGEST_PEACE_MS = 2_200;
/** Of so many kills, one is of PostgreSQL. */
const KILLS_PER_STOP = 4;
/** How long it waits for one that is worth it. */
const PATIENCE_MS = 1_500;
const targets = ['anybody', 'a driver', 'a hand'] as const;

export interface Kills {
  workers: number;
  /** Of these, while it was driving a rotation. */
  driving: number;
  /** And while it was doing units of one. */
  doing: number;
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
    const target = pick(targets, random);
    await sleep(peace, undefined, { signal: storm.over }).catch(() => undefined);
    if (kill % KILLS_PER_STOP === stops) {
      storm.note('adversary', 'stops PostgreSQL');
      const { port } = site.cluster;
      await site.cluster.restart('immediate');
      if (site.cluster.port !== port) throw new Error('PostgreSQL came back on another port.');
      kills.postgres += 1;
    } else {
      const found = target === 'anybody' ? undefined : await workers.find(target, PATIENCE_MS, storm.over);
      storm.note('adversary', `kills worker ${String(found ?? victim)}`);
      kills.workers += 1;
      const { driving, doing } = await workers.kill(found ?? victim);
      if (driving > 0) kills.driving += 1;
      if (doing > 0) kills.doing += 1;
    }
  }
}
