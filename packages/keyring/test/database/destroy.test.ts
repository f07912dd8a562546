import { describe, expect, test } from 'vitest';
import {
  addVersion,
  destroy,
  envelope,
  makeProject,
  movePointer,
  outcome,
  promote,
  putSecret,
  reencrypt,
  retire,
  rewrite,
  rowsUnder,
  untilItWaits,
  useDatabase,
  type Project,
  type Session,
} from './support.ts';

const on = useDatabase();
const fence = 'keyring.fence_secrets__value';

/** A project whose version 1 was retired by a finished rotation: nothing names it, and its window is over. */
async function retired(by: Session): Promise<Project> {
  const project = await makeProject(by);
  await promote(by, project, ...project.keys);
  await retire(by, project.keys[0]);
  return project;
}

const stateOf = (by: Session, key: string) =>
  by.value<string>('select state from keyring.encryption_keys where id = $1', [key]);

test('a retired version that nothing names is erased', async () => {
  const service = await on.service();
  const project = await retired(service);
  await destroy(service, project.keys[0]);
  const rows = await service.run(
    `select state, wrapped_key, octet_length(fingerprint) as fingerprint, destroyed_at is not null as dated
     from keyring.encryption_keys where id = $1`,
    [project.keys[0]],
  );
  expect(rows).toEqual([{ state: 'destroyed', wrapped_key: null, fingerprint: 32, dated: true }]);
});

describe('refused is the destruction of a version', () => {
  test('that is primary', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
  });

  test('that a row names', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await promote(service, project, ...project.keys);
    await retire(service, project.keys[0]);
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
  });

  test('that was used, and that no finished rotation retired', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    await promote(service, project, ...project.keys);
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK008');
  });

  test('inside its retention, which nothing shortens', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const [v1, v2] = project.keys;
    await promote(service, project, v1, v2);
    await retire(service, v1, '30 days');
    expect(await outcome(destroy(service, v1))).toBe('MK008');
    expect(await outcome(retire(service, v1, '29 days'))).toBe('MK008');
    const clear = service.run('update keyring.encryption_keys set retention_until = null where id = $1', [v1]);
    expect(await outcome(clear)).toBe('MK008');
    const both = service.run(
      `update keyring.encryption_keys set retention_until = now(), state = 'destroyed', wrapped_key = null,
         destroyed_at = now() where id = $1`,
      [v1],
    );
    expect(await outcome(both)).toBe('MK008');
    expect(await outcome(retire(service, v1, '31 days'))).toBe('done');
  });

  test.each(['repeatable read', 'serializable'])('under %s, whose snapshot could miss a row', async (isolation) => {
    const service = await on.service();
    const project = await retired(service);
    await service.run(`begin isolation level ${isolation}`);
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK005');
  });

  test('that a row of a second registered table names', async () => {
    const [owner, service] = await Promise.all([on.owner(), on.service()]);
    await owner.run(`create table public.second (id uuid primary key default gen_random_uuid(),
      project_id uuid not null references public.projects on delete cascade, token bytea not null, key_id uuid)`);
    await owner.run(`select keyring.register_encrypted_column('second.token', 'public.second', 'token', 'key_id')`);
    const project = await makeProject(service);
    const [v1, v2] = project.keys;
    await service.run('insert into public.second (project_id, token, key_id) values ($1, $2, $3)', [
      project.id,
      envelope(v1),
      v1,
    ]);
    await promote(service, project, v1, v2);
    await retire(service, v1);
    expect(await outcome(destroy(service, v1))).toBe('MK006');
    await service.run('update public.second set token = $1, key_id = $2', [envelope(v2), v2]);
    expect(await outcome(destroy(service, v1))).toBe('done');
    await owner.run(`delete from keyring.encrypted_columns where label = 'second.token'`);
    await owner.run('drop table public.second');
  });

  test('while a column that names keys is not registered', async () => {
    const [owner, service] = await Promise.all([on.owner(), on.service()]);
    const project = await retired(service);
    await owner.run(`create table public.forgotten (id uuid primary key, project_id uuid, key_id uuid,
      foreign key (project_id, key_id) references keyring.encryption_keys (project_id, id))`);
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
    await owner.run('drop table public.forgotten');
    expect(await outcome(destroy(service, project.keys[0]))).toBe('done');
  });

  test('while policies hide rows from the count', async () => {
    const [owner, service] = await Promise.all([on.owner(), on.service()]);
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await promote(service, project, ...project.keys);
    await retire(service, project.keys[0]);
    await owner.run('create policy hides on public.secrets as restrictive for select using (false)');
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
    await owner.run('drop policy hides on public.secrets');
    await owner.run('drop policy keyring_owner on public.secrets');
    expect(await outcome(destroy(service, project.keys[0]))).toBe('MK006');
    await owner.run('create policy keyring_owner on public.secrets for select to keyring_owner using (true)');
  });
});

