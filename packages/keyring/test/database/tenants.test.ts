import { describe, expect, test } from 'vitest';
import {
  envelope,
  makeProject,
  movePointer,
  outcome,
  promote,
  putSecret,
  reencrypt,
  retire,
  destroy,
  untilItWaits,
  useDatabase,
} from './support.ts';

// No tenant holds up another. What would wait here, would wait for ever: the test ends because nothing does.
const on = useDatabase();

describe.each(['an idle transaction that wrote', 'a promote that is not committed', 'an idle first keyring'])(
  '%s of one project',
  (holdUp) => {
    test('delays no write, promote, rollback or destroy of another', async () => {
      const [idle, other] = await Promise.all([on.service(), on.service()]);
      const [a, b] = [await makeProject(other), await makeProject(other, 3)];
      await idle.run('begin');
      if (holdUp.includes('wrote')) await putSecret(idle, a, a.keys[0]);
      else if (holdUp.includes('promote')) await movePointer(idle, a, ...a.keys);
      else await makeProject(idle);

      const row = await putSecret(other, b, b.keys[0]);
      expect(await promote(other, b, b.keys[0], b.keys[1])).toBe(true);
      await reencrypt(other, row, b.keys[1]);
      expect(await promote(other, b, b.keys[1], b.keys[0])).toBe(true);
      await reencrypt(other, row, b.keys[0]);
      await retire(other, b.keys[1]);
      await destroy(other, b.keys[1]);
      await other.run('delete from public.secrets where id = $1', [row]);
      await idle.run('rollback');
    });
  },
);

test('two projects queue at different numbers', async () => {
  const service = await on.service();
  const same = await service.value<string>(
    `select count(*) filter (where n > 1) from (
       select count(*) as n from generate_series(1, 10000) group by keyring.project_lock(gen_random_uuid())) c`,
  );
  expect(Number(same)).toBe(0);
});

// "A sweep batch without `skip locked` waited for one user's idle edit and held every other row of its batch."
test('a batch that skips locked rows moves the rest; one that does not waits, and holds what it has', async () => {
  const [user, sweep, writer, admin] = await Promise.all([on.service(), on.service(), on.service(), on.admin()]);
  const project = await makeProject(sweep);
  const [v1, v2] = project.keys;
  const rows: string[] = [];
  for (let n = 0; n < 5; n++) rows.push(await putSecret(sweep, project, v1));
  rows.sort();
  await promote(sweep, project, v1, v2);
  await user.run('begin');
  await user.run('update public.secrets set key = $2 where id = $1', [rows[2], 'being edited']);

  const batch = (locking: string) =>
    sweep.run(
      `with held as (select id from public.secrets where project_id = $1 and encryption_key_id <> $2 order by id ${locking})
       update public.secrets s set value_encrypted = $3, encryption_key_id = $2 from held h where s.id = h.id
       returning s.id`,
      [project.id, v2, envelope(v2)],
    );
  await sweep.run('begin');
  expect(await batch('for no key update skip locked')).toHaveLength(4);
  await sweep.run('rollback');

  await sweep.run('begin');
  const waiting = outcome(batch('for no key update'));
  await untilItWaits(admin, sweep);
  const renaming = outcome(writer.run('update public.secrets set key = $2 where id = $1', [rows[0], 'mine']));
  await untilItWaits(admin, writer);
  await user.run('commit');
  expect(await waiting).toBe('done');
  await sweep.run('commit');
  expect(await renaming).toBe('done');
});

// "Promoting a thousand projects in one statement let one idle transaction of one tenant block the writes of the others."
test('promoting many at once would let one idle transaction block the others; each alone, or skipped, does not', async () => {
  const [idle, promoter, writer, admin] = await Promise.all([on.service(), on.service(), on.service(), on.admin()]);
  const [a, b] = [await makeProject(writer), await makeProject(writer)];
  await idle.run('begin');
  await putSecret(idle, a, a.keys[0]);

  await promoter.run('begin');
  const all = outcome(
    promoter.run('select pg_advisory_xact_lock(keyring.project_lock(p)) from unnest($1::uuid[]) p', [[b.id, a.id]]),
  );
  await untilItWaits(admin, promoter);
  const written = outcome(putSecret(writer, b, b.keys[0]));
  await untilItWaits(admin, writer);
  await admin.run('select pg_cancel_backend($1)', [promoter.pid]);
  expect(await all).toBe('57014');
  await promoter.run('rollback');
  expect(await written).toBe('done');

  await promoter.run('begin');
  const free = await promoter.run<{ p: string }>(
    'select p from unnest($1::uuid[]) p where pg_try_advisory_xact_lock(keyring.project_lock(p))',
    [[b.id, a.id]],
  );
  expect(free).toEqual([{ p: b.id }]);
  expect(await movePointer(promoter, b, ...b.keys)).toBe(true);
  await promoter.run('commit');
  expect(await outcome(putSecret(writer, b, b.keys[1]))).toBe('done');
});

// "One audit chain head updated in every transaction took 16 clients from 3,834 to 379 transactions/s": nothing is shared.
test('transactions that write audit entries wait for nobody, of their own project or another', async () => {
  const [one, two] = await Promise.all([on.service(), on.service()]);
  const note = `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', 'test:1')`;
  await one.run('begin');
  await one.run(note);
  await two.run('begin');
  expect(await outcome(two.run(note))).toBe('done');
  await two.run('commit');
  await one.run('commit');
});
