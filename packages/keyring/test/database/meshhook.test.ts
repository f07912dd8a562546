import { beforeEach, describe, expect, test } from 'vitest';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { migrate } from '../../src/db/migrate.ts';
import { asUser, loadMeshhook, useMeshhookDatabase } from './meshhook.ts';
import { addVersion, connect, envelope, outcome, untilItWaits, useDatabase, type Session } from './support.ts';

const ada = 'a0000000-0000-4000-8000-000000000001';
const adaOne = 'a1000000-0000-4000-8000-000000000001';
const stripe = 'a1100000-0000-4000-8000-000000000001';

/** Everything in `public` and `auth` that could get lost, a line each. */
async function inventory(admin: Session): Promise<string[]> {
  const rows = await admin.run<{ line: string }>(`
    select 'column ' || a.attrelid::regclass || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) as line
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace in ('public'::regnamespace, 'auth'::regnamespace) and c.relkind in ('r', 'v') and a.attnum > 0
    union all select 'policy ' || schemaname || '.' || tablename || ' ' || policyname || ' ' || cmd || roles::text
      || coalesce(qual, '') || coalesce(with_check, '') from pg_policies where schemaname = 'public'
    union all select 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
      where connamespace = 'public'::regnamespace
    union all select 'index ' || indexdef from pg_indexes where schemaname = 'public'
    union all select 'trigger ' || tgrelid::regclass || ' ' || tgname from pg_trigger
      where tgrelid::regclass::text not like 'keyring.%' and not tgisinternal
    union all select 'function ' || oid::regprocedure from pg_proc where pronamespace = 'public'::regnamespace
    union all select 'row security ' || oid::regclass from pg_class
      where relnamespace = 'public'::regnamespace and relrowsecurity
    union all select 'project ' || to_jsonb(t)::text from public.projects t
    union all select 'secret ' || (to_jsonb(t) - 'encryption_key_id' - 'value_written_at')::text from public.secrets t
    union all select 'workflow ' || to_jsonb(t)::text from public.workflow_definitions t
    union all select 'audit ' || to_jsonb(t)::text from public.audit_log t
    union all select 'setting ' || to_jsonb(t)::text from public.user_settings t`);
  return rows.map((row) => row.line);
}

describe('over MeshHook’s own schema', () => {
  const on = useDatabase({ template: false });

  test('the migrations lose nothing: no row, time, policy, index or trigger', async () => {
    await loadMeshhook(on.database.adminUrl);
    const admin = await on.admin();
    const before = await inventory(admin);
    await migrate({ connectionString: on.database.ownerUrl });
    const after = await inventory(admin);
    expect(before.filter((line) => !after.includes(line))).toEqual([]);
    expect(before.filter((line) => line.startsWith('secret '))).toHaveLength(3);
    // What came: two columns, an index for lists, policies for our roles, the fence, a reference.
    expect(
      after
        .filter((line) => !before.includes(line))
        .map((line) => line.split(' ').slice(0, 3).join(' '))
        .sort(),
    ).toMatchInlineSnapshot(`
      [
        "column secrets encryption_key_id",
        "column secrets value_written_at",
        "constraint secrets FOREIGN",
        "index CREATE INDEX",
        "policy public.audit_log Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.projects Keyring",
        "policy public.secrets keyring_mover_reads",
        "policy public.secrets keyring_mover_writes",
        "policy public.secrets keyring_owner",
        "policy public.secrets keyring_reader",
        "policy public.secrets keyring_reader_sight",
        "policy public.secrets keyring_service",
        "policy public.secrets keyring_user",
        "policy public.secrets keyring_user_sight",
        "trigger secrets zz_keyring_fence_insert_secrets__value",
        "trigger secrets zz_keyring_fence_update_secrets__value",
      ]
    `);
  });
});

