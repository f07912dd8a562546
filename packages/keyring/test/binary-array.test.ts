import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { byteaArray, jsonbArray, textArray, tidArray, uuidArray } from '../src/db/binary-array.ts';

let database: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  database = await createTestDatabase({ template: 'empty' });
  client = new pg.Client({ connectionString: database.adminUrl });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

test.each([
  ['none', []],
  ['one of no bytes', [Buffer.alloc(0)]],
  ['every byte, quotes and backslashes too', [Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))]],
  ['many of many lengths', Array.from({ length: 300 }, (_, length) => randomBytes(length))],
])('PostgreSQL reads byte strings as they were sent: %s', async (_, items) => {
  const { rows } = await client.query<{ item: Buffer }>(
    'select u.item from unnest($1::bytea[]) with ordinality as u (item, place) order by u.place',
    [byteaArray(items)],
  );
  expect(rows.map(({ item }) => item.toString('hex'))).toEqual(items.map((item) => item.toString('hex')));
});

test.each([0, 1, 500])('and ids and addresses of rows as they were packed: %i', async (count) => {
  const { rows } = await client.query<{ id: string; place: string; id_bytes: Buffer; place_bytes: Buffer }>(
    `select g.id, g.place, uuid_send(g.id) as id_bytes, tidsend(g.place) as place_bytes from (
       select gen_random_uuid() as id, format('(%s,%s)', n * 7654321::bigint % 4294967296, n % 290)::tid as place
       from generate_series(1, $1) n) g`,
    [count],
  );
  const sent = await client.query(
    'select u.id, u.place from unnest($1::uuid[], $2::tid[]) with ordinality as u (id, place, n) order by u.n',
    [uuidArray(rows.map((row) => row.id_bytes)), tidArray(rows.map((row) => row.place_bytes))],
  );
  expect(sent.rows).toEqual(rows.map(({ id, place }) => ({ id, place })));
});

test.each([
  ['none', []],
  [
    'what the driver would escape, and what PostgreSQL would take for nothing',
    ['', 'NULL', '"', '\\', '{},', ' a ', 'ü€😀\n'],
  ],
  ['many of many lengths', Array.from({ length: 300 }, (_, length) => 'ü"'.repeat(length))],
])('and texts, and JSON: %s', async (_, items) => {
  const { rows } = await client.query<{ item: string; json: { item: string } }>(
    'select u.item, u.json from unnest($1::text[], $2::jsonb[]) with ordinality as u (item, json, place) order by u.place',
    [textArray(items), jsonbArray(items.map((item) => JSON.stringify({ item })))],
  );
  expect(rows).toEqual(items.map((item) => ({ item, json: { item } })));
});
