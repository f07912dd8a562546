import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Keyring } from '@meshhook/keyring';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { rate, ratio, seconds } from './table.ts';
import type { WorkerStart } from './worker-process.ts';

const SECRETS_EACH = 10;
const WORKERS = [1, 2, 4];
// Two beats, after which each knows of all others.
const ACQUAINTED_MS = 2_500;

/** A fleet, and one large project, rotated by one worker process, by two, and by four, on the same cores as PostgreSQL. */
export async function workerMeasures(bench: Bench): Promise<Measure[]> {
  const projects = bench.quick ? 2_000 : 10_000;
  const secrets = bench.quick ? 100_000 : 300_000;
  return [
    ...(await byWorkers(
      bench,
      `${projects.toLocaleString('en')} projects × ${String(SECRETS_EACH)}`,
      projects,
      SECRETS_EACH,
    )),
    ...(await byWorkers(bench, `1 project × ${secrets.toLocaleString('en')}`, 1, secrets)),
  ];
}

async function byWorkers(bench: Bench, what: string, projects: number, secretsEach: number): Promise<Measure[]> {
  const database = await bench.database({ projects, secretsEach });
  const keyring = await database.open();
  const measures: Measure[] = [];
  let alone: number | undefined;
  try {
    for (const count of WORKERS) {
      const totalMs = await withWorkers(database, count, () => rotateByOthers(keyring));
      alone ??= totalMs;
      measures.push({
        what: `rotate ${what} by ${String(count)} worker${count === 1 ? '' : 's'}`,
        measured: rate(projects * secretsEach, totalMs),
        against: `${seconds(totalMs)}; ${ratio(alone / totalMs)} one worker's rate`,
        numbers: { projects, secretsEach, workers: count, totalMs },
      });
    }
    return measures;
  } finally {
    await keyring.close();
    await database.drop();
  }
}

async function withWorkers<T>(database: BenchDatabase, count: number, work: () => Promise<T>): Promise<T> {
  const workers = await Promise.all(Array.from({ length: count }, () => start(database)));
  try {
    await sleep(ACQUAINTED_MS);
    return await work();
  } finally {
    await Promise.all(
      workers.map(async (worker) => {
        worker.send('stop');
        await once(worker, 'exit');
      }),
    );
  }
}

async function start({ serviceUrl, rootKey }: BenchDatabase): Promise<ChildProcess> {
  const worker = fork(path.join(import.meta.dirname, 'worker-process.ts'));
  worker.send({ database: serviceUrl, rootKey } satisfies WorkerStart);
  await once(worker, 'message');
  return worker;
}

/** From request to completed, as somebody sees it who only looks. */
async function rotateByOthers(keyring: Keyring): Promise<number> {
  const start = performance.now();
  const { id } = await keyring.rotations.request({ projects: 'all', reason: 'bench', pace: 'full' });
  for (;;) {
    const [rotation] = await keyring.rotations.list({ limit: 1 });
    if (rotation?.id === id && rotation.state === 'completed') return performance.now() - start;
    if (rotation?.finishedAt !== undefined) throw new Error(`the rotation ended ${rotation.state}`);
    await sleep(50);
  }
}
