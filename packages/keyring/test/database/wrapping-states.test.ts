import { randomBytes, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { outcome, untilItWaits, useDatabase, wrappingKey } from './support.ts';
import type { Session } from './support.ts';
import { addWrappingKey, insertKey, movePointer, wrapUnder, twoWrappingKeysOn } from './wrapping-support.ts';

// What may become of wrapping keys, of the ways into them, and of their rotations.
const on = useDatabase();
const twoWrappingKeys = () => twoWrappingKeysOn(on);

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
