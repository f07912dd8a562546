import { performance } from 'node:perf_hooks';
import pg from 'pg';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { percentile, rate, ratio, seconds } from './table.ts';

/** A service's `get`, against a bare prepared SELECT of the same row over the same kind of connection. */
export async function getMeasures(bench: Bench): Promise<Measure[]> {
  const secrets = 1_000;
  const database = await bench.database({ projects: 1, secretsEach: secrets });
  try {
    const rounds = bench.quick ? 3_000 : 20_000;
    const one = await interleaved(database, rounds);
    const bareMany = await inParallel(rounds, 8, await bareReader(database, 8));
    const getMany = await inParallel(rounds, 8, await keyringReader(database));
    return [
      {
        what: '`get`, one connection, p50',
        measured: `${(one.get * 1000).toFixed(0)} µs`,
        against: `${ratio(one.get / one.bare)} a bare prepared SELECT (${(one.bare * 1000).toFixed(0)} µs)`,
        target: '≤ 1.10 ×',
        numbers: { getP50Ms: one.get, bareP50Ms: one.bare },
      },
      {
        what: '`get`, 8 connections',
        measured: rate(rounds, getMany),
        against: `${ratio(bareMany / getMany)} the rate of the SELECT (${rate(rounds, bareMany)})`,
        target: '≥ 0.90 ×',
        numbers: { getMs: getMany, bareMs: bareMany },
      },
      { what: '  rounds', measured: rounds.toLocaleString('en'), against: seconds(getMany), numbers: { rounds } },
    ];
  } finally {
    await database.drop();
  }
}

interface Reader {
  read(name: string): Promise<unknown>;
  close(): Promise<void>;
}

async function keyringReader(database: BenchDatabase): Promise<Reader> {
  const keyring = await database.open();
  const [projectId = ''] = database.projectIds;
  return { read: (name) => keyring.secrets.get(projectId, name), close: () => keyring.close() };
}

async function bareReader(database: BenchDatabase, connections: number): Promise<Reader> {
  const pool = new pg.Pool({ connectionString: database.serviceUrl, max: connections });
  const [projectId] = database.projectIds;
  return {
    read: (name) =>
      pool.query({
        name: 'bare',
        text: 'select id, value_encrypted from public.secrets where project_id = $1 and key = $2',
        values: [projectId, name],
      }),
    close: () => pool.end(),
  };
}

/** Turn by turn, so that a machine that slows down slows both. */
async function interleaved(database: BenchDatabase, rounds: number): Promise<{ get: number; bare: number }> {
  const bare = await bareReader(database, 1);
  const get = await keyringReader(database);
  const samples = { get: [] as number[], bare: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const name = `SECRET_${String(round % 1000)}`;
    for (const [kind, reader] of [
      ['bare', bare],
      ['get', get],
    ] as const) {
      const start = performance.now();
      await reader.read(name);
      samples[kind].push(performance.now() - start);
    }
  }
  await bare.close();
  await get.close();
  return { get: percentile(samples.get, 0.5), bare: percentile(samples.bare, 0.5) };
}

async function inParallel(rounds: number, lanes: number, reader: Reader): Promise<number> {
  let next = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      while (next < rounds) await reader.read(`SECRET_${String(next++ % 1000)}`);
    }),
  );
  const ms = performance.now() - start;
  await reader.close();
  return ms;
}
