import { randomBytes, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { isolations, outcome, rewrite, untilItWaits, useDatabase, wrapped, wrappingKey } from './support.ts';
import { insertKey, movePointer, rewrap, twoWrappingKeysOn } from './wrapping-support.ts';

// No key is stored under a wrapping key that the pointer does not name.
const on = useDatabase();
const twoWrappingKeys = () => twoWrappingKeysOn(on);

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
     where t.tgfoid = 'keyring.fence_wrapped_keys()'::regprocedure and t.tgenabled = 'O'`,
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

test('a wrapping key that this database never knew, as after a restore, is stale like any other', async () => {
  const { service, project } = await twoWrappingKeys();
  const unknown = randomUUID();
  expect(await outcome(insertKey(service, project.id, unknown))).toBe('MK009');
  expect(await outcome(rewrap(service, project.keys[0], unknown))).toBe('MK009');
});

test('a statement that stores one stale key among many stores none of them', async () => {
  const { service, project, next } = await twoWrappingKeys();
  const insertTwo = (under: readonly string[], bytes = under.map((id) => wrapped(id))) =>
    service.run(
      `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
       select gen_random_uuid(), $1, 100 + n, bytes, under, $4
       from unnest($2::bytea[], $3::uuid[]) with ordinality as u (bytes, under, n)`,
      [project.id, bytes, under, randomBytes(32)],
    );
  const rewrapTwo = (under: readonly string[], bytes = under.map((id) => wrapped(id))) =>
    service.run(
      `update keyring.encryption_keys k set wrapped_key = bytes, wrapping_key_id = under
       from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as u (id, bytes, under) where k.id = u.id`,
      [project.keys, bytes, under],
    );
  for (const store of [insertTwo, rewrapTwo]) {
    expect(await outcome(store([wrappingKey, next]))).toBe('MK009');
    expect(await outcome(store([wrappingKey, wrappingKey], [wrapped(wrappingKey), wrapped(next)]))).toBe('MK003');
    expect(await outcome(store([wrappingKey, wrappingKey]))).toBe('done');
  }
});

test.each([
  [
    'an upsert',
    `on conflict (id) do update set wrapped_key = excluded.wrapped_key, wrapping_key_id = excluded.wrapping_key_id`,
  ],
  ['an upsert of the bytes alone', `on conflict (id) do update set wrapped_key = excluded.wrapped_key`],
])('%s passes the fence like an update', async (_, onConflict) => {
  const { service, project, next } = await twoWrappingKeys();
  const upsert = (id: string, under: string) =>
    service.run(
      `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
       values ($1, $2, 9, $3, $4, $5) ${onConflict}`,
      [id, project.id, wrapped(under), under, randomBytes(32)],
    );
  expect(await outcome(upsert(project.keys[0], next))).toMatch(/^MK00[39]$/);
  expect(await outcome(upsert(randomUUID(), next))).toBe('MK009');
  expect(await outcome(upsert(project.keys[0], wrappingKey))).toBe('done');
});

test('what another trigger makes of a key is what the fence looks at', async () => {
  const { admin, service, project, next } = await twoWrappingKeys();
  await admin.run(`create function public.meddle() returns trigger language plpgsql as $$
    begin new.wrapping_key_id := '${next}'; new.wrapped_key := decode('${wrapped(next).toString('hex')}', 'hex'); return new; end $$`);
  // Last by its name among those that can change a row.
  await admin.run(`create trigger zzz_meddle before insert or update on keyring.encryption_keys
    for each row execute function public.meddle()`);
  try {
    expect(await outcome(insertKey(service, project.id, wrappingKey))).toBe('MK009');
    expect(await outcome(rewrap(service, project.keys[0], wrappingKey))).toBe('MK009');
  } finally {
    await admin.run('drop function public.meddle cascade');
  }
});

test('who changes anything else of a key waits in no queue', async () => {
  const { service, other, project } = await twoWrappingKeys();
  await other.run('begin');
  await other.run('select pg_advisory_xact_lock(keyring.wrapping_lock())');
  await service.run(`set statement_timeout = '10s'`);
  await service.run('update keyring.encryption_keys set disabled_at = disabled_at where id = $1', [project.keys[1]]);
  await service.run('update keyring.encryption_keys set wrapped_key = wrapped_key where id = $1', [project.keys[1]]);
  await service.run('update keyring.keyrings set primary_key_id = $2 where project_id = $1', [
    project.id,
    project.keys[1],
  ]);
  await other.run('rollback');
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
  const fence = 'keyring.fence_wrapped_keys';
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
  // Another version: for one of the same number it would wait in the index first.
  const making = outcome(insertKey(late, project.id, wrappingKey, wrapped(wrappingKey), 10));
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
