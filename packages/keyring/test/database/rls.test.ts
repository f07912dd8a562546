import { describe, expect, test } from 'vitest';
import { asUser, useMeshhookDatabase } from './meshhook.ts';
import { envelope, makeProject, outcome, promote, putSecret, useDatabase, type Session } from './support.ts';

const origins = [
  ['our baseline', useDatabase()],
  ['MeshHook’s own schema', useMeshhookDatabase()],
] as const;

const keyringTables = async (admin: Session): Promise<string[]> =>
  (
    await admin.run<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class c
       where c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace)
         and c.relkind in ('r', 'v', 'p', 'S') order by 1`,
    )
  ).map((row) => row.name);

describe.each(origins)('on %s', (_, on) => {
  /** One statement in a transaction of its own. */
  const as = (admin: Session, who: Parameters<typeof asUser>[1], text: string, values: unknown[] = []) =>
    asUser(admin, who, () => outcome(admin.run(text, values)));
  const count = (admin: Session, who: Parameters<typeof asUser>[1], text: string) =>
    asUser(admin, who, async () => (await admin.run(text)).length);

  async function twoTenants() {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const [mine, theirs] = [await makeProject(service), await makeProject(service)];
    const row = await putSecret(service, mine, mine.keys[0], 'MINE');
    await putSecret(service, theirs, theirs.keys[0], 'THEIRS');
    return { admin, service, mine, theirs, row, me: { user: mine.owner } };
  }

  test('a user sees which secrets the own projects have, and nothing of another’s', async () => {
    const { admin, mine, me } = await twoTenants();
    const seen = await asUser(admin, me, async () => ({
      projects: await admin.run('select id from public.projects'),
      secrets: await admin.run('select project_id, key from public.secrets'),
    }));
    expect(seen).toEqual({ projects: [{ id: mine.id }], secrets: [{ project_id: mine.id, key: 'MINE' }] });
  });

  test.each([
    ['a user with claims of nobody', { user: '99999999-9999-4999-8999-999999999999' }],
    ['a user without claims', {}],
  ])('%s sees no project and no secret', async (_who, who) => {
    const { admin } = await twoTenants();
    expect(await count(admin, who, 'select id from public.projects')).toBe(0);
    expect(await count(admin, who, 'select id from public.secrets')).toBe(0);
    expect(await count(admin, who, `update public.secrets set key = 'x' returning id`)).toBe(0);
    expect(await count(admin, who, 'delete from public.secrets returning id')).toBe(0);
    expect(await count(admin, who, 'delete from public.projects returning id')).toBe(0);
  });

  test('a user renames and deletes secrets of the own project', async () => {
    const { admin, row, me } = await twoTenants();
    await asUser(admin, me, async () => {
      expect(
        await admin.run(`update public.secrets set key = 'RENAMED' where id = $1 returning key`, [row]),
      ).toHaveLength(1);
      expect(await admin.run('delete from public.secrets where id = $1 returning id', [row])).toHaveLength(1);
    });
  });

  test('a user renames a secret that is not swept yet', async () => {
    const { admin, service, mine, row, me } = await twoTenants();
    await promote(service, mine, ...mine.keys);
    expect(await as(admin, me, `update public.secrets set key = 'RENAMED' where id = $1`, [row])).toBe('done');
  });

  test('no user touches those of another, whose ids are known', async () => {
    const { admin, theirs, row, me } = await twoTenants();
    const them = { user: theirs.owner };
    expect(await count(admin, them, `update public.secrets set key = 'x' where id = '${row}' returning id`)).toBe(0);
    expect(await count(admin, them, `delete from public.secrets where id = '${row}' returning id`)).toBe(0);
    expect(await as(admin, me, `update public.projects set owner = $1`, [theirs.owner])).toBe('42501');
  });

  test.each(['anon', 'authenticated', 'service_role'])(
    '%s reads no ciphertext and writes neither value nor key id',
    async (role) => {
      const { admin, mine, row, me } = await twoTenants();
      const who = { ...me, role };
      const key = mine.keys[0];
      for (const [text, values] of [
        ['select * from public.secrets', []],
        ['select value_encrypted from public.secrets', []],
        ['select s from public.secrets s', []],
        ['select to_jsonb(s) from public.secrets s', []],
        ['select id from public.secrets where length(value_encrypted) > 0', []],
        ['select id from public.secrets order by value_encrypted', []],
        ['update public.secrets set key = key returning value_encrypted', []],
        ['delete from public.secrets returning value_encrypted', []],
        ['copy public.secrets to stdout', []],
        ['update public.secrets set value_encrypted = $1', [envelope(key)]],
        ['update public.secrets set encryption_key_id = $1', [key]],
        ['update public.secrets set value_written_at = now()', []],
        ['update public.secrets set project_id = $1', [mine.id]],
        ['insert into public.secrets (project_id, key) values ($1, $2)', [mine.id, 'new']],
        [
          'insert into public.secrets (project_id, key, value_encrypted, encryption_key_id) values ($1, $2, $3, $4)',
          [mine.id, 'new', envelope(key), key],
        ],
        ['truncate public.secrets', []],
        [
          'create trigger spy before insert on public.secrets for each row execute function suppress_redundant_updates_trigger()',
          [],
        ],
        ['select count(*) from public.secrets where id = $1 for update', [row]],
      ] as const) {
        expect(await as(admin, who, text, [...values]), text).toMatch(/42501|0A000/);
      }
      expect(await as(admin, who, 'truncate public.projects cascade')).toBe('42501');
    },
  );

  test.each(['anon', 'authenticated', 'service_role'])(
    '%s reaches nothing in the schemas keyring and keyring_jobs',
    async (role) => {
      const { admin, me } = await twoTenants();
      const who = { ...me, role };
      for (const table of await keyringTables(admin)) {
        expect(await as(admin, who, `select 1 from ${table}`), table).toBe('42501');
      }
      expect(await as(admin, who, 'select keyring.reference_counts()')).toBe('42501');
      expect(await as(admin, who, 'select keyring.schema_version()')).toBe('42501');
      expect(await as(admin, who, `select keyring.finish_adoption('secrets.value')`)).toBe('42501');
    },
  );

  test('a user deletes the own project, its keys with it', async () => {
    const { admin, mine, me } = await twoTenants();
    await asUser(admin, me, async () => {
      expect(await admin.run('delete from public.projects returning id')).toEqual([{ id: mine.id }]);
      await admin.run('reset role');
      expect(await admin.run('select id from keyring.encryption_keys where project_id = $1', [mine.id])).toEqual([]);
    });
  });

  test('the statistics of the planner show nobody a ciphertext', async () => {
    const { admin, me } = await twoTenants();
    await admin.run('analyze public.secrets');
    const stats = `select attname from pg_stats where schemaname = 'public' and tablename = 'secrets' and attname = 'value_encrypted'`;
    expect(await count(admin, me, stats)).toBe(0);
  });

  test('the service owns nothing, and can neither change the schema nor the trail', async () => {
    const { service } = await twoTenants();
    await service.run(
      `insert into keyring.audit_log (actor, action, outcome, subject) values ('a', 'key.made', 'succeeded', 'key:1')`,
    );
    for (const text of [
      `update keyring.audit_log set actor = 'b'`,
      'delete from keyring.audit_log',
      'truncate keyring.audit_log',
      'alter table public.secrets disable trigger all',
      'set session_replication_role = replica',
      'delete from keyring.keyrings',
      'delete from keyring.encrypted_columns',
      'update keyring.encrypted_columns set accepts_plaintext = true',
      `update keyring.encryption_keys set activated_at = null`,
      'update keyring.wrapping_keys set version = 2',
      'create table keyring.mine (n int)',
      'set role keyring_owner',
      'set role keyring_mover',
      `select keyring.lock_primaries('{}')`,
      `select keyring.register_encrypted_column('x.y', 'public.secrets', 'value_encrypted', 'encryption_key_id')`,
      `select keyring.admit_plaintext('secrets.value')`,
    ]) {
      expect(await outcome(service.run(text)), text).toBe('42501');
    }
  });

  test('the trail is append-only for its owner and the superuser, too', async () => {
    const { admin, service } = await twoTenants();
    await service.run(
      `insert into keyring.audit_log (actor, action, outcome, subject) values ('a', 'key.made', 'succeeded', 'key:1')`,
    );
    for (const text of [
      `update keyring.audit_log set actor = 'b'`,
      'delete from keyring.audit_log',
      'truncate keyring.audit_log',
    ]) {
      expect(await outcome(admin.run(text)), text).toBe('MK007');
    }
  });
});
