import { randomBytes, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  isolations,
  makeProject,
  outcome,
  rewrite,
  untilItWaits,
  useDatabase,
  wrapped,
  wrappingKey,
} from './support.ts';
import type { Session } from './support.ts';

const on = useDatabase();

/** A further wrapping key, wrapped by one root key and perhaps by others. */
async function addWrappingKey(by: Session, roots = 1): Promise<string> {
  const id = randomUUID();
  await by.run(
    `insert into keyring.wrapping_keys (id, version, fingerprint)
     select $1, coalesce(max(version), 0) + 1, $2 from keyring.wrapping_keys`,
    [id, randomBytes(32)],
  );
  for (let count = 0; count < roots; count++) {
    const [root] = await by.run<{ id: string }>(
      `insert into keyring.root_keys (uri, fingerprint) values ('test:', $1) returning id`,
      [randomBytes(16).toString('hex')],
    );
    await wrapUnder(by, id, root!.id);
  }
  return id;
}

const wrapUnder = (by: Session, wrappingKeyId: string, rootId: string) =>
  by.run('insert into keyring.wrapped_wrapping_keys (wrapping_key_id, root_key_id, wrapped) values ($1, $2, $3)', [
    wrappingKeyId,
    rootId,
    randomBytes(78),
  ]);

const movePointer = (by: Session, to: string) => by.run('update keyring.installation set wrapping_key_id = $1', [to]);

/** A project, whose keys are under the wrapping key that is primary now, and one that is not primary. Nothing else is there. */
async function twoWrappingKeys() {
  const [admin, service, other] = await Promise.all([on.admin(), on.service(), on.service()]);
  await admin.run('set session_replication_role = replica');
  const tables = ['upper_rotations', 'keyrings', 'encryption_keys', 'signing_keys', 'installation'];
  for (const table of [...tables, 'wrapped_wrapping_keys', 'wrapping_keys', 'root_keys']) {
    await admin.run(`delete from keyring.${table}`);
  }
  await admin.run('delete from public.projects');
  await admin.run('set session_replication_role = origin');
  const project = await makeProject(service);
  return { admin, service, other, project, next: await addWrappingKey(service) };
}

const insertKey = (by: Session, projectId: string, under: string, bytes = wrapped(under)) =>
  by.run(
    `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
     values ($1, $2, 9, $3, $4, $5)`,
    [randomUUID(), projectId, bytes, under, randomBytes(32)],
  );

const rewrap = (by: Session, keyId: string, to: string) =>
  by.run('update keyring.encryption_keys set wrapped_key = $2, wrapping_key_id = $3 where id = $1', [
    keyId,
    wrapped(to),
    to,
  ]);

// ── the fence ───────────────────────────────────────────────────────────────────────────────────────────────────────

test('every table whose rows are under a wrapping key is one that a rotation of it wraps anew, and that keeps it from being destroyed', async () => {
  const { admin } = await twoWrappingKeys();
  // One more here is one more in rewrap-store.ts, in guard_wrapping_key(), behind the fence, and in what a backup verifies.
  const tables = await admin.value<string[]>(
    `select array_agg(distinct c.conrelid::regclass::text order by c.conrelid::regclass::text) from pg_constraint c
     where c.contype = 'f' and c.confrelid = 'keyring.wrapping_keys'::regclass`,
  );
  expect(tables).toEqual([
    'keyring.encryption_keys',
    'keyring.installation',
    'keyring.signing_keys',
    'keyring.upper_rotations',
    'keyring.wrapped_wrapping_keys',
  ]);
  const fenced = await admin.value<string[]>(
    `select array_agg(distinct t.tgrelid::regclass::text order by t.tgrelid::regclass::text) from pg_trigger t
     where t.tgfoid = 'keyring.fence_wrapped_key()'::regprocedure and t.tgenabled = 'O'`,
  );
  expect(fenced).toEqual(['keyring.encryption_keys', 'keyring.signing_keys']);
});

test('a key is stored under the wrapping key that the pointer names, and under no other', async () => {
  const { service, project, next } = await twoWrappingKeys();
  expect(await outcome(insertKey(service, project.id, next))).toBe('MK009');
  expect(await outcome(rewrap(service, project.keys[0], next))).toBe('MK009');
  await movePointer(service, next);
  expect(await outcome(insertKey(service, project.id, wrappingKey))).toBe('MK009');
  expect(await outcome(rewrap(service, project.keys[0], next))).toBe('done');
  expect(await outcome(rewrap(service, project.keys[0], wrappingKey))).toBe('MK009');
  expect(await outcome(insertKey(service, project.id, next))).toBe('done');
});

