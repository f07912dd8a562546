import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { query } from '../../../../test/support/database.ts';
import { migrate } from '../../src/db/migrate.ts';
import { asUser, loadMeshhook } from './meshhook.ts';
import {
  destroy,
  makeProject,
  outcome,
  promote,
  putSecret,
  reencrypt,
  retire,
  rewrite,
  useDatabase,
  type Session,
} from './support.ts';

// A `security definer` function runs as its owner, on names that its caller might choose.

describe('a caller’s own types and tables', () => {
  const on = useDatabase();

  /** Domains named as PostgreSQL's types, whose check tells as whom it runs. */
  async function hostile(by: Session): Promise<void> {
    await by.run(`create function pg_temp.spy() returns pg_catalog.bool language plpgsql as $$
      begin
        if current_user <> session_user then
          raise exception 'the caller''s code ran as %', current_user using errcode = 'MKBAD';
        end if;
        return true;
      end $$`);
    const types = ['uuid', 'text', 'name', 'jsonb', 'bytea', 'regclass', 'timestamptz', 'int8', 'bool', 'record'];
    for (const type of types) {
      const like = type === 'record' ? 'text' : type;
      await by.run(`create domain pg_temp.${type} as pg_catalog.${like} check (pg_temp.spy())`);
    }
    for (const table of ['keyrings', 'encryption_keys', 'projects', 'encrypted_columns']) {
      await by.run(`create table pg_temp.${table} (id pg_catalog.uuid)`);
    }
  }

  async function everything(service: Session): Promise<void> {
    const project = await makeProject(service, 3);
    const [v1, v2] = project.keys;
    const row = await putSecret(service, project, v1);
    await promote(service, project, v1, v2);
    await reencrypt(service, row, v2);
    await retire(service, v1);
    await destroy(service, v1);
    await service.run('select * from keyring.reference_counts()');
    await service.run('select * from keyring.catalog_problems()');
    await service.run('select * from keyring.key_inventory');
    await service.run(`select keyring.finish_adoption('secrets.value')`);
  }

  test('are not looked at by any function that runs as somebody else', async () => {
    const [service, plain] = await Promise.all([on.service(), on.service()]);
    await everything(plain);
    await hostile(service);
    await everything(service);
  });

  test('are not looked at when a project is deleted', async () => {
    const [admin, service] = await Promise.all([on.admin(), on.service()]);
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await hostile(admin);
    expect(await outcome(admin.run('delete from public.projects where id = $1', [project.id]))).toBe('done');
  });

  test('would run as keyring_owner if a definer named a type without its schema', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await makeProject(service);
    const fence = 'keyring.fence_secrets__value';
    const whole = await admin.value<string>('select pg_get_functiondef($1::regproc)', [fence]);
    await rewrite(admin, fence, (source) => source.replace('pg_catalog.uuid', 'uuid'));
    await hostile(service);
    expect(await outcome(putSecret(service, project, project.keys[0]))).toBe('MKBAD');
    await admin.run(whole);
  });
});

// "`security definer` without `set search_path = ''` returned another tenant's row."
describe('MeshHook’s helper for its policies', () => {
  const on = useDatabase({ template: false });
  const [ada, bob] = ['a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000002'];
  beforeAll(() => loadMeshhook(on.database.adminUrl));

  const asBob = async (by: Session) =>
    asUser(by, { user: bob }, async () => {
      await by.run('create temp table projects (id uuid, owner uuid)');
      await by.run(`insert into projects select 'a1000000-0000-4000-8000-000000000001', $1`, [bob]);
      await by.run('grant select on projects to public');
      return by.run<{ key: string }>('select key from public.secrets');
    });

  test('returned another tenant’s rows to whoever put a table before its own, until our migrations', async () => {
    const admin = await on.admin();
    expect((await asBob(admin)).map((row) => row.key).sort()).toEqual(['STRIPE_KEY', 'WEBHOOK_SECRET']);
    await migrate({ connectionString: on.database.ownerUrl });
    expect((await asBob(admin)).map((row) => row.key)).toEqual(['STRIPE_KEY']);
    const own = await asUser(admin, { user: ada }, () => admin.run('select key from public.secrets'));
    expect(own).toHaveLength(2);
  });
});

// "Under forced RLS a definer owned by a role without bypass saw no keyring": whatever a definer cannot see, it refuses.
describe('a definer that sees nothing', () => {
  const on = useDatabase();
  const dropped: string[] = [];
  async function drop(policy: string, table: string): Promise<void> {
    const [row] = await query<{ create: string }>(
      on.database.adminUrl,
      `select format('create policy %I on %s for %s to %s %s %s', policyname, $2::text, cmd, array_to_string(roles, ', '),
         'using (' || qual || ')', 'with check (' || with_check || ')') as create
       from pg_policies where policyname = $1 and format('%s.%s', schemaname, tablename) = $2`,
      [policy, table],
    );
    dropped.push(row!.create);
    await query(on.database.adminUrl, `drop policy "${policy}" on ${table}`);
  }
  afterEach(async () => {
    for (const create of dropped.splice(0)) await query(on.database.adminUrl, create);
  });

  test('no keyring: the fence takes nothing', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    await drop('keyring_roles', 'keyring.keyrings');
    expect(await outcome(putSecret(service, project, project.keys[0]))).toBe('MK001');
  });

  test('no versions: no promote', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    await drop('keyring_roles', 'keyring.encryption_keys');
    expect(await outcome(promote(service, project, ...project.keys))).toBe('MK005');
  });

  test('no rows: no destroy, and the catalog says why', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await promote(service, project, ...project.keys);
    await retire(service, project.keys[0]);
    await drop('keyring_owner', 'public.secrets');
    expect(await service.value('select count(*)::int from keyring.reference_counts($1)', [project.id])).toBe(0);
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
    expect(await outcome(service.run(`select keyring.finish_adoption('secrets.value')`))).toBe('MK006');
    expect(await service.run('select code, relation from keyring.catalog_problems()')).toEqual([
      { code: 'hidden_rows', relation: 'public.secrets' },
    ]);
  });

  test('no registry: no plaintext, and no destroy', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await promote(service, project, ...project.keys);
    await retire(service, project.keys[0]);
    await drop('keyring_roles', 'keyring.encrypted_columns');
    const plain = service.run(
      `insert into public.secrets (project_id, key, value_encrypted) values ($1, 'plain', 'plain')`,
      [project.id],
    );
    expect(await outcome(plain)).toBe('MK002');
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
  });

  test('no projects: no key version is deleted', async () => {
    const [owner, service] = await Promise.all([on.owner(), on.service()]);
    const project = await makeProject(service);
    await drop('Keyring definers see every project', 'public.projects');
    const gone = owner.run('delete from keyring.encryption_keys where id = $1', [project.keys[1]]);
    expect(await outcome(gone)).toBe('MK005');
    const unlinked = owner.run('delete from keyring.keyrings where project_id = $1', [project.id]);
    expect(await outcome(unlinked)).toBe('MK005');
  });
});
