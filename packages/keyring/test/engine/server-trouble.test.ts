import type { Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { detailOf, expectEverySecretFresh, makeProject, type KnownProject } from './support/world.ts';

let installation: Installation;
let service: Keyring;
beforeEach(async () => {
  installation = await startInstallation();
  service = await installation.open({ lockPatienceMs: 0 });
});
afterEach(() => installation.end());

/** PostgreSQL refuses every change of a secret like this, of one project or of all. */
async function refuse(sqlState: string, message: string, projectId?: string): Promise<void> {
  const which = projectId === undefined ? '' : `when (old.project_id = '${projectId}')`;
  await installation.asOwner(
    `create function public.refuse() returns trigger language plpgsql
       as $$ begin raise exception '${message}' using errcode = '${sqlState}'; end $$`,
    `create trigger refuse before update on public.secrets for each row ${which} execute function public.refuse()`,
  );
}

async function makeProjects(count: number): Promise<KnownProject[]> {
  const projects: KnownProject[] = [];
  while (projects.length < count) projects.push(await makeProject(installation, service, { secrets: 2 }));
  return projects;
}

test.each([
  ['one project, a full disk', 1, '53100', 'could not extend file'],
  ['projects together, a full disk', 3, '53100', 'could not extend file'],
  ['one project, no memory left', 1, '53200', 'out of shared memory'],
  ['projects together, no memory left', 3, '53200', 'out of shared memory'],
  ['one project, a disk that fails', 1, '58030', 'could not read block'],
  ['projects together, a standby', 3, '25006', 'cannot execute UPDATE in a read-only transaction'],
])(
  'trouble of the server stops a run, is told with a remedy, and blocks no project: %s',
  async (_, count, state, text) => {
    const projects = await makeProjects(count);
    await refuse(state, text);
    const { id } = await service.rotations.request({ projects: 'all' });
    await expect(service.rotations.run(id)).rejects.toMatchObject({
      ...{ code: 'database_refused', message: expect.stringContaining(text) as string },
      remedy: expect.any(String) as string,
      details: { sqlState: state },
    });
    expect(await detailOf(service, id)).toMatchObject({
      state: 'running',
      projects: { total: count, sweeping: count },
    });
    // Nobody has to resume anything: whoever drives it next goes on.
    await installation.asOwner('drop trigger refuse on public.secrets');
    expect((await service.rotations.run(id)).state).toBe('completed');
    await expectEverySecretFresh(installation, service, projects);
  },
);

test.each([
  ['the first of three', 0],
  ['the last of three', 2],
])('a project whose statements take longer than the login may blocks, and holds up no other: %s', async (_, which) => {
  const projects = await makeProjects(3);
  const [slow] = [...projects].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(which);
  await refuse('57014', 'canceling statement due to statement timeout', slow?.id);
  const { id } = await service.rotations.request({ projects: 'all' });
  expect((await service.rotations.run(id)).projects).toEqual({ total: 3, blocked: 1, completed: 2 });
  const [blocked] = (await detailOf(service, id)).projectDetails.filter((one) => one.state === 'blocked');
  expect(blocked).toMatchObject({ projectId: slow?.id, errorCode: 'statement_canceled' });
  expect(blocked?.errorDetail).toContain('statement_timeout');
  await installation.asOwner('drop trigger refuse on public.secrets');
  await service.rotations.resume(id);
  expect((await service.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, service, projects);
});

test('a row that a trigger of the application keeps as it is blocks, and is named, instead of others being blamed', async () => {
  const [project] = await makeProjects(1);
  const [kept] = await installation.sql<{ id: string }>('select id from public.secrets order by id limit 1');
  await installation.asOwner(
    'create function public.keep() returns trigger language plpgsql as $$ begin return null; end $$',
    `create trigger keep before update on public.secrets for each row when (old.id = '${kept?.id ?? ''}')
       execute function public.keep()`,
  );
  const { id } = await service.rotations.request({ projects: 'all' });
  expect(await service.rotations.run(id)).toMatchObject({ state: 'blocked', rows: { total: 2, moved: 1 } });
  const [blocked] = (await detailOf(service, id)).projectDetails;
  expect(blocked?.errorDetail).toContain(`secrets.value ${kept?.id ?? ''} is held by nobody`);
  expect(blocked?.errorDetail).toContain('trigger');
  await installation.asOwner('drop trigger keep on public.secrets');
  await service.rotations.resume(id);
  expect((await service.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, service, project === undefined ? [] : [project]);
});

test('a rotation whose driver died before the clock of the server was set back is taken over at once', async () => {
  const projects = await makeProjects(1);
  const { id } = await service.rotations.request({ projects: 'all' });
  await installation.sql(
    `update keyring.rotations set state = 'running', runner = 'dead', runner_until = now() + interval '1 hour' where id = $1`,
    [id],
  );
  expect((await service.rotations.get(id))?.runner).toBeUndefined();
  expect(await service.rotations.waiting()).toEqual([id]);
  expect((await service.rotations.run(id, { whenDriven: 'leave' })).state).toBe('completed');
  await expectEverySecretFresh(installation, service, projects);
});
