import { randomUUID } from 'node:crypto';
import { openKeyring, type Keyring } from '@meshhook/keyring';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  memoryRootKey,
  startInstallation,
  type Installation,
} from '../packages/keyring/test/engine/support/installation.ts';
import {
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  expectValues,
  makeProject,
} from '../packages/keyring/test/engine/support/world.ts';
import { openTheDoor } from '../packages/keyring/test/engine/support/scenarios.ts';
import { migrate } from '../packages/keyring/src/db/migrate.ts';
import { createTestDatabase, query, session } from './support/database.ts';
import { findPgbouncer, startPooler, type Pooler, type PoolerOptions } from './support/pgbouncer.ts';
import { canRun } from './support/required.ts';

const pgbouncer = findPgbouncer();
const there = canRun(
  'pgbouncer',
  pgbouncer !== undefined,
  'pgbouncer is not installed (Debian: apt-get install pgbouncer)',
);
const tracks = canRun(
  'pgbouncer 1.21',
  pgbouncer?.tracksPreparedStatements === true,
  `pgbouncer ${pgbouncer?.version ?? '(none)'} does not track prepared statements (1.21 does)`,
);

interface Way extends Omit<PoolerOptions, 'url'> {
  readonly named: boolean;
}
const withoutNames: Way = { poolSize: 2, named: false };
const withNames: Way = { poolSize: 2, named: true, preparedStatements: 100 };

/** An installation that is reached through a pooler, as the service. */
async function behindPooler({ named, ...options }: Way): Promise<{
  installation: Installation;
  pooler: Pooler;
  open: () => Promise<Keyring>;
  end: () => Promise<void>;
}> {
  const rootKey = memoryRootKey();
  const installation = await startInstallation({ rootKey });
  const pooler = await startPooler({ url: installation.test.serviceUrl, ...options });
  const opened: Keyring[] = [];
  return {
    installation,
    pooler,
    async open() {
      const keyring = await openKeyring({
        database: pooler.url,
        rootKey,
        preparedStatements: named,
        sweepBatchSize: 2,
        actor: `behind a pooler ${String(opened.length)}`,
      });
      opened.push(keyring);
      return keyring;
    },
    async end() {
      for (const keyring of opened) await keyring.close();
      await pooler[Symbol.asyncDispose]();
      await installation.end();
    },
  };
}

