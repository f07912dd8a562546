import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { clearProjects, detailOf, fillProject, makeProject } from './support/world.ts';

// A rotation of 100,000 projects took twice as long for each as one of 5,000 while every set read the whole rotation.

let installation: Installation;
beforeAll(async () => {
  installation = await startInstallation();
});
afterAll(() => installation.end());

async function rowsRead(): Promise<number> {
  const [row] = await installation.sql(
    `select seq_tup_read + idx_tup_fetch as read from pg_stat_all_tables where relid = 'keyring.rotation_projects'::regclass`,
  );
  return Number(row?.['read']);
}

async function sessions(): Promise<number> {
  const [row] = await installation.sql(
    `select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
  );
  return Number(row?.['count']);
}

test('a set reads its own projects of a rotation, not all of it', async () => {
  const OTHERS = 20_000;
  const SETS = 4;
  const SET = 20;
  await clearProjects(installation);
  const keyring = await installation.open();
  for (let number = 0; number < SETS * SET; number++) await makeProject(installation, keyring, { secrets: 1 });
  const { id } = await keyring.rotations.request({ projects: 'all', pace: 'full' });
  await keyring.close();
  await installation.sql(
    `insert into keyring.rotation_projects (rotation_id, project_id, project_name, state, finished_at)
     select $1, gen_random_uuid(), 'done', 'completed', now() from generate_series(1, ${String(OTHERS)})`,
    [id],
  );

  const before = await rowsRead();
  const rotating = await installation.open({ rotationSetSize: SET });
  expect((await rotating.rotations.run(id)).state).toBe('completed');
  await rotating.close();
  // A session tells what it read when it ends.
  await expect.poll(sessions).toBe(0);

  // Who watches and who ends a rotation reads all of it, a few times each; six steps of every set would be fifty times.
  expect((await rowsRead()) - before).toBeLessThan(15 * OTHERS);
});

test('a project that grows past what a set reads of one is read back whole', async () => {
  await clearProjects(installation);
  const service = await installation.open();
  const [grown] = [
    await makeProject(installation, service, { secrets: 1 }),
    await makeProject(installation, service, { secrets: 1 }),
  ];
  let spoilt: string | undefined;
  const rotating = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const readsBack = statement.text.includes('n.envelope') && (statement.values?.[1] as unknown[]).includes(null);
        if (!readsBack || spoilt !== undefined) return send();
        if (grown !== undefined) await fillProject(installation, grown, 1_000);
        const answer = await send();
        const read = (answer.rows as { id: string }[]).map(({ id }) => id);
        // One that was not read, if there is any.
        const [row] = await installation.sql<{ id: string }>(
          'select id from public.secrets where project_id = $1 order by id = any ($2) limit 1',
          [grown?.id, read],
        );
        spoilt = row?.id;
        await installation.behindTheFence(
          `update public.secrets set value_encrypted = set_byte(value_encrypted, 50, get_byte(value_encrypted, 50) # 1)
           where id = $1`,
          [spoilt],
        );
        return answer;
      }),
  });
  const { id } = await service.rotations.request({ projects: 'all', pace: 'full' });
  expect((await rotating.rotations.run(id)).projects).toEqual({ total: 2, completed: 1, blocked: 1 });
  expect((await detailOf(service, id)).quarantine.map(({ rowId }) => rowId)).toEqual([spoilt]);
});
