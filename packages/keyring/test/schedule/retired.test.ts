import { openKeyring, type Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase, type Passing } from '../engine/support/intercept.ts';
import { clearProjects, codeOf, makeProject } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  await installation.sql('delete from keyring.rotation_policies');
  await installation.sql(`insert into keyring.rotation_policies (project_id) values (null)`);
  await nextHour();
  keyring = await installation.open();
});
afterAll(() => installation.end());

const nextHour = () => installation.sql(`update keyring.schedule_turns set last_at = '-infinity'`);
const none = { total: 0, versions: [] };

/** Projects with a version that nobody keeps any longer: its project, its id, by the order of its ids. */
async function retired(count: number): Promise<{ projectId: string; keyId: string }[]> {
  await makeProject(installation, keyring, { secrets: 1 });
  await installation.behindTheFence(
    `with made as (
       insert into public.projects (id, owner, name)
         select gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'retired ' || n from generate_series(1, $1) n returning id
     ), keys as (
       insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, activated_at,
           deactivated_at, retention_until)
         select gen_random_uuid(), p.id, v.version, k.wrapped_key, k.wrapping_key_id, k.fingerprint, now(), v.ended, v.ended
         from made p cross join (values (1, now() - interval '1 day'), (2, null)) v (version, ended)
         cross join (select * from keyring.encryption_keys limit 1) k
         returning id, project_id, version
     )
     insert into keyring.keyrings (project_id, primary_key_id) select project_id, id from keys where version = 2`,
    [count],
  );
  const rows = await installation.sql<{ id: string; project_id: string }>(
    'select id, project_id from keyring.encryption_keys where retention_until < now() order by retention_until, id',
  );
  return rows.map((row) => ({ projectId: row.project_id, keyId: row.id }));
}

/** Brings a row back under a version, as a restore does. */
const restore = ({ projectId, keyId }: { projectId: string; keyId: string }) =>
  installation.behindTheFence(
    `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id, value_written_at)
     select $1, 'restored', s.value_encrypted, $2, now() from public.secrets s limit 1`,
    [projectId, keyId],
  );
const destroyedNow = async () =>
  (await installation.sql<{ id: string }>(`select id from keyring.encryption_keys where state = 'destroyed'`)).map(
    ({ id }) => id,
  );
const entries = async () =>
  installation.sql(
    `select subject, outcome, reason from keyring.audit_log
     where action = 'key.destroyed' and project_id in (select id from public.projects) order by subject`,
  );
const entryOf = ({ keyId }: { keyId: string }, outcome = 'succeeded') => ({
  subject: `key:${keyId}`,
  outcome,
  reason: 'Its retention is over.',
});
const ids = (versions: readonly { keyId: string }[]) => versions.map(({ keyId }) => keyId);
const sorted = (some: readonly string[]) => some.toSorted();
const erases = ({ statement }: Passing) => statement.text.includes(`set state = 'destroyed'`);

test('old versions are destroyed when their retention is over, unless a row names them or their policy says otherwise', async () => {
  const [goes, named, stays] = await retired(3);
  await restore(named!);
  await keyring.policies.set({ destroyAfterRetention: false }, { projectId: stays!.projectId, revision: 0 });
  expect(await keyring.policies.destroyRetired()).toEqual({
    destroyed: [goes!.keyId],
    inUse: { total: 1, versions: [{ ...named, version: 1, rows: 1 }] },
    more: false,
  });
  const versions = await keyring.keys.list({ projectId: goes!.projectId });
  expect(versions.map(({ status }) => status)).toEqual(['destroyed', 'active']);
  // What was not tried was not refused.
  expect(await entries()).toEqual([entryOf(goes!)]);
});

test('a rotation retires versions, which go when the time that its policy gave them is over, and at most once an hour', async () => {
  const project = await makeProject(installation, keyring, { secrets: 1 });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await keyring.rotations.run(id);
  expect(await keyring.policies.destroyRetired()).toEqual({ destroyed: [], inUse: none, more: false });
  await installation.behindTheFence(
    `update keyring.encryption_keys set retention_until = retention_until - interval '31 days'`,
  );
  expect(await keyring.policies.destroyRetired()).toEqual({ destroyed: [], inUse: none, more: false });
  await nextHour();
  const [old] = await keyring.keys.list({ projectId: project.id });
  expect(await keyring.policies.destroyRetired()).toEqual({ destroyed: [old!.id], inUse: none, more: false });
});

test('of a set, one that a row names since it was counted is refused, named and written down, and all others go', async () => {
  const versions = await retired(60);
  const unlucky = versions[7]!;
  let struck = false;
  const own = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async (passing) => {
        if (erases(passing) && !struck) {
          struck = true;
          await restore(unlucky);
        }
        return passing.send();
      }),
  });
  const { destroyed, inUse, more } = await own.policies.destroyRetired();
  const others = ids(versions.filter((version) => version !== unlucky));
  expect(sorted(destroyed)).toEqual(sorted(others));
  expect(sorted(await destroyedNow())).toEqual(sorted(others));
  expect({ inUse, more }).toEqual({
    inUse: { total: 1, versions: [{ ...unlucky, version: 1, rows: 1 }] },
    more: false,
  });
  const told = versions.map((version) => entryOf(version, version === unlucky ? 'refused' : 'succeeded'));
  expect(await entries()).toEqual(told.toSorted((a, b) => (a.subject < b.subject ? -1 : 1)));
});

