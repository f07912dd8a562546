import { pgDatabase } from '@meshhook/keyring';
import { PgBoss } from 'pg-boss';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../test/support/database.ts';
import manifest from 'pg-boss/package.json' with { type: 'json' };

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test('the migrations make the very schema that the installed pg-boss wants', async () => {
  const upgrade = 'make a migration: node scripts/job-queue-migration.ts --from the version of the database';
  const [row] = await query(database.adminUrl, 'select version from keyring_jobs.version');
  expect(row, upgrade).toEqual({ version: manifest.pgboss.schema });
  const admin = pgDatabase({ connectionString: database.adminUrl, maxConnections: 1 });
  const boss = new PgBoss({
    db: { executeSql: (text, values) => admin.query({ text, ...(values === undefined ? {} : { values }) }) },
    schema: 'keyring_jobs',
    migrate: false,
    supervise: false,
    schedule: false,
  });
  const drift = await boss.detectSchemaDrift();
  expect(drift, upgrade).toMatchObject({ ok: true, extraIndexes: [], invalid: [] });
  await admin.close();
});

test('the service can use the queue, and can make and drop none', async () => {
  const refused = (text: string) => expect(query(database.serviceUrl, text)).rejects.toMatchObject({ code: '42501' });
  await refused(`select keyring_jobs.create_queue('mine', '{"policy": "standard"}')`);
  await refused(`select keyring_jobs.delete_queue('units')`);
  await refused(`delete from keyring_jobs.queue`);
  await refused(`update keyring_jobs.version set version = 1`);
  await refused(`create table keyring_jobs.mine ()`);
  await refused(`drop table keyring_jobs.job_common`);
  await refused(`truncate keyring_jobs.job_common`);
  expect(await query(database.serviceUrl, 'select name, partition from keyring_jobs.queue order by name')).toEqual([
    { name: 'notifications', partition: false },
    { name: 'units', partition: false },
  ]);
});
