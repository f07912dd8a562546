import { randomUUID } from 'node:crypto';
import { permissionsOf, type Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { auditPosition, auditSince, codeOf } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
const [ada, bob] = [randomUUID(), randomUUID()];
let mine: string;
let theirs: string;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  mine = (await keyring.projects.create({ name: 'mine', owner: ada })).id;
  theirs = (await keyring.projects.create({ name: 'theirs', owner: bob })).id;
});
afterAll(() => installation.end());

const held = async (person: string) =>
  (await keyring.access.holdings(person)).map(({ role, projects }) => [role, projects]);

test('a user owns what projects.owner says, and a stranger nothing', async () => {
  expect(await held(`user:${ada}`)).toEqual([['project_owner', [mine]]]);
  expect(await held(`user:${bob}`)).toEqual([['project_owner', [theirs]]]);
  expect(await held(`user:${randomUUID()}`)).toEqual([]);
  expect(await held('person:ada')).toEqual([]);
  expect(await held('operator')).toEqual([['instance_admin', 'all']]);
});

test('which projects a user owns is read as that user: what the policies of projects hide is not there', async () => {
  await installation.asOwner(
    `create policy "hidden" on public.projects as restrictive for select to authenticated using (name <> 'mine')`,
  );
  try {
    expect(await held(`user:${ada}`)).toEqual([]);
    expect(await held(`user:${bob}`)).toEqual([['project_owner', [theirs]]]);
  } finally {
    await installation.asOwner('drop policy "hidden" on public.projects');
  }
});

test('the identity of a user ends with the transaction, on a connection that everybody shares', async () => {
  const statements: string[] = [];
  const one = await installation.open({
    wrap: (database) => ({
      ...database,
      connect: async () => {
        const connection = await database.connect();
        return {
          ...connection,
          query: async (statement) => {
            statements.push(statement.text);
            const answer = await connection.query(statement);
            if (statement.text === 'commit') {
              const after = await connection.query<{ me: string; claims: string | null }>({
                text: `select current_user::text as me, nullif(current_setting('request.jwt.claims', true), '') as claims`,
              });
              expect(after.rows).toEqual([{ me: expect.not.stringMatching('authenticated'), claims: null }]);
            }
            return answer as never;
          },
        };
      },
    }),
  });
  await one.access.holdings(`user:${ada}`);
  expect(statements).toContain('set local role authenticated');
});

test('a grant is there until it is taken away, in one project or in all, and both are on the record', async () => {
  const before = await auditPosition(installation);
  const admin = await keyring.access.grants.add({
    person: `user:${bob}`,
    role: 'project_admin',
    projectId: mine,
    reason: 'helps',
  });
  expect(await keyring.access.grants.add({ person: `user:${bob}`, role: 'project_admin', projectId: mine })).toEqual(
    admin,
  );
  const auditor = await keyring.access.grants.add({ person: 'person:aud', role: 'auditor' });
  expect(await held(`user:${bob}`)).toEqual([
    ['project_admin', [mine]],
    ['project_owner', [theirs]],
  ]);
  expect(await keyring.access.holdings('person:aud')).toEqual([
    { role: 'auditor', permissions: permissionsOf.auditor, projects: 'all' },
  ]);
  expect((await keyring.access.grants.list({ among: [mine] })).map(({ id }) => id)).toEqual([admin.id]);
  expect(await keyring.access.grants.list({ among: [theirs] })).toEqual([]);
  await keyring.access.grants.remove(admin.id, { reason: 'left' });
  await keyring.access.grants.remove(auditor.id);
  expect(await held(`user:${bob}`)).toEqual([['project_owner', [theirs]]]);
  expect(await codeOf(keyring.access.grants.remove(admin.id))).toBe('unknown_grant');
  expect(await auditSince(installation, before)).toEqual({ 'access.granted': 2, 'access.taken_away': 2 });
});

test.each([
  ['a role of owners', { person: 'operator', role: 'project_owner' }, 'invalid_argument'],
  ['a role that does not exist', { person: 'operator', role: 'root' }, 'invalid_argument'],
  [
    'an instance admin of one project',
    { person: 'operator', role: 'instance_admin', projectId: randomUUID() },
    'invalid_argument',
  ],
  ['somebody without a kind', { person: 'ada', role: 'auditor' }, 'invalid_argument'],
  [
    'a project that does not exist',
    { person: 'operator', role: 'auditor', projectId: randomUUID() },
    'unknown_project',
  ],
])('%s is not granted', async (_, grant, code) => {
  expect(await codeOf(keyring.access.grants.add(grant as never))).toBe(code);
});

test('a project takes the grants in it along', async () => {
  const { id } = await keyring.projects.create({ name: 'short-lived' });
  await keyring.access.grants.add({ person: 'person:x', role: 'auditor', projectId: id });
  await installation.sql('delete from public.projects where id = $1', [id]);
  expect(await held('person:x')).toEqual([]);
});

test('grants are listed page by page, those of a role in the instance last, and where one was that is gone meanwhile', async () => {
  await installation.behindTheFence('delete from keyring.grants');
  const [one, two] = [await keyring.projects.create({ name: 'one' }), await keyring.projects.create({ name: 'two' })];
  const [low, high] = [one.id, two.id].sort() as [string, string];
  const { grants } = keyring.access;
  const add = async (person: string, role: 'auditor' | 'service', projectId?: string): Promise<string> =>
    (await grants.add({ person, role, ...(projectId === undefined ? {} : { projectId }) })).id;
  const last = await add('person:b', 'auditor');
  const bobs = await add('person:b', 'auditor', low);
  const services = await add('person:a', 'service', low);
  const everywhere = await add('person:a', 'auditor');
  const higher = await add('person:a', 'auditor', high);
  const lower = await add('person:a', 'auditor', low);
  const inOrder = [lower, higher, everywhere, services, bobs, last];
  expect((await grants.list()).map(({ id }) => id)).toEqual(inOrder);
  for (const [place, id] of inOrder.entries()) {
    const after = (await grants.get(id))!;
    expect((await grants.list({ after, limit: 2 })).map((grant) => grant.id)).toEqual(
      inOrder.slice(place + 1, place + 3),
    );
  }
  const gone = await grants.remove(everywhere);
  expect((await grants.list({ after: gone })).map(({ id }) => id)).toEqual(inOrder.slice(3));
  expect((await grants.list({ after: gone, among: [low] })).map(({ id }) => id)).toEqual([services, bobs]);
});
