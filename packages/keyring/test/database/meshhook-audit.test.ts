import { expect, test } from 'vitest';
import { asUser, useMeshhookDatabase } from './meshhook.ts';

const on = useMeshhookDatabase();
const project = 'a1000000-0000-4000-8000-000000000001';
const ada = 'a0000000-0000-4000-8000-000000000001';
const nil = '00000000-0000-0000-0000-000000000000';
const insert = `insert into keyring.audit_log (actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details)
  values ($1, $2, $3, 'key.promoted', 'succeeded', $4, 'key:1', 'because', '{"version": 2}')`;

test('a project’s entries show in MeshHook’s log, in the same transaction, to the users who look there today', async () => {
  const [service, admin] = [await on.service(), await on.admin()];
  await service.run(insert, [`user:${ada}`, 'user', '192.0.2.7', project]);
  await service.run(insert, ['deploy', 'token', 'not an address', project]);
  await service.run(insert, ['deploy', 'token', null, null]);
  await service.run('begin');
  await service.run(insert, ['undone', 'token', null, project]);
  await service.run('rollback');
  const shown = await asUser(admin, { user: ada }, () =>
    admin.run(
      `select user_id, action, resource_type, resource_id, metadata, host(ip_address) as ip from public.audit_log
       where action like 'key.%' order by id`,
    ),
  );
  const same = { action: 'key.promoted', resource_type: 'key', resource_id: '1' };
  const metadata = { version: 2, outcome: 'succeeded', reason: 'because' };
  expect(shown).toEqual([
    { ...same, user_id: ada, metadata: { ...metadata, actor: `user:${ada}` }, ip: '192.0.2.7' },
    { ...same, user_id: nil, metadata: { ...metadata, actor: 'deploy' }, ip: null },
  ]);
});

test('a statement with hundreds of entries shows those of projects, in their order, by one insert', async () => {
  const [service, admin] = [await on.service(), await on.admin()];
  await service.run(
    `insert into keyring.audit_log (actor, principal_kind, action, outcome, project_id, subject)
     select 'many', 'worker', 'key.many', 'succeeded', case when n % 2 = 0 then $1::uuid end, 'key:' || n from generate_series(1, 250) n`,
    [project],
  );
  const shown = await admin.run<{ resource_id: string }>(
    `select resource_id from public.audit_log where action = 'key.many' order by id`,
  );
  expect(shown.map((row) => Number(row.resource_id))).toEqual(
    Array.from({ length: 125 }, (_, index) => 2 * (index + 1)),
  );
});

test('columns that MeshHook has not yet are left out, and a failure of its table undoes nothing of ours', async () => {
  const [service, owner, admin] = [await on.service(), await on.owner(), await on.admin()];
  const count = () => admin.value<number>(`select count(*)::int from public.audit_log where action = 'key.promoted'`);
  const ours = () => admin.value<number>(`select count(*)::int from keyring.audit_log where action = 'key.promoted'`);
  const [theirsBefore, oursBefore] = [await count(), await ours()];
  await owner.run('alter table public.audit_log drop column metadata, drop column ip_address, drop column resource_id');
  // Until it is told of its columns again.
  await service.run(insert, ['deploy', 'token', '192.0.2.7', project]);
  expect(await count()).toBe(theirsBefore);
  expect(await owner.value('select keyring.mirror_audit_log()')).toBe(true);
  expect(await owner.value('select current_user::text')).toBe('keyring_migrator');
  await service.run(insert, ['deploy', 'token', '192.0.2.7', project]);
  expect(await count()).toBe(theirsBefore + 1);
  await owner.run(`alter table public.audit_log add constraint none check (action <> 'key.promoted') not valid`);
  await service.run(insert, ['deploy', 'token', null, project]);
  await owner.run('alter table public.audit_log rename to audit_log_of_before');
  await service.run(insert, ['deploy', 'token', null, project]);
  expect(await ours()).toBe(oursBefore + 4);
});
