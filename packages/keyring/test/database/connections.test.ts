import { setTimeout as delay } from 'node:timers/promises';
import { pgDatabase, type Columns, type Database } from '@meshhook/keyring';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, session, type TestDatabase } from '../../../../test/support/database.ts';
import { codeOf } from '../engine/support/world.ts';

let of: TestDatabase;
let database: Database | undefined;
beforeAll(async () => {
  of = await createTestDatabase();
});
afterEach(async () => {
  await database?.close();
  database = undefined;
});
afterAll(() => of.drop());

function open(options: { maxConnections?: number; preparedStatements?: boolean; parameters?: string } = {}): Database {
  const { parameters = '', ...rest } = options;
  database = pgDatabase({ connectionString: `${of.adminUrl}${parameters}`, ...rest });
  return database;
}

const columns: Columns = [
  ['t', 'text'],
  ['b', 'bytea'],
  ['at', 'timestamptz'],
  ['nothing', 'text'],
  ['n', 'text'],
];
const everyKind = {
  text: `select $1 as t, decode($2, 'hex') as b, '2026-11-24 12:34:56.789+02'::timestamptz as at, null as nothing, 7::text as n`,
  values: ['grüße', '00ff80c3285c27'],
};

test.each(['hex', 'escape'])(
  'rows whose columns are known are those the driver reads, with bytea_output %s',
  async (output) => {
    const on = open({ parameters: `?options=-c%20bytea_output%3D${output}` });
    const described = await on.query(everyKind);
    for (const name of [undefined, 'every_kind', 'every_kind']) {
      const known = await on.query({ ...everyKind, columns, ...(name === undefined ? {} : { name }) });
      expect(known).toEqual(described);
    }
    expect(described.rows[0]).toEqual({
      t: 'grüße',
      b: Buffer.from('00ff80c3285c27', 'hex'),
      at: new Date('2026-11-24T10:34:56.789Z'),
      nothing: null,
      n: '7',
    });
  },
);

test('a named statement is prepared once for a connection, and not at all where that is switched off', async () => {
  const prepared = async (on: Database): Promise<unknown[]> => {
    for (let time = 0; time < 3; time++) await on.query({ ...everyKind, columns, name: 'every_kind' });
    return (await on.query({ text: 'select name from pg_prepared_statements' })).rows;
  };
  const on = open({ maxConnections: 1 });
  expect(await prepared(on)).toEqual([{ name: 'every_kind' }]);
  await on.close();
  expect(await prepared(open({ maxConnections: 1, preparedStatements: false }))).toEqual([]);
});

test('a statement that is refused says so, and the next one is none the worse', async () => {
  const on = open({ maxConnections: 1 });
  const wrong = { text: 'select $1::int as t', values: ['seven'], columns: [['t', 'text']] as const, name: 'wrong' };
  for (let time = 0; time < 2; time++) {
    await expect(on.query(wrong)).rejects.toMatchObject({ details: { sqlState: '22P02' } });
    await expect(on.query({ ...wrong, text: 'select nonsense', name: 'nonsense' })).rejects.toMatchObject({
      code: 'database_refused',
    });
    expect((await on.query({ ...wrong, values: ['7'] })).rows).toEqual([{ t: '7' }]);
  }
});

test('a statement whose columns are others than it said is an error, not a row with holes', async () => {
  const on = open();
  const short = on.query({ ...everyKind, columns: columns.slice(1) });
  await expect(short).rejects.toMatchObject({ code: 'internal' });
  await expect(short).rejects.toThrow('5 columns instead of 4');
});

test('whoever waits for a connection gets one, however busy those are who were there', async () => {
  const on = open({ maxConnections: 1 });
  let running = true;
  const busy = Array.from({ length: 3 }, async () => {
    while (running) await on.query({ text: 'select 1' });
  });
  await delay(20);
  for (let time = 0; time < 5; time++) (await on.connect()).release();
  running = false;
  await Promise.all(busy);
});

test('a connection that PostgreSQL ends between two statements is not handed out again', async () => {
  await using admin = await session(of.adminUrl, 'the one that ends it');
  const on = open({ maxConnections: 1 });
  const pid = async (): Promise<unknown> =>
    (await on.query({ text: 'select pg_backend_pid() as pid' })).rows[0]?.['pid'];
  for (let time = 0; time < 3; time++) {
    const first = await pid();
    expect(await pid()).toBe(first);
    await admin.query('select pg_terminate_backend($1, 5000)', [first]);
    // The news has arrived by then, and the connection would still be warm.
    await delay(5);
    expect(await pid()).not.toBe(first);
  }
});

test('a connection that a transaction broke is closed, one that it ended well is used again', async () => {
  await using admin = await session(of.adminUrl, 'looking on');
  const on = open({ maxConnections: 2 });
  const alive = async (pid: unknown): Promise<boolean> =>
    (await admin.query('select from pg_stat_activity where pid = $1', [pid])).rowCount === 1;
  const pids: unknown[] = [];
  for (const broken of [false, false, true]) {
    const connection = await on.connect();
    pids.push((await connection.query({ text: 'select pg_backend_pid() as pid' })).rows[0]?.['pid']);
    connection.release(broken);
  }
  expect(new Set(pids).size).toBe(1);
  await expect.poll(() => alive(pids[0])).toBe(false);
});

test('a database that was closed refuses every statement, and leaves no connection', async () => {
  const on = open();
  await on.query({ text: 'select 1' });
  const late = on.query({ text: 'select pg_sleep(0.05)' });
  await Promise.all([late, on.close()]);
  expect(await codeOf(on.query({ text: 'select 1' }))).toBe('database_unreachable');
  database = undefined;
});

test.each([0, -1, 1.5, Number.NaN, 1e9])('a pool of %s connections is refused, instead of being waited for', (max) => {
  expect(() => pgDatabase({ connectionString: of.adminUrl, maxConnections: max })).toThrow(TypeError);
});