describe.skipIf(!there).each([
  ['without named statements', withoutNames, true],
  ['with named statements that the pooler tracks', withNames, tracks],
] as const)('behind a pooler in transaction mode, %s', (_name, way, possible) => {
  let on: Awaited<ReturnType<typeof behindPooler>>;
  let keyring: Keyring;
  beforeAll(async () => {
    if (!possible) return;
    on = await behindPooler(way);
    keyring = await on.open();
  });
  afterAll(async () => {
    if (possible) await on.end();
  });
  const claim = test.skipIf(!possible);

  claim('two processes put, get and list over two server connections while rotations come and turn back', async () => {
    const other = await on.open();
    const project = await makeProject(on.installation, keyring, { secrets: 12 });
    const { id } = await keyring.rotations.request({ projects: [project.id] });
    const driven = keyring.rotations.run(id);
    const names = [...project.secrets.keys()];
    await Promise.all(
      Array.from({ length: 8 }, async (_, lane) => {
        for (let time = 0; time < 10; time++) {
          const name = names[(lane + time) % 12] ?? '';
          const by = lane % 2 === 0 ? keyring : other;
          // Each name has one writer.
          if (lane < 4 && (lane + time) % 4 === 0) {
            const written = `${name} at ${String(time)}`;
            if (time % 4 === 0) await by.secrets.put(project.id, `OWN_${String(lane)}`, written);
            if (time % 4 === 0) project.secrets.set(`OWN_${String(lane)}`, written);
          }
          expect((await by.secrets.get(project.id, name))?.value).toBe(project.secrets.get(name));
        }
      }),
    );
    expect((await driven).state).toBe('completed');
    await expectEverySecretFresh(on.installation, other, [project]);
  });

  claim('a user reads under an identity of their own, beside a service, and leaves it on no connection', async () => {
    const [ada, bob] = [randomUUID(), randomUUID()];
    const [hers, his] = await Promise.all(
      [ada, bob].map(async (owner) => {
        const { id } = await keyring.projects.create({ name: owner, owner });
        await keyring.secrets.put(id, 'KEY', owner);
        return id;
      }),
    );
    const sights = [ada, bob].map((owner) => keyring.seenBy(`user:${owner}`));
    await Promise.all(
      Array.from({ length: 40 }, async (_, time) => {
        const [own, foreign] = time % 2 === 0 ? [hers, his] : [his, hers];
        const sight = sights[time % 2]!;
        expect((await sight.secrets.get(own!, 'KEY'))?.value).toBe([ada, bob][time % 2]);
        expect(await sight.secrets.get(foreign!, 'KEY')).toBeUndefined();
        expect((await sight.overview()).projects.total).toBe(1);
        expect((await sight.projects.list()).map(({ id }) => id)).toEqual([own]);
        expect((await keyring.secrets.get(foreign!, 'KEY'))?.value).toBe([bob, ada][time % 2]);
      }),
    );
    const left = await Promise.all(
      Array.from({ length: 8 }, () =>
        query(
          on.pooler.url,
          `select current_user = session_user as oneself, nullif(current_setting('keyring.principal', true), '') as principal,
             nullif(current_setting('keyring.sight', true), '') as sight, current_setting('transaction_read_only') as read_only`,
        ),
      ),
    );
    for (const rows of left) expect(rows).toEqual([{ oneself: true, principal: null, sight: null, read_only: 'off' }]);
  });

  claim('a rotation is paused, resumed by another process, and completes', async () => {
    const project = await makeProject(on.installation, keyring, { secrets: 6 });
    const { id } = await keyring.rotations.request({ projects: [project.id] });
    await keyring.rotations.pause(id);
    expect((await keyring.rotations.run(id)).state).toBe('paused');
    const other = await on.open();
    await other.rotations.resume(id);
    expect((await other.rotations.run(id)).state).toBe('completed');
    await expectEverySecretFresh(on.installation, keyring, [project]);
  });

  claim('a rotation is rolled back part-way', async () => {
    const project = await makeProject(on.installation, keyring, { secrets: 6 });
    const { id } = await keyring.rotations.request({ projects: [project.id] });
    // One row that somebody holds keeps it from completing.
    await using holder = await session(on.installation.test.adminUrl, 'holder');
    await holder.query('begin');
    await holder.query('select from public.secrets where project_id = $1 limit 1 for update', [project.id]);
    const stop = new AbortController();
    const driven = keyring.rotations.run(id, { signal: stop.signal });
    await expect.poll(async () => (await detailOf(keyring, id)).rows.moved).toBe(5);
    stop.abort();
    expect(await codeOf(driven)).toBe('interrupted');
    await holder.query('rollback');
    await keyring.rotations.rollback(id);
    expect((await keyring.rotations.run(id)).state).toBe('rolled_back');
    await expectEverySecretFresh(on.installation, keyring, [project]);
  });

  claim('a compromised version is replaced, and its rows are moved', async () => {
    const project = await makeProject(on.installation, keyring, { secrets: 4 });
    const [key] = await keyring.keys.list({ projectId: project.id });
    const { rotation } = await keyring.rotations.compromise(key?.id ?? '', { reason: 'test' });
    expect((await keyring.rotations.run(rotation?.id ?? '')).state).toBe('completed');
    expect((await keyring.keys.exposure(key?.id ?? '')).secrets.length).toBe(4);
    await expectEverySecretFresh(on.installation, keyring, [project]);
  });

  claim('rows from before the keyring are adopted, removed and put again', async () => {
    await openTheDoor(on.installation);
    const project = await makeProject(on.installation, keyring, { secrets: 1 });
    for (let row = 0; row < 5; row++) {
      const name = `OLD_${String(row)}`;
      await on.installation.asOwner(
        `insert into public.secrets (project_id, key, value_encrypted)
         values ('${project.id}', '${name}', convert_to('old value ${String(row)}', 'utf8'))`,
      );
      project.secrets.set(name, `old value ${String(row)}`);
    }
    await keyring.secrets.adopt();
    await expectValues(on.installation, keyring, project);
    expect(await keyring.secrets.remove(project.id, 'OLD_0')).toBe(true);
    await keyring.secrets.put(project.id, 'OLD_0', 'new');
    project.secrets.set('OLD_0', 'new');
    await expectEverySecretFresh(on.installation, keyring, [project]);
  });

  claim('nothing is left in the sessions of the pooler: no setting, no lock, no listener, no table', async () => {
    await expectHealthy(keyring);
    const clients = await Promise.all(
      Array.from({ length: way.poolSize }, async () => {
        const client = new pg.Client({ connectionString: on.pooler.url });
        await client.connect();
        return client;
      }),
    );
    try {
      // A transaction on each, so that each has a server connection of its own.
      await Promise.all(clients.map((client) => client.query('begin')));
      const sessions = await Promise.all(clients.map(async (client) => (await client.query(leftInSession)).rows[0]));
      expect(new Set(sessions.map((row) => (row as { pid: number }).pid)).size).toBe(way.poolSize);
      for (const session of sessions) {
        expect(session).toMatchObject({ settings: null, locks: 0, listening: 0, tables: 0 });
      }
      await Promise.all(clients.map((client) => client.query('commit')));
    } finally {
      for (const client of clients) await client.end();
    }
  });
});

