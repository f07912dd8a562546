import type pg from 'pg';
import type { Bench, Measure } from './support.ts';
import { rotate } from './rotate.ts';
import { rate } from './table.ts';

const ROTATIONS = 10;

/** Ten rotations in a row: whether the table grows, and whether they get slower. Vacuum is PostgreSQL's own. */
export async function againMeasures(bench: Bench): Promise<Measure[]> {
  const secrets = bench.quick ? 20_000 : 100_000;
  const database = await bench.database({ projects: 1, secretsEach: secrets });
  const keyring = await database.open();
  try {
    const before = await database.admin(tableState);
    const times: number[] = [];
    for (let round = 0; round < ROTATIONS; round++) times.push((await rotate(keyring, 'all')).totalMs);
    const after = await database.admin(tableState);
    const [first = NaN] = times;
    const last = times.at(-1) ?? NaN;
    return [
      {
        what: `${String(ROTATIONS)} rotations of ${secrets.toLocaleString('en')} in a row: table and indexes`,
        measured: `${megabytes(after.bytes)}, ${after.dead.toLocaleString('en')} dead rows`,
        against: `${megabytes(before.bytes)} before, ${before.dead.toLocaleString('en')} dead`,
        numbers: { bytesBefore: before.bytes, bytesAfter: after.bytes, deadAfter: after.dead },
      },
      {
        what: '  the last against the first',
        measured: rate(secrets, last),
        against: rate(secrets, first),
        numbers: { firstMs: first, lastMs: last },
      },
      {
        what: '  updates that stayed off the indexes (HOT)',
        measured: `${((100 * after.hot) / Math.max(after.updates, 1)).toFixed(1)} %`,
        numbers: { updates: after.updates, hot: after.hot },
      },
    ];
  } finally {
    await keyring.close();
    await database.drop();
  }
}

interface TableState {
  readonly bytes: number;
  readonly dead: number;
  readonly updates: number;
  readonly hot: number;
}

async function tableState(client: pg.Client): Promise<TableState> {
  const { rows } = await client.query<Record<keyof TableState, string>>(
    `select pg_total_relation_size('public.secrets') as bytes, n_dead_tup as dead, n_tup_upd as updates,
       n_tup_hot_upd as hot
     from pg_stat_user_tables where relid = 'public.secrets'::regclass`,
  );
  const [found] = rows;
  return {
    bytes: Number(found?.bytes),
    dead: Number(found?.dead),
    updates: Number(found?.updates),
    hot: Number(found?.hot),
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