test('new bytes under an old wrapping key are refused, too, and bytes that name another key than their row', async () => {
  const { service, project, next } = await twoWrappingKeys();
  await movePointer(service, next);
  const setBytes = 'update keyring.encryption_keys set wrapped_key = $2 where id = $1';
  expect(await outcome(service.run(setBytes, [project.keys[0], wrapped(wrappingKey)]))).toBe('MK009');
  expect(await outcome(service.run(setBytes, [project.keys[0], wrapped(next)]))).toBe('MK003');
  expect(await outcome(insertKey(service, project.id, next, wrapped(wrappingKey)))).toBe('MK003');
  expect(await outcome(insertKey(service, project.id, next, randomBytes(78)))).toBe('MK003');
});

test('a version under an old wrapping key is suspended, retired and destroyed as ever', async () => {
  const { service, project, next } = await twoWrappingKeys();
  await movePointer(service, next);
  const [, second] = project.keys;
  await service.run(`update keyring.encryption_keys set state = 'disabled', disabled_at = now() where id = $1`, [
    second,
  ]);
  await service.run('update keyring.encryption_keys set retention_until = now() where id = $1', [second]);
  await service.run(
    `update keyring.encryption_keys set state = 'destroyed', wrapped_key = null, destroyed_at = now() where id = $1`,
    [second],
  );
});

test.each(isolations)(
  'who makes a key under %s before the pointer moves has committed it by then',
  async (isolation) => {
    const { admin, service, other, project, next } = await twoWrappingKeys();
    await service.run(`begin isolation level ${isolation}`);
    await insertKey(service, project.id, wrappingKey);
    await other.run('begin');
    await other.run('select pg_advisory_xact_lock_shared(1)');
    const moving = outcome(
      (async () => {
        await other.run('select pg_advisory_xact_lock(keyring.wrapping_lock())');
        await movePointer(other, next);
        await other.run('commit');
      })(),
    );
    await untilItWaits(admin, other);
    await service.run('commit');
    expect(await moving).toBe('done');
  },
);

test.each(isolations)(
  'who begins under %s before the pointer moves cannot commit under the old one after',
  async (isolation) => {
    const { service, other, project, next } = await twoWrappingKeys();
    await service.run(`begin isolation level ${isolation}`);
    await service.run('select wrapping_key_id from keyring.installation');
    await movePointer(other, next);
    expect(await outcome(insertKey(service, project.id, wrappingKey))).toMatch(/^(MK009|40001)$/);
    await service.run('rollback');
    // Without the queue, as another program might: the row lock alone refuses it as well.
    await other.run('begin');
    await movePointer(other, wrappingKey);
    await service.run(`begin isolation level ${isolation}`);
    await service.run('select wrapping_key_id from keyring.installation');
    const inserting = outcome(insertKey(service, project.id, next));
    await untilItWaits(other, service);
    await other.run('commit');
    expect(await inserting).toMatch(/^(MK009|40001)$/);
  },
);

test('without its row lock the fence would let a stale key through under repeatable read', async () => {
  const { admin, service, other, project, next } = await twoWrappingKeys();
  const fence = 'keyring.fence_wrapped_key';
  const whole = await admin.value<string>('select pg_get_functiondef($1::regproc)', [fence]);
  await rewrite(admin, fence, (source) => source.replace('keyring.installation i for share', 'keyring.installation i'));
  await service.run('begin isolation level repeatable read');
  await service.run('select wrapping_key_id from keyring.installation');
  await movePointer(other, next);
  expect(await outcome(insertKey(service, project.id, wrappingKey))).toBe('done');
  await admin.run(whole);
});

test('who comes to make a key while a move of the pointer waits has to wait behind it: nobody can starve it', async () => {
  const { admin, service, other, project, next } = await twoWrappingKeys();
  const late = await on.service();
  await service.run('begin');
  await insertKey(service, project.id, wrappingKey);
  await other.run('begin');
  const moving = outcome(
    other.run('select pg_advisory_xact_lock(keyring.wrapping_lock())').then(() => movePointer(other, next)),
  );
  await untilItWaits(admin, other);
  const making = outcome(insertKey(late, project.id, wrappingKey));
  await untilItWaits(admin, late);
  await service.run('commit');
  expect(await moving).toBe('done');
  await other.run('commit');
  expect(await making).toBe('MK009');
});

