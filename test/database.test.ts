import { expect, inject, test } from 'vitest';
import { createTestDatabase, query, session } from './support/database.ts';

const roleQuery = `select current_user as name, rolsuper, rolcreaterole, rolbypassrls from pg_roles where rolname = current_user`;

test('a test that leaves a connection with a lock behind fails, and is told which', async () => {
  const database = await createTestDatabase();
  const leaked = await session(database.adminUrl, 'the forgotten one');
  await leaked.query('begin');
  await leaked.query('select pg_advisory_xact_lock(1)');
  await expect(database.drop(0)).rejects.toThrow(/the forgotten one.*idle in transaction.*advisory ExclusiveLock/);
  await leaked.end().catch(() => undefined);
  const left = await query(
    database.adminUrl.replace(database.name, 'postgres'),
    'select from pg_database where datname = $1',
    [database.name],
  );
  expect(left).toEqual([]);
});

test('a test database is a migrated copy, owned by a role that is no superuser', async () => {
  const database = await createTestDatabase();
  const schema = await query(database.ownerUrl, `select to_regclass('keyring.keyrings') is not null as migrated`);
  expect(schema).toEqual([{ migrated: true }]);
  expect(await query(database.ownerUrl, roleQuery)).toEqual([
    { name: 'keyring_migrator', rolsuper: false, rolcreaterole: true, rolbypassrls: false },
  ]);
  expect(await query(database.serviceUrl, roleQuery)).toEqual([
    { name: 'keyring_app', rolsuper: false, rolcreaterole: false, rolbypassrls: false },
  ]);
  const member = await query(database.serviceUrl, `select pg_has_role('keyring_service', 'usage') as service`);
  expect(member).toEqual([{ service: true }]);
  await database.drop();
});

test('an empty one has nothing of ours in it', async () => {
  const database = await createTestDatabase({ template: 'empty' });
  await using client = await session(database.ownerUrl);
  const { rows } = await client.query<{ there: boolean }>(`select to_regnamespace('keyring') is not null as there`);
  expect(rows).toEqual([{ there: false }]);
  await client.end();
  await database.drop();
});

test('the run uses the PostgreSQL it was asked to', async () => {
  const { version, adminUrl } = inject('cluster');
  const rows = await query<{ version: string }>(adminUrl, `select current_setting('server_version') as version`);
  expect(rows[0]?.version).toContain(version);
});