describe('of several versions by one statement', () => {
  const erasing = `state = 'destroyed', wrapped_key = null, destroyed_at = clock_timestamp()`;
  const destroyAll = (by: Session, ...keys: string[]) =>
    by.run(`update keyring.encryption_keys set ${erasing} where id = any ($1)`, [keys]);

  test('all go, or none where one may not', async () => {
    const service = await on.service();
    const [one, other, third] = [await retired(service), await retired(service), await makeProject(service)];
    expect(await outcome(destroyAll(service, one.keys[0], other.keys[0], third.keys[0]))).toBe('MK006');
    expect(await stateOf(service, one.keys[0])).toBe('enabled');
    expect(await outcome(destroyAll(service, one.keys[0], other.keys[0]))).toBe('done');
    expect(await stateOf(service, one.keys[0])).toBe('destroyed');
  });

  test.each([
    [
      'an upsert',
      `insert into keyring.encryption_keys as k (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
       select o.id, o.project_id, o.version, o.wrapped_key, o.wrapping_key_id, o.fingerprint from keyring.encryption_keys o where o.id = $1
       on conflict (id) do update set ${erasing}`,
    ],
    [
      'a merge',
      `merge into keyring.encryption_keys k using (select $1::uuid as id) o on o.id = k.id
       when matched then update set ${erasing}`,
    ],
    [
      'an update of a row',
      `update keyring.encryption_keys set (destroyed_at, state, wrapped_key) =
       (select clock_timestamp(), 'destroyed', null::bytea) where id = $1`,
    ],
  ])('the catalog is asked, too, when it is done by %s', async (_, text) => {
    const [owner, service] = await Promise.all([on.owner(), on.service()]);
    const project = await retired(service);
    await owner.run(`create table public.forgotten (id uuid primary key, project_id uuid, key_id uuid,
      foreign key (project_id, key_id) references keyring.encryption_keys (project_id, id))`);
    expect(await outcome(service.run(text, [project.keys[0]]))).toBe('MK006');
    await owner.run('drop table public.forgotten');
    expect(await outcome(service.run(text, [project.keys[0]]))).toBe('done');
  });

  test('and a change of the catalog between its two questions is seen by the second', async () => {
    const [owner, service, holder, admin] = await Promise.all([on.owner(), on.service(), on.service(), on.admin()]);
    const project = await makeProject(service);
    await putSecret(service, project, project.keys[0]);
    await promote(service, project, ...project.keys);
    await retire(service, project.keys[0]);
    const whileItWaits = async (): Promise<string> => {
      await holder.run('begin');
      await holder.run('select from keyring.encryption_keys where id = $1 for key share', [project.keys[0]]);
      const destroying = outcome(destroyAll(service, project.keys[0]));
      await untilItWaits(admin, service);
      await owner.run('create policy hides on public.secrets as restrictive for select using (false)');
      await holder.run('commit');
      const ended = await destroying;
      await owner.run('drop policy hides on public.secrets');
      return ended;
    };
    expect(await whileItWaits()).toBe('MK006');
    expect(await stateOf(admin, project.keys[0])).toBe('enabled');
    await admin.run('alter table keyring.encryption_keys disable trigger guard_key_ends_after');
    // What it is for: the count saw no row.
    expect(await whileItWaits()).toBe('done');
    await admin.run('alter table keyring.encryption_keys enable trigger guard_key_ends_after');
  });
});

