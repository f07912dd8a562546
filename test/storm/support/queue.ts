import { setTimeout as sleep } from 'node:timers/promises';
import { requireLaws, type Laws } from './laws.ts';
import type { Site } from './site.ts';
import type { Workers } from './workers.ts';

// Longer than it takes to miss a worker that is dead (packages/keyring-worker/src/workers.ts), far less than jobs that are left live.
const PATIENCE_MS = 120_000;
// Of a worker that is not told otherwise.
const CONCURRENCY = 2;
const ALIVE = `seen_at > now() - interval '5 seconds'`;

/** What holds of queue and workers soon after the last rotation has ended, while nobody is killed any more. */
function lawsOf({ pids }: Workers, killed: number): Laws {
  const alive = pids.join(', ');
  return {
    'a job waits for nobody': `
      select id, singleton_key from keyring_jobs.job where state in ('created', 'retry')`,
    'nobody does a unit of a rotation that has ended': `
      select id, singleton_key, heartbeat_on from keyring_jobs.job
      where state = 'active' and heartbeat_on > now() - interval '5 seconds'`,
    'what is left of a unit is what a worker was killed over': `
      select count(*) from keyring_jobs.job where state = 'active' having count(*) > ${String(killed * CONCURRENCY)}`,
    'who is alive is called alive, and does nothing': `
      select pid, doing from unnest(array[${alive}]) pid left join keyring.workers w using (pid)
      where (${ALIVE} and doing = '{"units": [], "driving": []}') is not true`,
    'who is dead is not': `select pid, seen_at from keyring.workers where ${ALIVE} and pid not in (${alive})`,
    'each worker there was is on the list, for an hour': `
      select count(*) from keyring.workers having count(*) <> ${String(pids.length + killed)}`,
  };
}

/**
 * Gives how many jobs the dead left: nobody drove their rotation any more, and they go ten minutes later.
 * @throws Error naming the law that still does not hold after a while.
 */
export async function expectQueueCalm({ sql }: Site, workers: Workers, killed: number): Promise<number> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      await requireLaws(lawsOf(workers, killed), sql);
      return (await sql(`select from keyring_jobs.job where state = 'active'`)).length;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(200);
    }
  }
}
