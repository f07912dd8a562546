import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { timestampReader } from '../src/db/timestamp.ts';

const byTheDriver = pg.types.getTypeParser(pg.types.builtins.TIMESTAMPTZ) as unknown as (text: string) => Date;
const readTimestamp = timestampReader(byTheDriver);
const times = [
  ...['2026-11-28 11:07:59.488704+00', '2026-11-28 11:07:59+00', '2024-02-29 23:59:59.999999+00'],
  ...['2026-03-29 01:00:00.5+00', '2026-10-25 00:59:59.07+00', '1969-12-31 23:59:59.9999+00'],
  ...['1000-01-02 00:00:00+00', '9999-12-30 23:59:59.999+00', '0999-12-31 00:00:00+00', '0044-03-15 12:00:00+00 BC'],
  ...['12026-01-01 00:00:00+00', 'infinity', '-infinity'],
];

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

test.each(['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Pacific/Kiritimati'])(
  'a time is read as the driver reads it, where PostgreSQL writes that of %s',
  async (zone) => {
    await client.query(`select set_config('timezone', $1, false)`, [zone]);
    const { rows } = await client.query<{ text: string }>(
      'select t::timestamptz::text as text from unnest($1::text[]) t',
      [times],
    );
    expect(rows).toHaveLength(times.length);
    for (const { text } of rows) expect([text, readTimestamp(text)]).toEqual([text, byTheDriver(text)]);
  },
);

test.each(['SQL, DMY', 'German, DMY', 'Postgres, MDY'])(
  'a time in the style of %s is left to the driver, whatever it makes of it',
  async (style) => {
    await client.query(`select set_config('datestyle', $1, false), set_config('timezone', 'Etc/GMT-3', false)`, [
      style,
    ]);
    const { rows } = await client.query<{ text: string }>(
      'select t::timestamptz::text as text from unnest($1::text[]) t',
      [times],
    );
    for (const { text } of rows) expect([text, readTimestamp(text)]).toEqual([text, byTheDriver(text)]);
  },
);