describe('an insert in flight that names the version', () => {
  /** The fence lets nobody write under version 1: a restore, with triggers off, can. The foreign key stays. */
  async function inFlight(writer: Session, admin: Session, project: Project): Promise<void> {
    const whole = await admin.value<string>('select pg_get_functiondef($1::regproc)', [fence]);
    await rewrite(admin, fence, (source) => source.replace(/\bbegin\b/i, 'begin return new;'));
    await writer.run('begin');
    await putSecret(writer, project, project.keys[0]);
    await admin.run(whole);
  }

  test('makes destroy wait, and refuses it once it commits', async () => {
    const [writer, destroyer, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await retired(destroyer);
    await inFlight(writer, admin, project);
    const destroying = outcome(destroy(destroyer, project.keys[0]));
    await untilItWaits(admin, destroyer);
    await writer.run('commit');
    expect(await destroying).toBe('MK006');
    expect(await stateOf(admin, project.keys[0])).toBe('enabled');
  });

  test('lets destroy through once it rolls back', async () => {
    const [writer, destroyer, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await retired(destroyer);
    await inFlight(writer, admin, project);
    const destroying = outcome(destroy(destroyer, project.keys[0]));
    await untilItWaits(admin, destroyer);
    await writer.run('rollback');
    expect(await destroying).toBe('done');
  });

  // "A foreign key's `key share` does not conflict with an `update … set state = 'destroyed'`."
  test('would end up under a destroyed version if destroy did not take the row for update', async () => {
    const [writer, destroyer, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await retired(destroyer);
    const guard = await admin.value<string>(`select pg_get_functiondef('keyring.guard_encryption_key'::regproc)`);
    await rewrite(admin, 'keyring.guard_encryption_key', (source) =>
      source.replace(/perform from keyring\.encryption_keys k where k\.id = old\.id for update;/, ''),
    );
    await inFlight(writer, admin, project);
    await destroy(destroyer, project.keys[0]);
    await writer.run('commit');
    await admin.run(guard);
    expect(await stateOf(admin, project.keys[0])).toBe('destroyed');
    expect(await rowsUnder(admin, project, project.keys[0])).toBe(1);
  });
});

describe('a promote and a destroy of the same version', () => {
  test('leave it primary when the promote was first', async () => {
    const [promoter, destroyer, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(admin);
    await promoter.run('begin');
    await movePointer(promoter, project, ...project.keys);
    const destroying = outcome(destroy(destroyer, project.keys[1]));
    await untilItWaits(admin, destroyer);
    await promoter.run('commit');
    expect(await destroying).toBe('MK006');
  });

  test.each(['read committed', 'repeatable read'])(
    'leave it destroyed when the destroy was first, a promote under %s',
    async (isolation) => {
      const [promoter, destroyer, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
      const project = await makeProject(admin);
      await destroyer.run('begin');
      await destroy(destroyer, project.keys[1]);
      await promoter.run(`begin isolation level ${isolation}`);
      const promoting = outcome(movePointer(promoter, project, ...project.keys));
      await untilItWaits(admin, promoter);
      await destroyer.run('commit');
      expect(await promoting).toMatch(/MK005|40001/);
      await promoter.run('rollback');
      expect(await stateOf(admin, project.keys[1])).toBe('destroyed');
    },
  );

  test('a version that is disabled while it is promoted ends as one or the other', async () => {
    const [promoter, other, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(admin);
    await promoter.run('begin');
    await movePointer(promoter, project, ...project.keys);
    const disabling = outcome(
      other.run(`update keyring.encryption_keys set state = 'disabled', disabled_at = now() where id = $1`, [
        project.keys[1],
      ]),
    );
    await untilItWaits(admin, other);
    await promoter.run('commit');
    expect(await disabling).toBe('MK006');
  });
});

describe('for good', () => {
  const change = (by: Session, key: string, how: string) =>
    outcome(by.run(`update keyring.encryption_keys set ${how} where id = $1`, [key]));

  test('destroyed: nothing of the version changes any more, nor does it come back', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await retired(service);
    const key = project.keys[0];
    await destroy(service, key);
    expect(
      await change(service, key, `state = 'enabled', wrapped_key = '\\x${'00'.repeat(78)}', destroyed_at = null`),
    ).toBe('MK005');
    expect(await change(admin, key, 'deactivated_at = now()')).toBe('MK005');
  });

  test('compromised: never enabled, undated or promoted again, and destroyed like any other', async () => {
    const service = await on.service();
    const project = await retired(service);
    const key = project.keys[0];
    expect(await change(service, key, `state = 'compromised', compromised_at = now()`)).toBe('done');
    expect(await change(service, key, `state = 'enabled'`)).toBe('MK005');
    expect(await change(service, key, `state = 'disabled', disabled_at = now()`)).toBe('MK005');
    expect(await change(service, key, 'compromised_at = null')).toBe('MK005');
    expect(await outcome(promote(service, project, project.keys[1], key))).toBe('MK005');
    await service.run('rollback');
    expect(await outcome(destroy(service, key))).toBe('done');
  });

  test('a primary version is not marked compromised in passing, which would leave a project stuck on it', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const [v1] = project.keys;
    expect(await change(service, v1, 'compromised_at = now()')).toBe('23514');
    expect(await change(service, v1, `state = 'compromised', compromised_at = now()`)).toBe('MK006');
    await service.run('begin');
    await movePointer(service, project, ...project.keys);
    expect(await change(service, v1, `state = 'compromised', compromised_at = now()`)).toBe('done');
    await service.run('commit');
  });

  test('the identity of a version: id, project, number, fingerprint', async () => {
    const [service, admin] = await Promise.all([on.service(), on.admin()]);
    const project = await makeProject(service);
    for (const how of ['id = gen_random_uuid()', 'version = 9', `fingerprint = '\\x${'00'.repeat(32)}'`]) {
      expect(await change(admin, project.keys[1], how)).toBe('MK004');
      expect(await change(service, project.keys[1], how)).toBe('42501');
    }
  });

  test('a version is never deleted, and none is truncated away', async () => {
    const [service, admin, owner] = await Promise.all([on.service(), on.admin(), on.owner()]);
    const project = await makeProject(service);
    const remove = (by: Session) =>
      outcome(by.run('delete from keyring.encryption_keys where id = $1', [project.keys[1]]));
    expect(await remove(service)).toBe('42501');
    expect(await remove(owner)).toBe('MK005');
    expect(await remove(admin)).toBe('MK005');
    expect(await outcome(admin.run('truncate keyring.encryption_keys cascade'))).toBe('MK005');
    expect(await outcome(admin.run('truncate public.projects cascade'))).toBe('MK005');
    expect(await outcome(admin.run('delete from keyring.keyrings where project_id = $1', [project.id]))).toBe('MK005');
  });

  test('a version can be disabled and enabled again', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    expect(await change(service, project.keys[1], `state = 'disabled', disabled_at = now()`)).toBe('done');
    expect(await change(service, project.keys[1], `state = 'enabled'`)).toBe('done');
  });
});

test('a version that a row names is not suspended, and no row is moved onto a suspended one', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const project = await makeProject(service, 2);
  const [v1, v2] = project.keys;
  const row = await putSecret(service, project, v1);
  await promote(service, project, v1, v2);
  const suspend = (): Promise<unknown> =>
    service.run(`update keyring.encryption_keys set state = 'disabled', disabled_at = now() where id = $1`, [v1]);
  expect(await outcome(suspend())).toBe('MK006');
  await reencrypt(service, row, v2);
  await suspend();
  expect(await outcome(reencrypt(service, row, v1))).toBe('MK001');
  expect(await rowsUnder(admin, project, v2)).toBe(1);
  expect(await addVersion(service, project.id, 3)).toBeTypeOf('string');
});
