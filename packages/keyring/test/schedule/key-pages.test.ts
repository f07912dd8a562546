import { isDeepStrictEqual } from 'node:util';
import type { Keyring, KeyStatus } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { makeProject } from '../engine/support/world.ts';

const FLEET = 2_600;
let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  await makeProject(installation, keyring, { secrets: 1 });
  await installation.behindTheFence(
    `with made as (
       insert into public.projects (id, owner, name)
         -- Names of which some are the same.
         select gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'fleet ' || lpad((n / 2)::text, 5, '0')
         from generate_series(1, $1) n returning id
     ), keys as (
       insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, activated_at)
         select gen_random_uuid(), p.id, v.version, k.wrapped_key, k.wrapping_key_id, k.fingerprint, now()
         from made p cross join generate_series(1, 2) v (version)
         cross join (select * from keyring.encryption_keys limit 1) k returning id, project_id, version
     )
     insert into keyring.keyrings (project_id, primary_key_id) select project_id, id from keys where version = 2`,
    [FLEET],
  );
});
afterAll(() => installation.end());

/** Versions of this age each, an interval made of the project's place among all. */
async function made(age: string): Promise<void> {
  await installation.sql('delete from keyring.rotation_policies');
  await installation.sql('insert into keyring.rotation_policies (project_id) values (null)');
  await installation.behindTheFence('delete from keyring.key_usage');
  await installation.behindTheFence(
    `update keyring.encryption_keys k set state = 'enabled', created_at = now() - n.age
     from (select p.id, ${age} as age from (
       select p.id, row_number() over (order by p.name, p.id) as place from public.projects p) p) n
     where n.id = k.project_id`,
  );
  await installation.behindTheFence(
    `update keyring.keyrings r set primary_made_at = k.created_at from keyring.encryption_keys k where k.id = r.primary_key_id`,
  );
  await installation.sql('analyze public.projects, keyring.encryption_keys, keyring.keyrings');
}

/** Some of everything that makes one due, or not, in spite of its age and the default. */
async function exceptions(): Promise<void> {
  const places = (of: string) => `(select p.id from (
    select p.id, row_number() over (order by p.name, p.id) as place from public.projects p) p where ${of})`;
  await installation.sql(
    `insert into keyring.rotation_policies (project_id, rotate_after) select id, interval '20 days' from ${places('place % 97 = 0')} p`,
  );
  await installation.sql(
    `insert into keyring.rotation_policies (project_id, enabled, reason) select id, false, 'test' from ${places('place % 97 = 1')} p`,
  );
  await installation.sql(
    `insert into keyring.rotation_policies (project_id, rotate_after) select id, interval '5 years' from ${places('place % 97 = 2')} p`,
  );
  await installation.behindTheFence(
    `insert into keyring.key_usage (key_id, project_id, reserved)
     select r.primary_key_id, r.project_id, case r.project_id::text < '8' when true then 3865470566 else 100 end
     from keyring.keyrings r where r.project_id in ${places('place % 97 in (1, 3, 4)')}`,
  );
  await installation.behindTheFence(
    `update keyring.keyrings set primary_made_at = null where project_id in ${places('place % 97 in (2, 5)')}`,
  );
  await installation.behindTheFence(
    `update keyring.encryption_keys set state = 'disabled', disabled_at = now()
     where version = 2 and project_id in ${places('place % 97 = 6')}`,
  );
}

async function all(due: boolean, status?: KeyStatus): Promise<string[]> {
  const ids: string[] = [];
  for (let after; ;) {
    const page = await keyring.keys.page({ due, limit: 400, ...(status === undefined ? {} : { status }), ...after });
    ids.push(...page.map(({ id }) => id));
    const last = page.at(-1);
    if (page.length < 400 || last === undefined) return ids;
    after = { after: { projectName: last.projectName, projectId: last.projectId, version: last.version } };
  }
}

const plainly = async (due: boolean, state?: string): Promise<string[]> =>
  (
    await installation.sql<{ key_id: string }>(
      `select s.key_id from keyring.scheduled_projects s
       join public.projects p on p.id = s.project_id join keyring.encryption_keys k on k.id = s.key_id
       where (s.enabled and (s.due_at <= now() or s.encryptions >= s.max_encryptions)) = $1 and ($2::text is null or k.state = $2)
       order by p.name, p.id`,
      [due, state ?? null],
    )
  ).map(({ key_id }) => key_id);

/** What becomes due while pages are read would be on some of them: then they are read again. */
async function expectSame(due: boolean, status?: KeyStatus, state?: string): Promise<void> {
  for (;;) {
    const before = await plainly(due, state);
    const pages = await all(due, status);
    if (!isDeepStrictEqual(before, await plainly(due, state))) continue;
    expect(pages).toEqual(before);
    return;
  }
}

const old = (which: string) => `case when ${which} then interval '100 days' else interval '30 days' end`;
test.each([
  ['none is due', old('false')],
  ['all are due', old('true')],
  ['the last one is due', old(`p.place > ${String(FLEET)}`)],
  ['each is at another place of the spread', `interval '82 days' + interval '1 hour' * (p.place % 220)`],
  ['many are due, all of them the last', old('p.place > 1400')],
  ['many are due, all of them the first', old('p.place < 1200')],
])('pages of what is due, and of what is not, are those of a plain computation where %s', async (_, age) => {
  await made(age);
  for (const due of [true, false]) await expectSame(due);
  await exceptions();
  for (const due of [true, false]) {
    await expectSame(due);
    await expectSame(due, 'active', 'enabled');
    await expectSame(due, 'suspended', 'disabled');
  }
  await installation.sql(
    `update keyring.rotation_policies set enabled = false, reason = 'test' where project_id is null`,
  );
  for (const due of [true, false]) await expectSame(due);
});

test('and so they are of some projects, of a name and of one project', async () => {
  await made(old('p.place % 2 = 0'));
  const due = await plainly(true);
  const some = await installation.sql<{ project_id: string; id: string }>(
    'select project_id, id from keyring.encryption_keys where id = any ($1) order by id limit 20',
    [due],
  );
  const page = await keyring.keys.page({ due: true, among: some.map((one) => one.project_id) });
  expect(page.map(({ id }) => id).toSorted()).toEqual(some.map(({ id }) => id));
  const named = await keyring.keys.page({ due: true, search: 'FLEET 01299', limit: 10 });
  expect(named.every(({ projectName }) => projectName === 'fleet 01299')).toBe(true);
  expect(named.length).toBeGreaterThan(0);
  const [one] = await keyring.keys.page({ due: true, projectId: some[0]!.project_id });
  expect(one?.id).toBe(some[0]!.id);
});
