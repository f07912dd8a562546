import { attack, type Kills } from './adversary.ts';
import { always, requireLaws } from './laws.ts';
import { startMischief } from './mischief.ts';
import { startOperator } from './operator.ts';
import { startService } from './service.ts';
import { settle } from './settle.ts';
import { startSite } from './site.ts';
import { Storm } from './storm.ts';
import type { StormOptions } from './options.ts';
import { expectQueueCalm } from './queue.ts';
import { expectCalm } from './verdict.ts';
import type { UnitsDone } from './worker-process.ts';
import { Workers } from './workers.ts';

const WORKERS = 3;
const INSPECTION_MS = 1_000;

export interface StormReport {
  readonly kills: Kills;
  /** What writers and readers did, in all. */
  readonly service: Readonly<Record<string, number>>;
  /** What was done to the rotations and the database, and how rotations ended. */
  readonly tally: Readonly<Record<string, number>>;
  /** What the workers did. */
  readonly units: UnitsDone;
  readonly peakRssBytes: number;
}

/**
 * Writers, readers, an operator and accidents, while workers and PostgreSQL are killed; then calm, one last rotation of
 * everything, and the verdict. @throws Error for what is not as it must be, with the diary of the last moments.
 */
export async function runStorm({ seed, kills: count }: StormOptions): Promise<StormReport> {
  const storm = new Storm(seed);
  const kills: Kills = { workers: 0, driving: 0, doing: 0, postgres: 0 };
  const site = await startSite(storm);
  const workers = new Workers(storm, site, WORKERS);
  try {
    await workers.ready();
    storm.note('storm', 'begins');
    const actors = [
      ...startService(storm, site),
      ...startMischief(storm, site),
      startOperator(storm, site),
      storm.act('inspector', INSPECTION_MS, () => requireLaws(always, site.sql)),
    ];
    await attack(storm, site, workers, count, kills).catch((error: unknown) => storm.fail(error));
    storm.end();
    await Promise.all(actors);
    storm.throwIfFailed();
    storm.note('storm', 'is over');

    await settle(storm, site);
    storm.note('storm', 'has settled');
    await requireLaws(always, site.sql);
    const last = await site.operator.rotations.request({ projects: 'all', pace: 'full' });
    await settle(storm, site);
    const rotations = await site.sql<{ state: string; count: number }>(
      'select state, count(*)::int from keyring.rotations group by 1',
    );
    const end = await site.operator.rotations.get(last.id);
    if (end?.state !== 'completed') throw new Error(`The last rotation is ${end?.state ?? 'gone'}.`);
    const left = await expectQueueCalm(site, workers, kills.workers);
    if (left > 0) storm.tally['jobs that the dead left'] = left;
    await workers.end();
    storm.note('storm', 'is calm');
    await expectCalm(site);
    storm.note('storm', 'is judged');
    const service: Record<string, number> = {};
    for (const { counts } of site.models) {
      for (const [what, times] of Object.entries(counts)) service[what] = (service[what] ?? 0) + Number(times);
    }
    for (const { state, count: times } of rotations) storm.tally[`rotations ${state}`] = times;
    return { kills, service, tally: storm.tally, units: workers.done, peakRssBytes: workers.peakRssBytes };
  } catch (error) {
    const struck = kills.workers + kills.postgres;
    const found = error instanceof Error ? error.message : String(error);
    throw new Error(`After ${String(struck)} kills: ${found}\n${storm.diary}`, { cause: error });
  } finally {
    storm.end();
    await workers.end();
    await site.disconnect().catch(() => undefined);
    await site.end();
  }
}
