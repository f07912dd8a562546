import type { Keyring } from '@meshhook/keyring';
import type { ScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { memoryRootKey, startInstallation, type Installation } from './support/installation.ts';
import { startOwnCluster } from './support/own-cluster.ts';

// A transaction that is prepared belongs to no connection, outlives a restart, and may be committed days later: its entry has an id
// that is lower than those of many that have their place by then.
const rootKey = memoryRootKey();
let cluster: ScratchCluster;
let own: Awaited<ReturnType<typeof startOwnCluster>>;
beforeAll(async () => {
  own = await startOwnCluster({ settings: { max_prepared_transactions: '5' } });
  ({ cluster } = own);
});
afterAll(() => cluster.stop());

const insert = `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', $1)`;

async function prepare(subject: string): Promise<{ id: string; gid: string }> {
  await using client = await session(own.test.adminUrl, subject);
  await client.query('begin');
  const { rows } = await client.query<{ id: string }>(`${insert} returning id::text`, [subject]);
  await client.query(`prepare transaction '${subject}'`);
  return { id: rows[0]!.id, gid: subject };
}

/** Notes more, and seals, again and again: far more often than the floor needs to rise. */
async function sealOn({ sql }: Installation, { audit }: Keyring, times = 5): Promise<void> {
  for (let time = 0; time < times; time++) {
    await sql(insert, [`later:${String(time)}`]);
    while ((await audit.seal()).more);
  }
}
const floorOf = async ({ audit }: Keyring): Promise<bigint> => BigInt((await audit.checkpoint())!.floor);
/** As soon as every transaction of before has ended, those of the server's own, too. */
async function floorAbove(installation: Installation, keyring: Keyring, id: string): Promise<void> {
  await expect
    .poll(async () => {
      await sealOn(installation, keyring, 1);
      return (await floorOf(keyring)) > BigInt(id);
    })
    .toBe(true);
}
const placeOf = async ({ sql }: Installation, id: string): Promise<string | undefined> =>
  (await sql<{ place: string }>('select place::text from keyring.audit_seals where entry_id = $1', [id]))[0]?.place;

test.each(['commit', 'rollback'])(
  'an entry that a prepared transaction holds is below no floor until it ends by %s',
  async (end) => {
    const installation = await startInstallation({ test: own.test, rootKey });
    try {
      const keyring = await installation.open();
      await sealOn(installation, keyring);
      const held = await prepare(`held:${end}`);
      await sealOn(installation, keyring);
      expect(await floorOf(keyring)).toBeLessThan(BigInt(held.id));
      expect(await keyring.audit.verify()).toMatchObject({ intact: true });
      await installation.sql(`${end} prepared '${held.gid}'`);
      // It is looked for below all that has its place, at the latest when the floor rises over it.
      await floorAbove(installation, keyring, held.id);
      expect((await placeOf(installation, held.id)) !== undefined).toBe(end === 'commit');
      expect(await keyring.audit.verify()).toMatchObject({ intact: true });
      await keyring.close();
    } finally {
      await installation.release();
    }
  },
);

test('the floor waits for it over a crash of PostgreSQL, and a sealer that knows nothing of before does not pass over it', async () => {
  const first = await startInstallation({ test: own.test, rootKey });
  const before = await first.open();
  await sealOn(first, before);
  const held = await prepare('held:crash');
  await sealOn(first, before);
  const { note } = (await before.audit.checkpoint())!;
  await before.close();
  await first.release();
  await cluster.restart('immediate');
  const second = await startInstallation({ test: own.test, rootKey });
  try {
    const keyring = await second.open();
    await sealOn(second, keyring);
    expect(await floorOf(keyring)).toBeLessThan(BigInt(held.id));
    await second.sql(`commit prepared '${held.gid}'`);
    await floorAbove(second, keyring, held.id);
    expect(await placeOf(second, held.id)).toBeDefined();
    expect(await keyring.audit.verify({ checkpoint: note })).toMatchObject({ intact: true, given: 'matches' });
    await keyring.close();
  } finally {
    await second.release();
  }
});
