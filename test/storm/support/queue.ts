import { setTimeout as sleep } from 'node:timers/promises';
import { requireLaws, type Laws } from './laws.ts';
import type { Site } from './site.ts';
import type { Workers } from './workers.ts';

// Longer than it takes to miss a worker that is dead (packages/keyring-worker/src/workers.ts).
const PATIENCE_MS = 15_000;
const ALIVE = `seen_at > now() - interval '5 seconds'`;

/** What holds of queue and workers soon after the last rotation has ended, while nobody is killed any more. */
function lawsOf({ pids }: Workers, killed: number): Laws {
  const alive = pids.join(', ');
  return {
    'a job waits for nobody': `
      select id, singleton_key from keyring_jobs.job where state in ('created', 'retry')`,
    'a job that is being done is of a rotation that is open': `
      select id, singleton_key, heartbeat_on from keyring_jobs.job where state = 'active'`,
    'who is alive is called alive, and does nothing': `
      select pid, doing from unnest(array[${alive}]) pid left join keyring.workers w using (pid)
      where (${ALIVE} and doing = '{"units": [], "driving": []}') is not true`,
    'who is dead is not': `select pid, seen_at from keyring.workers where ${ALIVE} and pid not in (${alive})`,
    'each worker there was is on the list, for an hour': `
      select count(*) from keyring.workers having count(*) <> ${String(pids.length + killed)}`,
  };
}

/** @throws Error naming the law that still does not hold after a while. */
export async function expectQueueCalm({ sql }: Site, workers: Workers, killed: number): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      await requireLaws(lawsOf(workers, killed), sql);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(200);
    }
  }
}
