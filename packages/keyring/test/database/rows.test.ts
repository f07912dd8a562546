import { describe, expect, test } from 'vitest';
import { envelope, makeProject, outcome, promote, putSecret, reencrypt, useDatabase, type Session } from './support.ts';

const on = useDatabase();

describe('the envelope of a row', () => {
  const insert = (by: Session, project: { id: string }, bytes: Buffer, keyId: string | null) =>
    outcome(
      by.run(
        `insert into public.secrets (project_id, key, value_encrypted, encryption_key_id)
         values ($1, gen_random_uuid()::text, $2, $3)`,
        [project.id, bytes, keyId],
      ),
    );

  test('names the key of its row, to the bit', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const key = project.keys[0];
    expect(await insert(service, project, envelope(key), key)).toBe('done');
    expect(await insert(service, project, envelope(project.keys[1]), key)).toBe('MK003');
    for (let byte = 2; byte < 18; byte++) {
      const flipped = envelope(key);
      flipped[byte]! ^= 1;
      expect(await insert(service, project, flipped, key)).toBe('MK003');
    }
  });

  test('has a known version and algorithm, and a length that an envelope can have', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const key = project.keys[0];
    const header = envelope(key).subarray(0, 30);
    const long = (length: number) => Buffer.concat([header, Buffer.alloc(length - header.length)]);
    for (const [position, value] of [
      [0, 0],
      [0, 2],
      [1, 0],
      [1, 2],
    ] as const) {
      const strange = envelope(key);
      strange[position] = value;
      expect(await insert(service, project, strange, key)).toBe('MK003');
    }
    expect(await insert(service, project, Buffer.alloc(0), key)).toBe('MK003');
    expect(await insert(service, project, long(45), key)).toBe('MK003');
    expect(await insert(service, project, long(46), key)).toBe('done');
    expect(await insert(service, project, long(65_582), key)).toBe('done');
    expect(await insert(service, project, long(65_583), key)).toBe('MK003');
  });

  test('stays with its key id: neither is changed alone', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const [v1, v2] = project.keys;
    const row = await putSecret(service, project, v1);
    await promote(service, project, v1, v2);
    const keyAlone = service.run('update public.secrets set encryption_key_id = $2 where id = $1', [row, v2]);
    expect(await outcome(keyAlone)).toBe('MK003');
    const bytesAlone = service.run('update public.secrets set value_encrypted = $2 where id = $1', [row, envelope(v2)]);
    expect(await outcome(bytesAlone)).toBe('MK003');
  });

  test('is never plaintext: not inserted, not written over a ciphertext, not disguised by leaving the key id out', async () => {
    const [service, owner, admin] = await Promise.all([on.service(), on.owner(), on.admin()]);
    const project = await makeProject(service);
    const row = await putSecret(service, project, project.keys[0]);
    for (const by of [service, admin]) {
      expect(await insert(by, project, Buffer.from('sk_live_1'), null)).toBe('MK002');
      expect(await insert(by, project, envelope(project.keys[0]), null)).toBe('MK002');
      expect(await insert(by, project, Buffer.from('sk_live_1'), project.keys[0])).toBe('MK003');
      const over = by.run(
        `update public.secrets set value_encrypted = 'sk_live_1', encryption_key_id = null where id = $1`,
        [row],
      );
      expect(await outcome(over)).toBe('MK002');
    }
    expect(await insert(owner, project, Buffer.from('sk_live_1'), null)).toBe('MK002');
  });
});

test('row id and project of a secret never change', async () => {
  const service = await on.service();
  const [project, other] = [await makeProject(service), await makeProject(service)];
  const row = await putSecret(service, project, project.keys[0]);
  expect(await outcome(service.run('update public.secrets set id = gen_random_uuid() where id = $1', [row]))).toBe(
    'MK004',
  );
  const moved = service.run(
    'update public.secrets set project_id = $2, value_encrypted = $3, encryption_key_id = $4 where id = $1',
    [row, other.id, envelope(other.keys[0]), other.keys[0]],
  );
  expect(await outcome(moved)).toBe('MK004');
});

describe('a secret not swept yet', () => {
  test('can be renamed, touched and deleted', async () => {
    const service = await on.service();
    const project = await makeProject(service);
    const row = await putSecret(service, project, project.keys[0]);
    await promote(service, project, ...project.keys);
    expect(await outcome(service.run(`update public.secrets set key = 'new name' where id = $1`, [row]))).toBe('done');
    expect(await outcome(service.run('update public.secrets set id = id where id = $1', [row]))).toBe('done');
    expect(await outcome(service.run('delete from public.secrets where id = $1', [row]))).toBe('done');
  });
});

describe('the times of a secret', () => {
  const old = new Date('2020-01-01T00:00:00Z');
  async function secret(service: Session) {
    const project = await makeProject(service);
    const row = await putSecret(service, project, project.keys[0]);
    // As superuser without triggers: the times of long ago.
    const admin = await on.admin();
    await admin.run('set session_replication_role = replica');
    await admin.run('update public.secrets set updated_at = $2, value_written_at = $2 where id = $1', [row, old]);
    const updated = async () => {
      const [times] = await service.run<{ updated_at: Date; value_written_at: Date }>(
        'select updated_at, value_written_at from public.secrets where id = $1',
        [row],
      );
      return { updated: times!.updated_at > old, written: times!.value_written_at > old };
    };
    return { project, row, updated };
  }

  test('stay when it is re-encrypted under another version, and when the sweep turns back', async () => {
    const service = await on.service();
    const { project, row, updated } = await secret(service);
    const [v1, v2] = project.keys;
    await promote(service, project, v1, v2);
    await reencrypt(service, row, v2);
    await promote(service, project, v2, v1);
    await reencrypt(service, row, v1);
    expect(await updated()).toEqual({ updated: false, written: false });
  });

  test('move with a new name: updated, its value as old as before', async () => {
    const service = await on.service();
    const { row, updated } = await secret(service);
    await service.run(`update public.secrets set key = 'new name' where id = $1`, [row]);
    expect(await updated()).toEqual({ updated: true, written: false });
  });

  test.each([0, 1])('move with a new value, under the same version or the next (%i later)', async (later) => {
    const service = await on.service();
    const { project, row, updated } = await secret(service);
    const key = project.keys[later]!;
    if (later > 0) await promote(service, project, ...project.keys);
    await service.run(
      `update public.secrets set value_encrypted = $2, encryption_key_id = $3, value_written_at = clock_timestamp()
       where id = $1`,
      [row, envelope(key), key],
    );
    expect(await updated()).toEqual({ updated: true, written: true });
  });
});

test('re-encrypting changes no index (HOT): none holds the key id, and pages have room', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const indexed = await admin.run(
    `select i.indexrelid::regclass::text as index from pg_index i
     join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = 'public.secrets'::regclass and a.attname in ('encryption_key_id', 'value_encrypted')`,
  );
  expect(indexed).toEqual([]);
  const project = await makeProject(service);
  const [v1, v2] = project.keys;
  const rows: string[] = [];
  for (let n = 0; n < 5; n++) rows.push(await putSecret(service, project, v1));
  await promote(service, project, v1, v2);
  const counters = `select pg_stat_get_xact_tuples_updated(c) as updated, pg_stat_get_xact_tuples_hot_updated(c) as hot
    from (select 'public.secrets'::regclass::oid as c) t`;
  await service.run('begin');
  for (const row of rows) await reencrypt(service, row, v2);
  expect(await service.run(counters)).toEqual([{ updated: '5', hot: '5' }]);
  await service.run('commit');
});