test('without a pointer nothing is stored', async () => {
  const { admin, service, project } = await twoWrappingKeys();
  await admin.run('begin');
  await admin.run('set local session_replication_role = replica');
  await admin.run('delete from keyring.installation');
  await admin.run('set local session_replication_role = origin');
  expect(await outcome(insertKey(admin, project.id, wrappingKey))).toBe('MK009');
  await admin.run('rollback');
  expect(await outcome(insertKey(service, project.id, wrappingKey))).toBe('done');
});

test('a signing key changes its wrapping and nothing else, and only to the wrapping key of now', async () => {
  const { admin, service, next } = await twoWrappingKeys();
  const id = randomUUID();
  await service.run(
    `insert into keyring.signing_keys (id, version, public_key, wrapped_key, wrapping_key_id)
     select $1, coalesce(max(version), 0) + 1, $2, $3, $4 from keyring.signing_keys`,
    [id, randomBytes(32), wrapped(wrappingKey), wrappingKey],
  );
  const set = 'update keyring.signing_keys set wrapped_key = $2, wrapping_key_id = $3 where id = $1';
  expect(await outcome(service.run(set, [id, wrapped(next), next]))).toBe('MK009');
  await movePointer(service, next);
  expect(await outcome(service.run(set, [id, wrapped(next), next]))).toBe('done');
  expect(await outcome(service.run('update keyring.signing_keys set version = 99 where id = $1', [id]))).toBe('42501');
  expect(await outcome(admin.run('update keyring.signing_keys set version = 99 where id = $1', [id]))).toBe('MK004');
  expect(await outcome(admin.run('delete from keyring.signing_keys where id = $1', [id]))).toBe('MK007');
});

// ── states ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const states: Record<string, string> = {
  disabled: `state = 'disabled', disabled_at = now()`,
  compromised: `state = 'compromised', compromised_at = now()`,
  destroyed: `state = 'destroyed', destroyed_at = now()`,
  enabled: `state = 'enabled'`,
};
const setState = (by: Session, id: string, state: string) =>
  by.run(`update keyring.wrapping_keys set ${states[state]} where id = $1`, [id]);

test.each([
  ['disabled', 'enabled', 'MK005'],
  ['disabled', 'compromised', 'done'],
  ['disabled', 'destroyed', 'done'],
  ['compromised', 'enabled', 'MK005'],
  ['compromised', 'disabled', 'MK005'],
  ['compromised', 'destroyed', 'done'],
  ['destroyed', 'enabled', 'MK005'],
  ['destroyed', 'compromised', 'MK005'],
])('a wrapping key that is %s becomes %s: %s', async (from, to, expected) => {
  const { service, next } = await twoWrappingKeys();
  await setState(service, next, from);
  expect(await outcome(setState(service, next, to))).toBe(expected);
  expect(await outcome(movePointer(service, next))).toBe('MK005');
});

test('the primary wrapping key stays enabled, and its identity what it is', async () => {
  const { admin, service } = await twoWrappingKeys();
  for (const state of ['disabled', 'compromised', 'destroyed']) {
    expect(await outcome(setState(service, wrappingKey, state))).toBe('MK006');
  }
  expect(await outcome(admin.run(`update keyring.wrapping_keys set fingerprint = sha256('x')`))).toBe('MK004');
  expect(await outcome(admin.run('delete from keyring.installation'))).toBe('MK005');
  expect(await outcome(service.run('delete from keyring.wrapping_keys'))).toBe('42501');
  expect(await outcome(admin.run('delete from keyring.wrapping_keys'))).toBe('MK005');
  for (const table of ['root_keys', 'wrapping_keys', 'wrapped_wrapping_keys', 'installation', 'signing_keys']) {
    expect(await outcome(admin.run(`truncate keyring.${table} cascade`))).toBe('MK005');
  }
});

