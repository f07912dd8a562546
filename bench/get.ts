import { performance } from 'node:perf_hooks';
import { openKeyring, pgDatabase, type Keyring, type Sight } from '@meshhook/keyring';
import pg from 'pg';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { percentile, ratio } from './table.ts';

const LANES = 8;
const bareSelect = 'select id, value_encrypted from public.secrets where project_id = $1 and key = $2';

/**
 * A service's `get`, decryption included, against a bare prepared SELECT of the same rows. On one connection both go over the
 * very same one: whether a server process shares a core with this one changes a round trip by a factor of two, and two
 * identical readers on two connections differ by as much. With eight the pools are of one size, and opened anew several
 * times. They take turns block by block, in random order, so that each finds its caches as it left them. The third reader gets the
 * same secrets as the user who owns the project, under that user's own identity in PostgreSQL.
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
        what: "`get` under a user's own identity, one connection, p50",
        measured: `${one.own.toFixed(0)} µs`,
        against: `${ratio(one.own / one.bare)} the bare prepared SELECT`,
        target: '≤ 1.60 ×',
        numbers: { ownP50Us: one.own, bareP50Us: one.bare },
      },
      {
        what: `\`get\`, ${String(LANES)} connections`,
        measured: perSecond(eight.get),
        against: `${ratio(eight.toBare)} the rate of the SELECT over a pool of pg (${perSecond(eight.bare)})`,
        target: '≥ 0.90 ×',
        numbers: { getUs: eight.get, bareUs: eight.bare, rateRatio: eight.toBare },
      },
      {
        what: `\`get\` under a user's own identity, ${String(LANES)} connections`,
        measured: perSecond(eight.own),
        against: `${ratio(1 / eight.ownToBare)} the time of the SELECT over a pool of pg`,
        target: '≤ 1.60 ×',
        numbers: { ownUs: eight.own, bareUs: eight.bare, timeRatio: 1 / eight.ownToBare },
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

const kinds = ['bare', 'get', 'own'] as const;
type Kind = (typeof kinds)[number];

/** Median time of one read of each, in microseconds. */
async function oneConnection(database: BenchDatabase, blocks: number): Promise<Record<Kind, number>> {
  const shared = pgDatabase({ connectionString: database.serviceUrl, maxConnections: 1 });
  const keyring = await openKeyring({ database: shared, rootKey: database.rootKey, actor: 'bench' });
  const projectId = firstOf(database);
  const own = keyring.seenBy(await ownerOf(database));
  const readers = {
    bare: (name: string) => shared.query({ name: 'bare', text: bareSelect, values: [projectId, name] }),
    get: (name: string) => keyring.secrets.get(projectId, name),
    own: (name: string) => own.secrets.get(projectId, name),
  };
  const samples: Record<Kind, number[]> = { bare: [], get: [], own: [] };
  try {
    for (let block = 0; block < blocks; block++) {
      for (const kind of inRandomOrder(kinds)) {
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
  return { bare: middle(samples.bare), get: middle(samples.get), own: middle(samples.own) };
}

/** Median time per read of each, in microseconds, and the median of the pools' ratios of rates. */
async function eightConnections(
  database: BenchDatabase,
  pools: number,
): Promise<Record<Kind | 'toBare' | 'ownToBare', number>> {
  const all: Record<Kind | 'toBare' | 'ownToBare', number[]> = {
    bare: [],
    get: [],
    own: [],
    toBare: [],
    ownToBare: [],
  };
  const owner = await ownerOf(database);
  for (let pool = 0; pool < pools; pool++) {
    const readers = {
      bare: bareReader(database),
      get: await keyringReader(database),
      own: await keyringReader(database, (keyring) => keyring.seenBy(owner)),
    };
    const samples: Record<Kind, number[]> = { bare: [], get: [], own: [] };
    for (let block = 0; block < 8; block++) {
      for (const kind of inRandomOrder(kinds)) {
        const us = await inParallel(2_000, readers[kind]);
        if (block > 0) samples[kind].push(us);
      }
    }
    await readers.bare.close();
    await readers.get.close();
    await readers.own.close();
    const took = { bare: middle(samples.bare), get: middle(samples.get), own: middle(samples.own) };
    for (const kind of kinds) all[kind].push(took[kind]);
    all.toBare.push(took.bare / took.get);
    all.ownToBare.push(took.bare / took.own);
  }
  return {
    ...{ bare: middle(all.bare), get: middle(all.get), own: middle(all.own) },
    ...{ toBare: middle(all.toBare), ownToBare: middle(all.ownToBare) },
  };
}

const middle = (samples: readonly number[]): number => percentile(samples, 0.5);

async function keyringReader(
  database: BenchDatabase,
  sightOf: (keyring: Keyring) => Sight = (keyring) => keyring,
): Promise<Reader> {
  const keyring = await openKeyring({
    database: pgDatabase({ connectionString: database.serviceUrl, maxConnections: LANES }),
    rootKey: database.rootKey,
    actor: 'bench',
  });
  const projectId = firstOf(database);
  const { secrets } = sightOf(keyring);
  return { read: (name) => secrets.get(projectId, name), close: () => keyring.close() };
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

/** As PostgreSQL knows whom the project belongs to. */
function ownerOf(database: BenchDatabase): Promise<string> {
  return database.admin(async (client) => {
    const { rows } = await client.query<{ owner: string }>('select owner from public.projects where id = $1', [
      firstOf(database),
    ]);
    return `user:${rows[0]?.owner ?? ''}`;
  });
}

function nameOf(at: number): string {
  return `SECRET_${String(at % 1000)}`;
}

function inRandomOrder<T>(some: readonly T[]): readonly T[] {
  return some
    .map((one) => ({ one, place: Math.random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ one }) => one);
}

function perSecond(us: number): string {
  return `${Math.round(1e6 / us).toLocaleString('en')}/s`;
}
