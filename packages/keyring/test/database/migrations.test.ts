import { readdir, readFile } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../../test/support/database.ts';
import { migrate, schemaStatus, wantedSchemaVersion } from '../../src/db/migrate.ts';
import { connect, makeProject, outcome, putSecret, useDatabase } from './support.ts';

const folder = new URL('../../../../supabase/migrations/', import.meta.url);
const versions = async () => (await readdir(folder)).map((name) => name.slice(0, 14)).sort();

describe('in an empty database', () => {
  const made: TestDatabase[] = [];
  const empty = async () => {
    const database = await createTestDatabase({ template: false });
    made.push(database);
    return database;
  };
  afterEach(async () => {
    await Promise.all(made.splice(0).map((database) => database.drop()));
  });
  const recorded = (database: TestDatabase) =>
    query<{ version: string }>(
      database.ownerUrl,
      'select version from supabase_migrations.schema_migrations order by version',
    );

  test('twenty concurrent migrates do no harm: each migration is applied once, by one of them', async () => {
    const database = await empty();
    const all = await Promise.all(Array.from({ length: 20 }, () => migrate({ connectionString: database.ownerUrl })));
    expect(all.flatMap((one) => one.applied)).toHaveLength((await versions()).length);
    expect(all.every((one) => one.version === wantedSchemaVersion)).toBe(true);
    expect((await recorded(database)).map((row) => row.version)).toEqual(await versions());
    expect(await query(database.ownerUrl, 'select * from keyring.catalog_problems()')).toEqual([]);
  });

  test('several databases of one server are migrated at once, though they share its roles', async () => {
    const databases = await Promise.all([empty(), empty(), empty(), empty()]);
    const all = await Promise.all(databases.map((database) => migrate({ connectionString: database.ownerUrl })));
    for (const one of all) expect(one.applied).toHaveLength((await versions()).length);
  });

  test('the schema tells the number of its last migration, after which a second migrate has nothing to do', async () => {
    const database = await empty();
    expect(await schemaStatus({ connectionString: database.ownerUrl })).toMatchObject({ state: 'not_migrated' });
    await migrate({ connectionString: database.ownerUrl });
    expect(await query(database.ownerUrl, 'select keyring.schema_version() as version')).toEqual([
      { version: (await versions()).at(-1) },
    ]);
    expect(wantedSchemaVersion).toBe((await versions()).at(-1));
    expect(await schemaStatus({ connectionString: database.serviceUrl })).toEqual({
      state: 'current',
      current: wantedSchemaVersion,
      wanted: wantedSchemaVersion,
    });
    expect((await migrate({ connectionString: database.ownerUrl })).applied).toEqual([]);
  });

  test('one that newer migrations changed is refused', async () => {
    const database = await empty();
    await migrate({ connectionString: database.ownerUrl });
    await query(
      database.adminUrl,
      `create or replace function keyring.schema_version() returns text language sql immutable as $$ select '29990101000000' $$`,
    );
    await expect(migrate({ connectionString: database.ownerUrl })).rejects.toMatchObject({ code: 'schema_too_new' });
  });

  test('one that Supabase’s tools half migrated is continued where they stopped', async () => {
    const [database, reference] = [await empty(), await empty()];
    await migrate({ connectionString: reference.ownerUrl });
    const [first] = await query<{ version: string; sql: string }>(
      reference.ownerUrl,
      'select version, statements[1] as sql from supabase_migrations.schema_migrations order by version limit 1',
    );
    await query(database.ownerUrl, 'create schema supabase_migrations');
    await query(
      database.ownerUrl,
      'create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text)',
    );
    await query(database.ownerUrl, first!.sql);
    await query(database.ownerUrl, 'insert into supabase_migrations.schema_migrations (version) values ($1)', [
      first!.version,
    ]);
    expect((await migrate({ connectionString: database.ownerUrl })).applied).toHaveLength(
      (await versions()).length - 1,
    );
  });

  test('columns that were registered before rows were moved in batches get their function, if the table is the migrator’s', async () => {
    const database = await empty();
    const owner = await connect(database.ownerUrl);
    const admin = await connect(database.adminUrl);
    await owner.run('create schema supabase_migrations');
    await owner.run(
      'create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text)',
    );
    for (const name of (await readdir(folder)).sort().filter((file) => file < '20261127')) {
      await owner.run(await readFile(new URL(name, folder), 'utf8'));
      await owner.run('insert into supabase_migrations.schema_migrations (version) values ($1)', [name.slice(0, 14)]);
    }
    for (const table of ['mine', 'theirs']) {
      await owner.run(`create table public.${table} (id uuid primary key,
        project_id uuid not null references public.projects on delete cascade, token bytea not null, key_id uuid)`);
      await owner.run(
        `select keyring.register_encrypted_column('${table}.token', 'public.${table}', 'token', 'key_id')`,
      );
    }
    await admin.run('alter table public.theirs owner to current_user');
    await Promise.all([owner.client.end(), admin.client.end()]);
    await migrate({ connectionString: database.ownerUrl });
    expect(await query(database.ownerUrl, 'select code, relation from keyring.catalog_problems()')).toEqual([
      { code: 'missing_move', relation: 'public.theirs' },
    ]);
  });

  test('a login that took its role by `set role`, as Supabase’s tools do, runs them all in one session', async () => {
    const database = await empty();
    const login = `login_${database.name}`;
    await query(database.adminUrl, `create role ${login} login noinherit password 'anything' in role keyring_migrator`);
    const url = Object.assign(new URL(database.ownerUrl), { username: login, password: 'anything' }).href;
    const tool = await connect(url);
    await tool.run('set session role keyring_migrator');
    for (const name of (await readdir(folder)).sort()) await tool.run(await readFile(new URL(name, folder), 'utf8'));
    expect(await tool.value('select current_user')).toBe('keyring_migrator');
    await tool.client.end();
    expect(await query(database.ownerUrl, 'select * from keyring.catalog_problems()')).toEqual([]);
    await query(database.adminUrl, `drop role ${login}`);
  });

  test('a migration that fails leaves nothing of itself, and can be run again', async () => {
    const database = await empty();
    await query(database.ownerUrl, 'create table public.secrets (id uuid)');
    await expect(migrate({ connectionString: database.ownerUrl })).rejects.toMatchObject({ code: 'database_refused' });
    const done = (await recorded(database)).length;
    expect(done).toBeLessThan((await versions()).length);
    await query(database.ownerUrl, 'drop table public.secrets');
    // The baseline had found a table of that name and left it alone: now there is none, and nothing makes one.
    await expect(migrate({ connectionString: database.ownerUrl })).rejects.toMatchObject({ code: 'database_refused' });
    expect(await recorded(database)).toHaveLength(done);
  });
});

describe('as migrated', () => {
  const on = useDatabase();

  test('the service’s login can do its work with its role alone', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    expect(await outcome(putSecret(service, project, project.keys[0]))).toBe('done');
  });

  test('the parts of Supabase are there: roles, auth.uid() from either form of the claims', async () => {
    const admin = await on.admin();
    const id = 'a0000000-0000-4000-8000-000000000001';
    const uid = async (setting: string, value: string) => {
      await admin.run('begin');
      await admin.run('select set_config($1, $2, true)', [setting, value]);
      const found = await admin.value('select auth.uid()');
      await admin.run('rollback');
      return found;
    };
    expect(await uid('request.jwt.claims', JSON.stringify({ sub: id }))).toBe(id);
    expect(await uid('request.jwt.claim.sub', id)).toBe(id);
    expect(await uid('request.jwt.claims', '')).toBe(null);
    expect(await admin.value('select auth.uid()')).toBe(null);
  });
});