describe('with rows from before', () => {
  const on = useMeshhookDatabase();
  let admin: Session;
  let service: Session;
  beforeEach(async () => {
    [admin, service] = await Promise.all([on.admin(), on.service()]);
  });

  const plain = (by: Session, name: string) =>
    outcome(
      by.run(`insert into public.secrets (project_id, key, value_encrypted) values ($1, $2, 'plaintext')`, [
        adaOne,
        name,
      ]),
    );

  test('users see what they saw, their secrets’ values excepted', async () => {
    const seen = await asUser(admin, { user: ada }, async () => ({
      projects: await admin.value('select count(*)::int from public.projects'),
      secrets: await admin.value('select count(*)::int from public.secrets'),
      workflows: await admin.value('select count(*)::int from public.workflows'),
      audit: await admin.value('select count(*)::int from public.audit_log'),
      settings: await admin.value('select count(*)::int from public.user_settings'),
    }));
    expect(seen).toEqual({ projects: 2, secrets: 2, workflows: 1, audit: 1, settings: 1 });
  });

  test('an old row can be renamed and deleted before it is adopted', async () => {
    await asUser(admin, { user: ada }, async () => {
      expect(
        await admin.run(`update public.secrets set key = 'NEW' where id = $1 returning id`, [stripe]),
      ).toHaveLength(1);
      expect(await admin.run('delete from public.secrets where id = $1 returning id', [stripe])).toHaveLength(1);
    });
  });

  test('plaintext is accepted until adoption is finished, which waits for nobody to be left behind', async () => {
    const database = await createTestDatabase({ template: false });
    await loadMeshhook(database.adminUrl);
    await migrate({ connectionString: database.ownerUrl });
    const [writer, finisher, observer] = await Promise.all([
      connect(database.serviceUrl),
      connect(database.serviceUrl),
      connect(database.adminUrl),
    ]);
    const finish = () => outcome(finisher.run(`select keyring.finish_adoption('secrets.value')`));
    try {
      expect(await plain(writer, 'one more')).toBe('done');
      expect(await finish()).toBe('MK006');
      expect(await plain(writer, 'and another')).toBe('done');

      // Adopted, as `secrets adopt` does: one version for each project, and the time of the last change stays.
      const before = await observer.run('select id, updated_at from public.secrets order by id');
      for (const { project_id } of await writer.run<{ project_id: string }>(
        'select distinct project_id from public.secrets',
      )) {
        await adopt(writer, project_id);
      }
      expect(await observer.run('select id, updated_at from public.secrets order by id')).toEqual(before);

      // A plaintext in flight: finishing waits for it, sees it, and refuses.
      await writer.run('begin');
      expect(await plain(writer, 'in flight')).toBe('done');
      const finishing = finish();
      await untilItWaits(observer, finisher);
      await writer.run('commit');
      expect(await finishing).toBe('MK006');
      await writer.run(`delete from public.secrets where key = 'in flight'`);

      // A snapshot from before could miss one.
      for (const isolation of ['repeatable read', 'serializable']) {
        await finisher.run(`begin isolation level ${isolation}`);
        expect(await finish()).toBe('MK005');
        await finisher.run('rollback');
      }

      // A writer whose snapshot is older than the end of adoption does not get in any more, either.
      await writer.run('begin isolation level repeatable read');
      await writer.run('select count(*) from public.secrets');
      expect(await finish()).toBe('done');
      expect(await plain(writer, 'too late')).toBe('40001');
      await writer.run('rollback');
      expect(await plain(writer, 'too late')).toBe('MK002');
      expect(await plain(observer, 'too late')).toBe('MK002');
      expect(await outcome(observer.run(`update public.secrets set value_encrypted = 'plaintext'`))).toBe('MK003');
      expect(
        await outcome(
          observer.run(`update public.secrets set value_encrypted = 'plaintext', encryption_key_id = null`),
        ),
      ).toBe('MK002');
      expect(await finish()).toBe('done');
    } finally {
      await Promise.all([writer, finisher, observer].map((one) => one.client.end()));
      await database.drop();
    }
  });

  test('a plaintext row cannot follow a row that was encrypted, adoption or not', async () => {
    await adopt(service, adaOne);
    const back = service.run(
      `update public.secrets set value_encrypted = 'plaintext', encryption_key_id = null where id = $1`,
      [stripe],
    );
    expect(await outcome(back)).toBe('MK002');
  });
});

async function adopt(by: Session, projectId: string): Promise<void> {
  const key = await firstKey(by, projectId);
  await by.run(
    'update public.secrets set value_encrypted = $2, encryption_key_id = $3 where project_id = $1 and encryption_key_id is null',
    [projectId, envelope(key), key],
  );
}

async function firstKey(by: Session, projectId: string): Promise<string> {
  const key = await addVersion(by, projectId, 1);
  await by.run('insert into keyring.keyrings (project_id, primary_key_id) values ($1, $2)', [projectId, key]);
  return key;
}
