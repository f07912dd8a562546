import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Keyring, Rotation } from '@meshhook/keyring';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { percentile, rate, ratio } from './table.ts';
import type { Ask } from './rotating-process.ts';

// A service at moderate load: a reader asks, and asks again so much later.
const READERS = 2;
const BETWEEN_MS = 2;
// Looking costs the readers' process too, which is not what is measured.
const LOOK_MS = { polite: 2_000, full: 100 };

/**
 * What `get` costs the users of one project while another project is rotated by another process, as in production, on the same
 * two cores: polite, and at full speed for comparison. Idle is measured before, between and after.
 */
export async function readMeasures(bench: Bench): Promise<Measure[]> {
  const secrets = bench.quick ? 20_000 : 50_000;
  const seconds = bench.quick ? 4 : 10;
  const database = await bench.database({ projects: 2, secretsEach: secrets });
  const keyring = await database.open();
  const rotator = fork(path.join(import.meta.dirname, 'rotating-process.ts'));
  try {
    const reader = new Readers(keyring, database.projectIds[1] ?? '', secrets);
    await reader.during(sleep(1_000));
    const idle = [await reader.during(sleep(seconds * 1_000))];
    const polite = await besideRotation(reader, keyring, database, rotator, 'polite', seconds * 1_000);
    idle.push(await reader.during(sleep(seconds * 500)));
    const full = await besideRotation(reader, keyring, database, rotator, 'full', seconds * 1_000);
    idle.push(await reader.during(sleep(seconds * 500)));
    const calm = { times: idle.flatMap((one) => one.times), errors: idle.reduce((sum, one) => sum + one.errors, 0) };
    return [
      {
        what: 'reads, idle: p50 / p99',
        measured: percentiles(calm.times),
        against: `${calm.times.length.toLocaleString('en')} reads, ${String(calm.errors)} errors; alone p99 ${idle
          .map((one) => micro(percentile(one.times, 0.99)))
          .join(', ')}`,
        numbers: { p50Ms: percentile(calm.times, 0.5), p99Ms: percentile(calm.times, 0.99), errors: calm.errors },
      },
      measure('reads while a polite rotation runs', polite, calm, '≤ 1.25 ×, 0 errors'),
      measure('reads while one at full speed runs', full, calm),
    ];
  } finally {
    rotator.disconnect();
    await keyring.close();
    await database.drop();
  }
}

interface Reads {
  readonly times: readonly number[];
  readonly errors: number;
}

class Readers {
  readonly #keyring: Keyring;
  readonly #projectId: string;
  readonly #secrets: number;

  constructor(keyring: Keyring, projectId: string, secrets: number) {
    this.#keyring = keyring;
    this.#projectId = projectId;
    this.#secrets = secrets;
  }

  async during(work: Promise<unknown>): Promise<Reads> {
    const times: number[] = [];
    const state = { over: false, errors: 0 };
    const reading = Array.from({ length: READERS }, async () => {
      while (!state.over) {
        const name = `SECRET_${String(Math.floor(Math.random() * this.#secrets))}`;
        const start = performance.now();
        try {
          await this.#keyring.secrets.get(this.#projectId, name);
          times.push(performance.now() - start);
        } catch {
          state.errors += 1;
        }
        await sleep(BETWEEN_MS);
      }
    });
    await work;
    state.over = true;
    await Promise.all(reading);
    return { times, errors: state.errors };
  }
}

interface Beside extends Reads {
  readonly moved: number;
  readonly ms: number;
}

/** Reads from when the sweep is under way until it is over, or so much time has passed; then the rotation is let finish. */
async function besideRotation(
  readers: Readers,
  keyring: Keyring,
  database: BenchDatabase,
  rotator: ChildProcess,
  pace: Ask['pace'],
  mostMs: number,
): Promise<Beside> {
  const [projectId = ''] = database.projectIds;
  const { id } = await keyring.rotations.request({ projects: [projectId], pace, reason: 'bench' });
  const ended = once(rotator, 'message');
  rotator.send({ database: database.serviceUrl, rootKey: database.rootKey, id, pace } satisfies Ask);
  const look = async (): Promise<Rotation> => {
    const rotation = await keyring.rotations.get(id);
    if (rotation === undefined) throw new Error('the rotation is gone');
    return rotation;
  };
  let before = await look();
  // The first rows are free.
  while (before.rows.moved < 2_000) {
    await sleep(5);
    before = await look();
  }
  const start = performance.now();
  let after = before;
  let sweptMs = 0;
  const watching = async (): Promise<void> => {
    while (performance.now() - start < mostMs && after.state === 'running') {
      await sleep(LOOK_MS[pace]);
      const moved = after.rows.moved;
      after = await look();
      if (after.rows.moved > moved) sweptMs = performance.now() - start;
    }
  };
  const reads = await readers.during(watching());
  await keyring.rotations.setPace(id, { pace: 'full' }).catch(() => undefined);
  const [answer] = (await ended) as [{ state: string }];
  if (answer.state !== 'completed') throw new Error(`the rotation ended ${answer.state}`);
  return { ...reads, moved: after.rows.moved - before.rows.moved, ms: sweptMs };
}

function measure(what: string, beside: Beside, idle: Reads, target?: string): Measure {
  const p99 = percentile(beside.times, 0.99) / percentile(idle.times, 0.99);
  const p50 = percentile(beside.times, 0.5) / percentile(idle.times, 0.5);
  return {
    what: `${what}: p50 / p99`,
    measured: percentiles(beside.times),
    against: `${ratio(p50)} / ${ratio(p99)} idle, ${String(beside.errors)} errors; swept ${rate(beside.moved, beside.ms)}`,
    ...(target === undefined ? {} : { target }),
    numbers: { p50, p99, errors: beside.errors, reads: beside.times.length, moved: beside.moved, ms: beside.ms },
  };
}

function percentiles(times: readonly number[]): string {
  return `${micro(percentile(times, 0.5))} / ${micro(percentile(times, 0.99))}`;
}

function micro(ms: number): string {
  return `${(ms * 1_000).toFixed(0)} µs`;
}
