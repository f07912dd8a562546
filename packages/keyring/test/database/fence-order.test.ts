import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  isolations,
  makeProject,
  movePointer,
  outcome,
  promote,
  putSecret,
  reencrypt,
  rewrite,
  rowsUnder,
  untilItWaits,
  useDatabase,
  type Session,
} from './support.ts';

const on = useDatabase();
const fence = 'keyring.fence_secrets__value';

describe.each(isolations)('under %s', (isolation) => {
  test('a promote waits for a writer in flight, whose rows it then sees', async () => {
    const [writer, promoter, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(writer);
    const [v1, v2] = project.keys;

    await writer.run(`begin isolation level ${isolation}`);
    await putSecret(writer, project, v1);
    const promoting = outcome(promote(promoter, project, v1, v2));
    await untilItWaits(admin, promoter);

    // The writer goes on: it does not queue behind the promote that waits for it.
    await putSecret(writer, project, v1);
    await writer.run('commit');
    expect(await promoting).toBe('done');
    expect(await rowsUnder(promoter, project, v1)).toBe(2);
    expect(await outcome(putSecret(writer, project, v1))).toBe('MK001');
  });

  test('a writer waits for a promote in flight, and is refused once it commits', async () => {
    const [writer, promoter, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(writer);
    const [v1, v2] = project.keys;

    await promoter.run('begin');
    await movePointer(promoter, project, v1, v2);
    await writer.run(`begin isolation level ${isolation}`);
    const writing = outcome(putSecret(writer, project, v1));
    await untilItWaits(admin, writer);
    await promoter.run('commit');

    expect(await writing).toBe(isolation === 'read committed' ? 'MK001' : '40001');
    await writer.run('rollback');
    expect(await rowsUnder(admin, project, v1)).toBe(0);
  });

  test('a writer that waited for a promote which was rolled back commits', async () => {
    const [writer, promoter, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const project = await makeProject(writer);
    const [v1, v2] = project.keys;

    await promoter.run('begin');
    await movePointer(promoter, project, v1, v2);
    await writer.run(`begin isolation level ${isolation}`);
    const writing = outcome(putSecret(writer, project, v1));
    await untilItWaits(admin, writer);
    await promoter.run('rollback');

    expect(await writing).toBe('done');
    expect(await outcome(writer.run('commit'))).toBe('done');
  });
});

test('a write undone by its savepoint no longer holds up a promote', async () => {
  const [writer, promoter] = await Promise.all([on.service(), on.service()]);
  const project = await makeProject(writer);
  await writer.run('begin');
  await writer.run('savepoint before_write');
  await putSecret(writer, project, project.keys[0]);
  await writer.run('rollback to savepoint before_write');
  expect(await promote(promoter, project, ...project.keys)).toBe(true);
  await writer.run('commit');
});

// Each of these takes one rule of the fence away, and shows what it was for.
describe('without its rules the fence leaks', () => {
  let admin: Session;
  let whole: string;
  beforeEach(async () => {
    admin = await on.admin();
    whole = await admin.value('select pg_get_functiondef($1::regproc)', [fence]);
  });
  afterEach(async () => {
    await (await on.admin()).run(whole);
  });

  // "The advisory lock alone is unsound under repeatable read."
  test.each(['repeatable read', 'serializable'])(
    'the queue alone lets a stale row through under %s',
    async (isolation) => {
      await rewrite(admin, fence, (source) => source.replace(/ for share;/, ';'));
      const [writer, promoter] = await Promise.all([on.service(), on.service()]);
      const project = await makeProject(promoter);
      const [v1, v2] = project.keys;
      await writer.run(`begin isolation level ${isolation}`);
      await writer.run('select count(*) from public.secrets');
      await promote(promoter, project, v1, v2);
      await putSecret(writer, project, v1);
      expect(await outcome(writer.run('commit'))).toBe('done');
      expect(await rowsUnder(admin, project, v1)).toBe(1);
    },
  );

  // "Locking only the violating rows is unsound even under read committed": hence `for share` unconditionally.
  test('locking only where the version differs lets a stale row through under read committed', async () => {
    await rewrite(admin, fence, (source) =>
      source
        .replace(/perform pg_catalog\.pg_advisory_xact_lock_shared\([^;]*;/, '')
        .replace(/ for share;/, ' and k.primary_key_id <> new.encryption_key_id for share;')
        .replace('if primary_id is distinct from new.encryption_key_id then', 'if primary_id is not null then'),
    );
    const [writer, promoter] = await Promise.all([on.service(), on.service()]);
    const project = await makeProject(promoter);
    const [v1, v2] = project.keys;
    await writer.run('begin');
    await putSecret(writer, project, v1);
    expect(await promote(promoter, project, v1, v2)).toBe(true);
    expect(await rowsUnder(promoter, project, v1)).toBe(0);
    await writer.run('commit');
    expect(await rowsUnder(admin, project, v1)).toBe(1);
  });

  // "Failing closed (`is distinct from`) when no keyring is visible": "a plain `<>` let a stale row through."
  test('where no keyring is visible the fence refuses, and a plain <> would not', async () => {
    const writer = await on.service();
    const project = await makeProject(writer, 2);
    const stale = project.keys[1];
    await admin.run('drop policy keyring_roles on keyring.keyrings');
    expect(await outcome(putSecret(writer, project, stale))).toBe('MK001');
    expect(await outcome(putSecret(writer, project, project.keys[0]))).toBe('MK001');

    await rewrite(admin, fence, (source) => source.replace('primary_id is distinct from', 'primary_id <>'));
    expect(await outcome(putSecret(writer, project, stale))).toBe('done');
    await admin.run(
      'create policy keyring_roles on keyring.keyrings to keyring_owner, keyring_service using (true) with check (true)',
    );
  });

  test('without the condition that any of four columns changed, a stale row could not be renamed', async () => {
    const writer = await on.service();
    const project = await makeProject(writer);
    const row = await putSecret(writer, project, project.keys[0]);
    await promote(writer, project, ...project.keys);
    const rename = (name: string) => writer.run('update public.secrets set key = $2 where id = $1', [row, name]);
    expect(await outcome(rename('new name'))).toBe('done');

    const trigger = 'zz_keyring_fence_update_secrets__value';
    const definition = await admin.value<string>('select pg_get_triggerdef(oid) from pg_trigger where tgname = $1', [
      trigger,
    ]);
    await admin.run(`drop trigger ${trigger} on public.secrets`);
    await admin.run(
      `create trigger ${trigger} before update on public.secrets for each row execute function ${fence}()`,
    );
    expect(await outcome(rename('another'))).toBe('MK001');
    await admin.run(`drop trigger ${trigger} on public.secrets`);
    await admin.run(definition);
    await reencrypt(writer, row, project.keys[1]);
  });
});
