import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { query, session } from '../../../test/support/database.ts';
import { openApi, tokens, type Api } from './support/api.ts';

const PROJECTS = 2_000;
const NOTHING = '00000000-0000-4000-8000-000000000000';

let api: Api;
let some: string[];

/** Projects of all ages, some under policies of their own, some of those switched off, and a few that have used their key up. */
beforeAll(async () => {
  api = await openApi();
  const first = await api.keyring.projects.create({ name: 'first' });
  await api.keyring.secrets.put(first.id, 'A', 'a');
  await using admin = await session(api.adminUrl);
  await admin.query('set session_replication_role = replica');
  await admin.query('select setseed(0.5)');
  await admin.query(
    `insert into public.projects (id, name, owner)
     select gen_random_uuid(), 'project ' || n, gen_random_uuid() from generate_series(1, $1) n`,
    [PROJECTS],
  );
  await admin.query(
    `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, created_at, activated_at)
     select gen_random_uuid(), p.id, 1, k.wrapped_key, k.wrapping_key_id, k.fingerprint, now() - random() * interval '95 days', now()
     from public.projects p cross join keyring.encryption_keys k where p.name <> 'first'`,
  );
  // Not by the trigger, which is off: so this checks the index's column, too.
  await admin.query('alter table keyring.keyrings enable always trigger guard_keyring');
  await admin.query(
    `insert into keyring.keyrings (project_id, primary_key_id)
     select k.project_id, k.id from keyring.encryption_keys k join public.projects p on p.id = k.project_id where p.name <> 'first'`,
  );
  await admin.query('alter table keyring.keyrings enable trigger guard_keyring');
  await admin.query(
    `insert into keyring.rotation_policies (project_id, rotate_after, jitter, enabled, reason)
     select p.id, '20 days'::interval + random() * interval '90 days', case when random() < 0.5 then interval '3 hours' end,
       random() < 0.7, 'test'
     from public.projects p where p.name like '%7' and p.name <> 'first'`,
  );
  await admin.query(
    `insert into keyring.key_usage (project_id, key_id, reserved)
     select k.project_id, k.id, case when p.name like '%11' then 3865470566 else 100 end
     from keyring.encryption_keys k join public.projects p on p.id = k.project_id where p.name like '%1'`,
  );
  const rows = await query<{ id: string }>(
    api.adminUrl,
    `select id from public.projects where name like '%5' or name like '%7'`,
  );
  some = rows.map(({ id }) => id);
});
afterAll(() => api[Symbol.asyncDispose]());

// As of the moment that the overview is of: some date may be reached between two looks.
const isDue = `s.enabled and (s.due_at <= $2 or s.encryptions >= s.max_encryptions)`;
const isOverdue = `s.enabled and (s.promised_at + interval '1 hour' <= $2 or s.encryptions >= 3865470566)`;

describe('the overview', () => {
  it.each([
    ['everybody', 'all' as const],
    ['who has some projects', 'some' as const],
  ])('agrees with the view of all schedules, for %s', async (_, whose) => {
    const among = whose === 'all' ? 'all' : some;
    const found = await api.keyring.overview({ among });
    const asked = [among === 'all' ? null : among, found.at];
    const [counts] = await query<Record<string, string>>(
      api.adminUrl,
      `select count(*) as keys, count(*) filter (where ${isDue}) as due, count(*) filter (where ${isOverdue}) as overdue
       from keyring.scheduled_projects s where $1::uuid[] is null or s.project_id = any ($1)`,
      asked,
    );
    const next = await query<{ project_id: string; due_at: Date }>(
      api.adminUrl,
      `select s.project_id, s.due_at from keyring.scheduled_projects s
       where s.enabled and s.due_at > $2 and ($1::uuid[] is null or s.project_id = any ($1))
       order by s.due_at limit 10`,
      asked,
    );
    expect(found.projects).toMatchObject({
      withKey: Number(counts?.['keys']),
      due: Number(counts?.['due']),
      overdue: Number(counts?.['overdue']),
    });
    expect(found.projects.due).toBeGreaterThan(found.projects.overdue);
    expect(found.projects.overdue).toBeGreaterThan(10);
    expect(found.next.map(({ dueAt }) => dueAt)).toEqual(next.map(({ due_at }) => due_at));
    const [oldest] = await query<{ project_id: string; made_at: Date }>(
      api.adminUrl,
      `select s.project_id, s.made_at from keyring.scheduled_projects s
       where $1::uuid[] is null or s.project_id = any ($1) order by s.made_at limit 1`,
      [among === 'all' ? null : among],
    );
    expect(found.oldest).toMatchObject({ projectId: oldest?.project_id, madeAt: oldest?.made_at });
    const ages = await query<{ days: number }>(
      api.adminUrl,
      `select extract(epoch from $2::timestamptz - s.made_at)::double precision / 86400 as days
       from keyring.scheduled_projects s where $1::uuid[] is null or s.project_id = any ($1)`,
      asked,
    );
    expect(found.ages.map(({ fromDays }) => fromDays)).toEqual([0, 7, 30, 60, 90, 180, 365]);
    for (const { fromDays, toDays = Infinity, keys } of found.ages) {
      expect(keys).toBe(ages.filter(({ days }) => days >= fromDays && days < toDays).length);
    }
  });

  it('is told, too, where nobody noted when a primary version was made', async () => {
    await using admin = await session(api.adminUrl);
    await admin.query('set session_replication_role = replica');
    await admin.query('update keyring.keyrings set primary_made_at = null');
    try {
      const found = await api.send('GET', '/api/overview', undefined, { authorization: `Bearer ${tokens.admin}` });
      expect(found).toMatchObject({ status: 200, json: { oldest: null, projects: { withKey: PROJECTS + 1 } } });
    } finally {
      await admin.query(
        `update keyring.keyrings r set primary_made_at = k.created_at
         from keyring.encryption_keys k where k.id = r.primary_key_id`,
      );
    }
  });

  it('of nobody is empty', async () => {
    expect(await api.keyring.overview({ among: [NOTHING] })).toMatchObject({
      projects: { total: 0, withKey: 0, due: 0, overdue: 0 },
      oldest: undefined,
      next: [],
      rotations: { recent: [] },
    });
  });

  it('tells rotations, marked keys and rows that do not open, of those that the caller may look at', async () => {
    const { id } = await api.keyring.rotations.request({ projects: some.slice(0, 5), reason: 'look' });
    await api.keyring.rotations.pause(id);
    const foreign = await api.keyring.rotations.request({ projects: some.slice(5, 8) });
    const admin = { authorization: `Bearer ${tokens.admin}` };
    const all = await api.send('GET', '/api/overview', undefined, admin);
    expect(all.json).toMatchObject({
      rotations: {
        running: 1,
        paused: 1,
        blocked: 0,
        recent: [{ id: foreign.id }, { id, reason: 'look', moreProjects: true }],
      },
      keys: { compromised: 0, suspended: 0 },
      quarantined: 0,
      awaitingApproval: 0,
      workersAlive: 0,
    });
    const few = await api.keyring.overview({ among: some.slice(0, 5) });
    expect(few.rotations).toMatchObject({ running: 0, paused: 1, recent: [{ id }] });
    const reader = await api.send('GET', '/api/overview', undefined, { authorization: `Bearer ${tokens.reader}` });
    expect(reader.json).toMatchObject({ awaitingApproval: null });
  });
});