// What pgbouncer itself sets for a client is not ours.
const leftInSession = `
  select pg_backend_pid() as pid,
    (select string_agg(name || '=' || setting, ', ') from pg_settings where source = 'session'
       and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings',
                        'IntervalStyle', 'search_path', 'in_hot_standby', 'default_transaction_read_only')) as settings,
    (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
    (select count(*)::int from pg_listening_channels()) as listening,
    (select count(*)::int from pg_class where relpersistence = 't' and pg_my_temp_schema() = relnamespace) as tables`;

describe.skipIf(!there)('behind a pooler in transaction mode', () => {
  test('one server connection is enough: nothing waits for a second while it holds one', async () => {
    const on = await behindPooler({ poolSize: 1, named: false });
    try {
      const keyring = await on.open();
      const project = await makeProject(on.installation, keyring, { secrets: 5 });
      const { id } = await keyring.rotations.request({ projects: [project.id] });
      expect((await keyring.rotations.run(id)).state).toBe('completed');
      await expectEverySecretFresh(on.installation, keyring, [project]);
    } finally {
      await on.end();
    }
  });

  test.skipIf(tracks)(
    'a pooler that does not track named statements is told from other trouble, with the remedy',
    async () => {
      const on = await behindPooler({ poolSize: 2, named: true });
      try {
        const failures: unknown[] = [];
        const keyrings = await Promise.all([on.open(), on.open()]);
        const id = randomUUID();
        for (let time = 0; time < 10 && failures.length === 0; time++) {
          const gets = keyrings.flatMap((keyring) => [1, 2, 3].map(() => keyring.secrets.get(id, 'NONE')));
          const settled = await Promise.allSettled(gets);
          failures.push(...settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : [])));
        }
        expect(failures[0]).toMatchObject({
          code: 'database_refused',
          remedy: expect.stringContaining('MESHHOOK_PREPARED_STATEMENTS=off') as string,
        });
      } finally {
        await on.end();
      }
    },
  );

  test('a database can be migrated through it', async () => {
    const database = await createTestDatabase({ template: 'empty' });
    try {
      await using pooler = await startPooler({ url: database.ownerUrl, poolSize: 1 });
      await migrate({ connectionString: pooler.url });
      await expect(query(pooler.url, 'select keyring.schema_version()')).resolves.toHaveLength(1);
    } finally {
      await database.drop();
    }
  });
});
