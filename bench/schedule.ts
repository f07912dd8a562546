import type { Keyring } from '@meshhook/keyring';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { percentile, seconds } from './table.ts';

const ROUNDS = 5;
const DAY = '1 day';

/** What keeping the schedule of a fleet costs: a look once a minute, of which most find nothing; and a page of what is due. */
export async function scheduleMeasures(bench: Bench): Promise<Measure[]> {
  const projects = bench.quick ? 2_000 : 100_000;
  const database = await bench.database({ projects, secretsEach: 1 });
  const keyring = await database.open();
  const fleet = projects.toLocaleString('en');
  const measures: Measure[] = [];
  const add = (what: string, samples: readonly number[], target: string, against?: string): void => {
    const ms = percentile(samples, 0.5);
    measures.push({
      what,
      measured: seconds(ms),
      target,
      ...(against === undefined ? {} : { against }),
      numbers: { ms },
    });
  };
  try {
    await made(database, '30 days');
    add(`a look at ${fleet} projects: nothing is due`, await several(() => look(database, keyring)), '≤ 1 s');
    add('  a page of 100 of those that are due: none', await several(() => page(keyring)), '≤ 100 ms');
    add('  the first page of all', await several(() => timed(keyring.keys.page())), '≤ 100 ms');

    await made(database, '91 days', database.projectIds.slice(-1));
    add(
      '  one is due',
      await several(async () => {
        const ms = await look(database, keyring, 1);
        await forget(database);
        return ms;
      }),
      '≤ 1 s',
    );
    add('  a page of those that are due: one', await several(() => page(keyring)), '≤ 100 ms');

    await made(database, '83 days 12 hours');
    const [spread] = await database.admin(
      async (client) =>
        (
          await client.query<{ most: string; hours: string }>(
            `select max(n) as most, count(*) as hours from (select count(*) as n from keyring.scheduled_projects group by due_at) h`,
          )
        ).rows,
    );
    await database.admin((client) => client.query(`update keyring.rotation_policies set jitter = '0'`));
    await made(database, '92 days');
    add('  a page of those that are due: all', await several(() => page(keyring)), '≤ 100 ms');
    const before = process.memoryUsage.rss();
    let peak = before;
    const sampler = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 20);
    const all = await look(database, keyring, projects);
    clearInterval(sampler);
    add('  all are due, and overdue: one rotation', [all], '≤ 10 s', `${((peak - before) / 1e6).toFixed(0)} MB more`);
    add('  the look after it', await several(() => look(database, keyring)), '≤ 1 s');
    measures.push({
      what: '  installed on one day, by the default: most of them that are due in one hour',
      measured: Number(spread?.most).toLocaleString('en'),
      against: `in ${String(spread?.hours)} hours`,
      numbers: { most: Number(spread?.most), hours: Number(spread?.hours) },
    });
    await forget(database);
    await retire(database);
    await database.admin((client) =>
      client.query(`update keyring.rotation_policies set enabled = false, reason = 'bench'`),
    );
    await database.admin((client) => client.query(`update keyring.schedule_turns set last_at = '-infinity'`));
    let destroyed = 0;
    const took = await timed(
      keyring.policies.destroyRetired().then((done) => {
        destroyed = done.destroyed.length;
      }),
    );
    add(`  a look that destroys ${destroyed.toLocaleString('en')} old versions: each`, [took / destroyed], '≤ 5 ms');
    return measures;
  } finally {
    await keyring.close();
    await database.drop();
  }
}

async function several(measure: () => Promise<number>): Promise<number[]> {
  const samples: number[] = [];
  for (let round = 0; round < ROUNDS; round++) samples.push(await measure());
  return samples;
}

async function timed(work: Promise<unknown>): Promise<number> {
  const before = performance.now();
  await work;
  return performance.now() - before;
}

const page = (keyring: Keyring): Promise<number> => timed(keyring.keys.page({ due: true }));

/** All that a worker does once a minute. */
async function look(database: BenchDatabase, { policies }: Keyring, expected = 0): Promise<number> {
  await database.admin((client) => client.query(`update keyring.schedule_turns set last_at = '-infinity'`));
  let projects = -1;
  const ms = await timed(
    (async () => {
      ({ projects } = await policies.requestDue());
      await policies.noteOverdue();
      await policies.destroyRetired();
    })(),
  );
  if (projects !== expected) throw new Error(`${String(projects)} projects were asked for, not ${String(expected)}`);
  return ms;
}

/** Says that versions were made so long ago: of these projects, or of all. */
async function made(database: BenchDatabase, ago: string, projectIds?: readonly string[]): Promise<void> {
  await database.admin(async (client) => {
    await client.query('set session_replication_role = replica');
    await client.query(
      `update keyring.encryption_keys set created_at = now() - $1::interval where $2::uuid[] is null or project_id = any ($2)`,
      [ago, projectIds ?? null],
    );
    await client.query(
      `update keyring.keyrings set promoted_at = now() - $1::interval, primary_made_at = now() - $1::interval
       where $2::uuid[] is null or project_id = any ($2)`,
      [ago, projectIds ?? null],
    );
    await client.query('vacuum analyze keyring.encryption_keys, keyring.keyrings');
  });
}

async function forget(database: BenchDatabase): Promise<void> {
  await database.admin(async (client) => {
    await client.query('set session_replication_role = replica');
    await client.query('delete from keyring.rotation_projects');
    await client.query('delete from keyring.rotations');
    await client.query('delete from keyring.overdue_notices');
  });
}

/** Gives each project an old version that nobody keeps any longer. */
async function retire(database: BenchDatabase): Promise<void> {
  await database.admin(async (client) => {
    await client.query('set session_replication_role = replica');
    await client.query(
      `insert into keyring.encryption_keys
         (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, activated_at, deactivated_at, retention_until)
       select gen_random_uuid(), k.project_id, 2, k.wrapped_key, k.wrapping_key_id, k.fingerprint, now(), now(), now() - $1::interval
       from keyring.encryption_keys k`,
      [DAY],
    );
    await client.query('vacuum analyze keyring.encryption_keys');
  });
}