test('of a promote and a state that race for one wrapping key, one waits for the other and is refused', async () => {
  const { admin, service, other, next } = await twoWrappingKeys();
  await service.run('begin');
  await setState(service, next, 'disabled');
  const moving = outcome(movePointer(other, next));
  await untilItWaits(admin, other);
  await service.run('commit');
  expect(await moving).toBe('MK005');

  const third = await addWrappingKey(service);
  await service.run('begin');
  await movePointer(service, third);
  const disabling = outcome(setState(other, third, 'destroyed'));
  await untilItWaits(admin, other);
  await service.run('commit');
  expect(await disabling).toBe('MK006');
});

test('a wrapping key that something is under is not destroyed: nor one that a restored row in flight names', async () => {
  const { admin, service, other, next } = await twoWrappingKeys();
  await movePointer(service, next);
  expect(await outcome(setState(service, wrappingKey, 'destroyed'))).toBe('MK006');
  await admin.run('delete from public.projects');
  const owner = await on.owner();
  const again = randomUUID();
  await service.run('insert into public.projects (id, owner, name) values ($1, $1, $2)', [again, 'restored']);
  await owner.run('begin');
  await owner.run(`select keyring.open_restore_door('ticket')`);
  await owner.run('set role keyring_owner');
  await insertKey(owner, again, wrappingKey);
  const destroying = outcome(setState(other, wrappingKey, 'destroyed'));
  await untilItWaits(admin, other);
  await owner.run('commit');
  expect(await destroying).toBe('MK006');
});

test('a row that comes by the door while its wrapping key is being destroyed is refused', async () => {
  const { admin, service, other, next } = await twoWrappingKeys();
  await movePointer(service, next);
  await admin.run('delete from public.projects');
  const again = randomUUID();
  await service.run('insert into public.projects (id, owner, name) values ($1, $1, $2)', [again, 'restored']);
  const owner = await on.owner();
  await owner.run('begin');
  await owner.run(`select keyring.open_restore_door('ticket')`);
  await owner.run('set role keyring_owner');
  await other.run('begin');
  await setState(other, wrappingKey, 'destroyed');
  const restoring = outcome(insertKey(owner, again, wrappingKey));
  await untilItWaits(admin, owner);
  await other.run('commit');
  expect(await restoring).toBe('MK006');
});

test('destroying erases every copy, and none comes back', async () => {
  const { service, next } = await twoWrappingKeys();
  const copies = 'select root_key_id from keyring.wrapped_wrapping_keys where wrapping_key_id = $1';
  const [copy] = await service.run<{ root_key_id: string }>(copies, [next]);
  await setState(service, next, 'destroyed');
  expect(await service.run(copies, [next])).toEqual([]);
  expect(await outcome(wrapUnder(service, next, copy!.root_key_id))).toBe('MK005');
});

// ── the ways in ─────────────────────────────────────────────────────────────────────────────────────────────────────

test('the last enabled way into a wrapping key never goes: neither its copy, nor the root key', async () => {
  const { admin, service, other, next } = await twoWrappingKeys();
  // The wrapping key of the support has no copy at all, and would stand in the way of every root key.
  await movePointer(service, next);
  await admin.run(`delete from public.projects`);
  await setState(service, wrappingKey, 'destroyed');
  const [first] = await service.run<{ root_key_id: string }>(
    'select root_key_id from keyring.wrapped_wrapping_keys where wrapping_key_id = $1',
    [next],
  );
  const drop = (by: Session, rootId: string) =>
    by.run('delete from keyring.wrapped_wrapping_keys where wrapping_key_id = $1 and root_key_id = $2', [next, rootId]);
  const disable = (by: Session, rootId: string) =>
    by.run(`update keyring.root_keys set state = 'disabled' where id = $1`, [rootId]);
  expect(await outcome(drop(service, first!.root_key_id))).toBe('MK006');
  expect(await outcome(disable(service, first!.root_key_id))).toBe('MK006');

  const [second] = await service.run<{ id: string }>(
    `insert into keyring.root_keys (uri, fingerprint) values ('test:', $1) returning id`,
    [randomBytes(16).toString('hex')],
  );
  await wrapUnder(service, next, second!.id);
  // Two that race, each for the other's reason: the second waits, and is refused.
  await service.run('begin');
  await disable(service, first!.root_key_id);
  const disabling = outcome(disable(other, second!.id));
  await untilItWaits(admin, other);
  await service.run('commit');
  expect(await disabling).toBe('MK006');
  expect(await outcome(drop(service, second!.id))).toBe('MK006');
  expect(await outcome(drop(service, first!.root_key_id))).toBe('done');
  expect(await outcome(wrapUnder(service, next, first!.root_key_id))).toBe('MK005');
});

