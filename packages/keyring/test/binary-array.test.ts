import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { byteaArray } from '../src/db/binary-array.ts';

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
