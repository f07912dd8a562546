import { describe, expect, test } from 'vitest';
import {
  addVersion,
  destroy,
  isolations,
  makeProject,
  movePointer,
  outcome,
  promote,
  putSecret,
  retire,
  untilItWaits,
  useDatabase,
  type Session,
} from './support.ts';

const on = useDatabase();

const primaryOf = (by: Session, project: { id: string }) =>
  by.value<string>('select primary_key_id from keyring.keyrings where project_id = $1', [project.id]);

describe.each(isolations)('under %s', (isolation) => {
  test('of two racing promotes exactly one wins', async () => {
    const [one, two, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(admin, 3);
    const [v1, v2, v3] = project.keys as unknown as [string, string, string];
    await one.run(`begin isolation level ${isolation}`);
    await two.run(`begin isolation level ${isolation}`);
    expect(await movePointer(one, project, v1, v2)).toBe(true);
    const second = movePointer(two, project, v1, v3).then(String, (error: { code: string }) => error.code);
    await untilItWaits(admin, two);
    await one.run('commit');
    expect(await second).toBe(isolation === 'read committed' ? 'false' : '40001');
    await two.run('rollback');
    expect(await primaryOf(admin, project)).toBe(v2);
  });
});

test('two first versions of a project make one keyring', async () => {
  const [one, two, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
  const [{ id }] = (await admin.run(
    `insert into public.projects (owner, name) values (gen_random_uuid(), 'new') returning id`,
  )) as [{ id: string }];
  await one.run('begin');
  const first = await addVersion(one, id, 1);
  const link = 'insert into keyring.keyrings (project_id, primary_key_id) values ($1, $2) on conflict do nothing';
  await one.run(link, [id, first]);
  await two.run('begin');
  const second = outcome(addVersion(two, id, 1));
  await untilItWaits(admin, two);
  await one.run('commit');
  expect(await second).toBe('23505');
  await two.run('rollback');
  expect(await primaryOf(admin, { id })).toBe(first);
});

test('a rollback is the same statement the other way, and what was rolled back is never promoted again', async () => {
  const service = await on.service();
  const project = await makeProject(service);
  const [v1, v2] = project.keys;
  expect(await promote(service, project, v1, v2)).toBe(true);
  expect(await promote(service, project, v2, v1)).toBe(true);
  await service.run('update keyring.encryption_keys set rolled_back_at = now() where id = $1', [v2]);
  expect(await outcome(promote(service, project, v1, v2))).toBe('MK005');
  await service.run('rollback');
  const undo = service.run('update keyring.encryption_keys set rolled_back_at = null where id = $1', [v2]);
  expect(await outcome(undo)).toBe('MK005');
});

describe('never promoted is a version that is', () => {
  const spoil: Record<string, string> = {
    disabled: `state = 'disabled', disabled_at = now()`,
    compromised: `state = 'compromised', compromised_at = now()`,
    destroyed: `state = 'destroyed', destroyed_at = now(), wrapped_key = null`,
    retired: `retention_until = now() + interval '30 days'`,
  };
  test.each(Object.keys(spoil))('%s', async (how) => {
    const service = await on.service();
    const project = await makeProject(service);
    await service.run(`update keyring.encryption_keys set ${spoil[how]!} where id = $1`, [project.keys[1]]);
    expect(await outcome(promote(service, project, ...project.keys))).toBe('MK005');
  });

  test('of another project', async () => {
    const service = await on.service();
    const [a, b] = [await makeProject(service), await makeProject(service)];
    expect(await outcome(promote(service, a, a.keys[0], b.keys[0]))).toBe('MK005');
  });

  test('of no project at all', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const nothing = promote(service, project, project.keys[0], '00000000-0000-4000-8000-000000000000');
    expect(await outcome(nothing)).toBe('MK005');
  });
});

test('a promote keeps the times of its versions', async () => {
  const service = await on.service();
  const project = await makeProject(service);
  const times = () =>
    service.run<{ version: number; activated: boolean; deactivated: boolean }>(
      `select version, activated_at is not null as activated, deactivated_at is not null as deactivated
       from keyring.encryption_keys where project_id = $1 order by version`,
      [project.id],
    );
  expect(await times()).toEqual([
    { version: 1, activated: true, deactivated: false },
    { version: 2, activated: false, deactivated: false },
  ]);
  await promote(service, project, ...project.keys);
  expect(await times()).toEqual([
    { version: 1, activated: true, deactivated: true },
    { version: 2, activated: true, deactivated: false },
  ]);
});

test('a version ends when the writers that its promote waited for are done, not before', async () => {
  const [writer, promoter, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
  const project = await makeProject(writer);
  const [v1, v2] = project.keys;
  await writer.run('begin');
  await putSecret(writer, project, v1);
  const promoting = promote(promoter, project, v1, v2);
  await untilItWaits(admin, promoter);
  const last = await putSecret(writer, project, v1);
  await writer.run('commit');
  await promoting;
  const inTime = await admin.value(
    `select s.value_written_at < k.deactivated_at and s.value_written_at < n.activated_at
     from public.secrets s join keyring.encryption_keys k on k.id = s.encryption_key_id
     join keyring.encryption_keys n on n.id = $2 where s.id = $1`,
    [last, v2],
  );
  expect(inTime).toBe(true);
});

test('the inventory shows one active version a project, in the words people use', async () => {
  const service = await on.service();
  const project = await makeProject(service, 6);
  const [v1, v2, v3, v4, v5] = project.keys as unknown as string[] as [string, string, string, string, string];
  await putSecret(service, project, v1);
  await promote(service, project, v1, v2);
  const set = (key: string, how: string) =>
    service.run(`update keyring.encryption_keys set ${how} where id = $1`, [key]);
  await set(v3, `state = 'disabled', disabled_at = now()`);
  await set(v4, `state = 'compromised', compromised_at = now()`);
  await destroy(service, v5);
  const rows = await service.run(
    'select version, status, active, rows_naming::int from keyring.key_inventory where project_id = $1 order by version',
    [project.id],
  );
  expect(rows).toEqual([
    { version: 1, status: 'deactivated', active: false, rows_naming: 1 },
    { version: 2, status: 'active', active: true, rows_naming: 0 },
    { version: 3, status: 'suspended', active: false, rows_naming: 0 },
    { version: 4, status: 'compromised', active: false, rows_naming: 0 },
    { version: 5, status: 'destroyed', active: false, rows_naming: 0 },
    { version: 6, status: 'pre-activation', active: false, rows_naming: 0 },
  ]);
});

// A finalize and a rollback at the same moment: whichever commits second is refused, never both done.
describe('a retention that begins while the version is promoted', () => {
  test('is refused when the promote was first', async () => {
    const [rollback, finalize, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(admin);
    const [v1, v2] = project.keys;
    await promote(admin, project, v1, v2);
    await rollback.run('begin');
    await movePointer(rollback, project, v2, v1);
    const retiring = outcome(
      finalize.run(
        `update keyring.encryption_keys k set retention_until = now() + interval '30 days'
         where k.project_id = $1 and k.activated_at is not null and k.retention_until is null
           and not exists (select from keyring.keyrings r where r.primary_key_id = k.id)`,
        [project.id],
      ),
    );
    await untilItWaits(admin, finalize);
    await rollback.run('commit');
    expect(await retiring).toBe('MK006');
  });

  test('refuses the promote when it was first', async () => {
    const [rollback, finalize, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(admin);
    const [v1, v2] = project.keys;
    await promote(admin, project, v1, v2);
    await finalize.run('begin');
    await retire(finalize, v1, '30 days');
    await rollback.run('begin');
    const moving = outcome(movePointer(rollback, project, v2, v1));
    await untilItWaits(admin, rollback);
    await finalize.run('commit');
    expect(await moving).toBe('MK005');
  });
});
