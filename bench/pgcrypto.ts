import { performance } from 'node:perf_hooks';
import type pg from 'pg';
import type { Bench, Measure } from './support.ts';
import { rotateApart } from './rotate.ts';
import { rate, ratio } from './table.ts';

// Its defaults derive a key per value and take their time: a part of the rows tells the rate.
const DEFAULTS_ROWS = 2_000;

/** pgcrypto's own way, one statement over a table of the same values, beside a rotation of as many secrets. */
export async function pgcryptoMeasures(bench: Bench): Promise<Measure[]> {
  const secrets = bench.quick ? 20_000 : 100_000;
  const database = await bench.database({ projects: 1, secretsEach: secrets });
  const keyring = await database.open();
  try {
    const { sweepMs, totalMs } = await rotateApart(keyring, database);
    const { defaults, fastest } = await database.admin((client) => inPgcrypto(client, secrets));
    // Like with like: its statement re-encrypts, and nobody reads back what it wrote.
    const ours = secrets / sweepMs;
    const measured = `${rate(secrets, sweepMs)} swept, ${rate(secrets, totalMs)} to completed`;
    return [
      {
        what: 'against pgcrypto, its defaults, one statement',
        measured,
        against: `${ratio(ours / defaults)} its ${rate(defaults, 1)}`,
        target: '≥ 34 ×',
        numbers: { oursPerMs: ours, completedPerMs: secrets / totalMs, defaultsPerMs: defaults },
      },
      {
        what: "against pgcrypto, 's2k-mode=0', one statement, all rows locked",
        measured,
        against: `${ratio(ours / fastest)} its ${rate(fastest, 1)}`,
        target: '≥ 0.5 ×',
        numbers: { oursPerMs: ours, completedPerMs: secrets / totalMs, fastestPerMs: fastest },
      },
    ];
  } finally {
    await keyring.close();
    await database.drop();
  }
}

/** Rows per millisecond that it opens under one passphrase and seals under another. */
async function inPgcrypto(client: pg.Client, secrets: number): Promise<{ defaults: number; fastest: number }> {
  await client.query('create extension pgcrypto');
  const reencrypt = async (options: string, rows: number): Promise<number> => {
    await client.query(
      `create table public.peer with (fillfactor = 50) as
       select n as id, public.pgp_sym_encrypt('sk_live_' || n || gen_random_uuid(), 'old', '${options}') as value
       from generate_series(1, ${String(rows)}) n`,
    );
    await client.query('alter table public.peer add primary key (id)');
    await client.query('vacuum analyze public.peer');
    const start = performance.now();
    await client.query(
      `update public.peer
       set value = public.pgp_sym_encrypt(public.pgp_sym_decrypt(value, 'old'), 'new', '${options}')`,
    );
    const perMs = rows / (performance.now() - start);
    await client.query('drop table public.peer');
    return perMs;
  };
  return {
    defaults: await reencrypt('cipher-algo=aes256', DEFAULTS_ROWS),
    fastest: await reencrypt('cipher-algo=aes256, s2k-mode=0', secrets),
  };
}