test('a copy never changes, nor does a root key’s identity; and compromised is for good', async () => {
  const { admin, service } = await twoWrappingKeys();
  expect(await outcome(admin.run(`update keyring.wrapped_wrapping_keys set wrapped = sha256('x')`))).toBe('MK004');
  expect(await outcome(admin.run(`update keyring.root_keys set fingerprint = repeat('a', 32)`))).toBe('MK004');
  expect(await outcome(admin.run('delete from keyring.root_keys'))).toBe('MK005');
  const [root] = await service.run<{ id: string }>(
    `insert into keyring.root_keys (uri, fingerprint, state) values ('test:', $1, 'compromised') returning id`,
    [randomBytes(16).toString('hex')],
  );
  for (const state of ['enabled', 'disabled']) {
    const set = service.run('update keyring.root_keys set state = $2 where id = $1', [root!.id, state]);
    expect(await outcome(set)).toBe('MK005');
  }
});

// ── rotations ───────────────────────────────────────────────────────────────────────────────────────────────────────

const request = (by: Session, leaked = false) =>
  by
    .run<{ id: string }>(
      `insert into keyring.upper_rotations (id, kind, from_wrapping_key_id, requested_by, leaked)
       select gen_random_uuid(), 'wrapping', wrapping_key_id, 'test', $1 from keyring.installation returning id`,
      [leaked],
    )
    .then((rows) => rows[0]!.id);
const move = (by: Session, id: string, set: string) =>
  by.run(`update keyring.upper_rotations set ${set} where id = $1`, [id]);
const ending = (state: string) => `state = '${state}', finished_at = now()`;

test('one rotation is open at a time, of a wrapping or of a root key', async () => {
  const { service } = await twoWrappingKeys();
  await addWrappingKey(service);
  const id = await request(service);
  expect(await outcome(request(service))).toBe('23505');
  const roots = await service.run<{ id: string }>('select id from keyring.root_keys limit 2');
  const rootRotation = service.run(
    `insert into keyring.upper_rotations (id, kind, from_root_key_id, to_root_key_id, requested_by)
     values (gen_random_uuid(), 'root', $1, $2, 'test')`,
    [roots[0]?.id, roots[1]?.id],
  );
  expect(await outcome(rootRotation)).toBe('23505');
  await move(service, id, ending('canceled'));
  expect(await outcome(move(service, id, `state = 'requested', finished_at = null`))).toBe('MK005');
  await move(service, await request(service), ending('canceled'));
});

test('a rotation goes its way, and no other; its ends are for good; there is no way back to what leaked', async () => {
  const { admin, service, next } = await twoWrappingKeys();
  const id = await request(service);
  for (const state of ['rewrapping', 'verifying', 'blocked']) {
    expect(await outcome(move(service, id, `state = '${state}', to_wrapping_key_id = '${next}'`))).toBe('MK005');
  }
  expect(await outcome(move(service, id, ending('completed')))).toBe('MK005');
  expect(await outcome(move(service, id, `state = 'prepared'`))).toBe('23514');
  await move(service, id, `state = 'prepared', to_wrapping_key_id = '${next}'`);
  expect(await outcome(move(service, id, `to_wrapping_key_id = null`))).toBe('MK004');
  await move(service, id, `state = 'rewrapping'`);
  expect(await outcome(move(service, id, ending('canceled')))).toBe('MK005');
  await move(service, id, `state = 'rolling_back', direction = 'back'`);
  expect(await outcome(move(service, id, `state = 'rewrapping'`))).toBe('MK005');
  expect(await outcome(move(service, id, `direction = 'forward'`))).toBe('MK005');
  await move(service, id, ending('rolled_back'));
  expect(await outcome(admin.run('delete from keyring.upper_rotations'))).toBe('MK007');

  const leaked = await request(service, true);
  await move(service, leaked, `state = 'prepared', to_wrapping_key_id = '${next}'`);
  await move(service, leaked, `state = 'rewrapping'`);
  expect(await outcome(move(service, leaked, `state = 'rolling_back', direction = 'back'`))).toBe('MK005');
  await move(service, leaked, `state = 'verifying'`);
  await move(service, leaked, ending('completed'));
});