test('one that somebody holds is left for later, and holds up no other', async () => {
  const versions = await retired(3);
  const held = versions[1]!;
  const other = await session(installation.test.adminUrl, 'holder');
  await other.query('begin');
  await other.query('select from keyring.encryption_keys where id = $1 for key share', [held.keyId]);
  const others = ids(versions.filter((version) => version !== held));
  const { destroyed, inUse } = await keyring.policies.destroyRetired();
  expect(sorted(destroyed)).toEqual(sorted(others));
  expect(inUse).toEqual(none);
  await other.query('rollback');
  await other.end();
  await nextHour();
  expect((await keyring.policies.destroyRetired()).destroyed).toEqual([held.keyId]);
});

test('who is told to stop stops after a set, and the next one goes on at once', async () => {
  const versions = await retired(120);
  const stopping = new AbortController();
  const own = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async (passing) => {
        if (erases(passing)) stopping.abort();
        return passing.send();
      }),
  });
  const first = await own.policies.destroyRetired({ signal: stopping.signal });
  expect(first).toMatchObject({ destroyed: { length: 50 }, more: true });
  const second = await keyring.policies.destroyRetired();
  expect(second).toMatchObject({ destroyed: { length: 70 }, more: false });
  expect(sorted([...first.destroyed, ...second.destroyed])).toEqual(sorted(ids(versions)));
});

test('two processes that look at the same time destroy each version once, and say so once', async () => {
  const versions = await retired(60);
  const other = await installation.open();
  const looks = await Promise.all([keyring.policies.destroyRetired(), other.policies.destroyRetired()]);
  expect(sorted(looks.flatMap(({ destroyed }) => destroyed))).toEqual(sorted(ids(versions)));
  expect(await entries()).toHaveLength(60);
});

test('a version that was destroyed opens nothing any more in the process that did it, which had its key at hand', async () => {
  const project = await makeProject(installation, keyring, { secrets: 1 });
  const [{ id: keyId } = { id: '' }] = await keyring.keys.list({ projectId: project.id });
  await installation.sql('create temp table backup as select * from public.secrets where project_id = $1', [
    project.id,
  ]);
  await keyring.rotations.run((await keyring.rotations.request({ projects: 'all' })).id);
  await installation.behindTheFence('update keyring.encryption_keys set retention_until = now() where id = $1', [
    keyId,
  ]);
  expect((await keyring.policies.destroyRetired()).destroyed).toEqual([keyId]);
  await installation.behindTheFence(
    `update public.secrets s set value_encrypted = b.value_encrypted, encryption_key_id = b.encryption_key_id
     from backup b where b.id = s.id`,
  );
  expect(await codeOf(keyring.secrets.get(project.id, 'SECRET_1'))).toBe('key_destroyed');
});

describe('while the catalog is not sound', () => {
  test('nothing is destroyed, the column is named, and the next look comes as soon as it is mended', async () => {
    const [version] = await retired(1);
    await installation.asOwner(`create table public.forgotten (id uuid primary key, project_id uuid, key_id uuid,
      foreign key (project_id, key_id) references keyring.encryption_keys (project_id, id))`);
    await expect(keyring.policies.destroyRetired()).rejects.toMatchObject({ code: 'unregistered_column' });
    expect(await entries()).toEqual([]);
    await installation.asOwner('drop table public.forgotten');
    expect((await keyring.policies.destroyRetired()).destroyed).toEqual([version!.keyId]);
  });
});

test('a look at many reads the secrets of their projects, not all of them for each', async () => {
  const fleet = 300;
  await retired(fleet);
  await installation.behindTheFence(
    `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id, value_written_at)
     select r.project_id, 'a secret', s.value_encrypted, r.primary_key_id, now()
     from keyring.keyrings r cross join (select * from public.secrets limit 1) s`,
  );
  await installation.sql('analyze public.projects, public.secrets, keyring.encryption_keys, keyring.keyrings');
  const own = await openKeyring({ database: installation.test.serviceUrl, rootKey: installation.rootKey });
  const before = await read();
  expect((await own.policies.destroyRetired()).destroyed).toHaveLength(fleet);
  const [version] = await keyring.keys.list({ limit: 1 });
  await own.keys.get(version!.id);
  await own.close();
  // What a connection read is on record once it is closed.
  await expect.poll(async () => (await read()).found - before.found).toBeGreaterThan(fleet);
  expect((await read()).rows - before.rows).toBeLessThan(10 * fleet);

  async function read(): Promise<{ rows: number; found: number }> {
    const [row] = await installation.sql<{ rows: number; found: number }>(
      `select (seq_tup_read + coalesce(idx_tup_fetch, 0))::float8 as rows, coalesce(idx_scan, 0)::float8 as found
       from pg_stat_user_tables where relname = 'secrets'`,
    );
    return row!;
  }
});
