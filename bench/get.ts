import { performance } from 'node:perf_hooks';
import { openKeyring, pgDatabase } from '@meshhook/keyring';
import pg from 'pg';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { percentile, ratio } from './table.ts';

const LANES = 8;
const bareSelect = 'select id, value_encrypted from public.secrets where project_id = $1 and key = $2';

/**
 * A service's `get`, decryption included, against a bare prepared SELECT of the same rows. On one connection both go over the
 * very same one: whether a server process shares a core with this one changes a round trip by a factor of two, and two
 * identical readers on two connections differ by as much. With eight the pools are of one size, and opened anew several
 * times. The two take turns block by block, in random order, so that each finds its caches as it left them.
 */
export async function getMeasures(bench: Bench): Promise<Measure[]> {
  const database = await bench.database({ projects: 1, secretsEach: 1_000 });
  try {
    const one = await oneConnection(database, bench.quick ? 12 : 60);
    const eight = await eightConnections(database, bench.quick ? 4 : 10);
    return [
      {
        what: '`get`, one connection, p50',
        measured: `${one.get.toFixed(0)} µs`,
        against: `${ratio(one.get / one.bare)} a bare prepared SELECT (${one.bare.toFixed(0)} µs)`,
        target: '≤ 1.10 ×',
        numbers: { getP50Us: one.get, bareP50Us: one.bare },
      },
      {
        what: `\`get\`, ${String(LANES)} connections`,
        measured: perSecond(eight.get),
        against: `${ratio(eight.toBare)} the rate of the SELECT over a pool of pg (${perSecond(eight.bare)})`,
        target: '≥ 0.90 ×',
        numbers: { getUs: eight.get, bareUs: eight.bare, rateRatio: eight.toBare },
      },
    ];
  } finally {
    await database.drop();
  }
}

interface Reader {
  read(name: string): Promise<unknown>;
  close(): Promise<void>;
}

/** Median time of one read of each, in microseconds. */
async function oneConnection(database: BenchDatabase, blocks: number): Promise<{ get: number; bare: number }> {
  const shared = pgDatabase({ connectionString: database.serviceUrl, maxConnections: 1 });
  const keyring = await openKeyring({ database: shared, rootKey: database.rootKey, actor: 'bench' });
  const projectId = firstOf(database);
  const readers = {
    bare: (name: string) => shared.query({ name: 'bare', text: bareSelect, values: [projectId, name] }),
    get: (name: string) => keyring.secrets.get(projectId, name),
  };
  const samples = { get: [] as number[], bare: [] as number[] };
  try {
    for (let block = 0; block < blocks; block++) {
      for (const kind of inRandomOrder(['bare', 'get'] as const)) {
        for (let at = 0; at < 300; at++) {
          const start = performance.now();
          await readers[kind](nameOf(at));
          // The first blocks compile the code and settle the plans.
          if (block > 3) samples[kind].push((performance.now() - start) * 1000);
        }
      }
    }
  } finally {
    await keyring.close();
  }
  return { get: percentile(samples.get, 0.5), bare: percentile(samples.bare, 0.5) };
}

/** Median time per read of each, in microseconds, and the median of the pools' ratios of rates. */
async function eightConnections(
  database: BenchDatabase,
  pools: number,
): Promise<{ get: number; bare: number; toBare: number }> {
  const all = { get: [] as number[], bare: [] as number[], toBare: [] as number[] };
  for (let pool = 0; pool < pools; pool++) {
    const readers = { bare: bareReader(database), get: await keyringReader(database) };
    const samples = { get: [] as number[], bare: [] as number[] };
    for (let block = 0; block < 8; block++) {
      for (const kind of inRandomOrder(['bare', 'get'] as const)) {
        const us = await inParallel(2_000, readers[kind]);
        if (block > 0) samples[kind].push(us);
      }
    }
    await readers.bare.close();
    await readers.get.close();
    const [get, bare] = [percentile(samples.get, 0.5), percentile(samples.bare, 0.5)];
    all.get.push(get);
    all.bare.push(bare);
    all.toBare.push(bare / get);
  }
  return { get: percentile(all.get, 0.5), bare: percentile(all.bare, 0.5), toBare: percentile(all.toBare, 0.5) };
}

async function keyringReader(database: BenchDatabase): Promise<Reader> {
  const keyring = await openKeyring({
    database: pgDatabase({ connectionString: database.serviceUrl, maxConnections: LANES }),
    rootKey: database.rootKey,
    actor: 'bench',
  });
  const projectId = firstOf(database);
  return { read: (name) => keyring.secrets.get(projectId, name), close: () => keyring.close() };
}

/** As an application would write it. */
function bareReader(database: BenchDatabase): Reader {
  const pool = new pg.Pool({ connectionString: database.serviceUrl, max: LANES });
  const projectId = firstOf(database);
  return {
    read: (name) => pool.query({ name: 'bare', text: bareSelect, values: [projectId, name] }),
    close: () => pool.end(),
  };
}

/** Time per read, in microseconds. */
async function inParallel(reads: number, reader: Reader): Promise<number> {
  let next = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: LANES }, async () => {
      while (next < reads) await reader.read(nameOf(next++));
    }),
  );
  return ((performance.now() - start) / reads) * 1000;
}

function firstOf(database: BenchDatabase): string {
  const [projectId = ''] = database.projectIds;
  return projectId;
}

function nameOf(at: number): string {
  return `SECRET_${String(at % 1000)}`;
}

function inRandomOrder<T>([one, other]: readonly [T, T]): readonly [T, T] {
  return Math.random() < 0.5 ? [one, other] : [other, one];
}

function perSecond(us: number): string {
  return `${Math.round(1e6 / us).toLocaleString('en')}/s`;
}
