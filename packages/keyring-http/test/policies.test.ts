import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { openApi, tokens, type Api } from './support/api.ts';

let api: Api;
let project = '';
beforeAll(async () => {
  api = await openApi();
  project = (await send('POST', '/api/projects', { name: 'acme' })).json.id;
  await send('PUT', '/api/projects/acme/secrets/A', { value: 'a' });
});
afterAll(() => api[Symbol.asyncDispose]());

interface Dates {
  readonly policy: { readonly revision: number; readonly rotateAfterMs: number; readonly projectId: string | null };
  readonly dates: readonly string[];
}
const send = (method: string, address: string, body?: unknown) =>
  api.send(method, address, body, { authorization: `Bearer ${tokens.admin}` });
const ask = async (method: string, address: string, body?: unknown): Promise<Dates> => {
  const answer = await send(method, address, body);
  expect(answer.status, answer.text).toBe(200);
  return JSON.parse(answer.text) as Dates;
};
const DAY = 86_400_000;

it('a policy is read, previewed, changed by its revision, and given up', async () => {
  const { policy } = await ask('GET', '/api/policies/default');
  const change = {
    rotateAfterMs: 30 * DAY,
    quietHours: { zone: 'UTC', windows: [{ days: ['sun'], from: '01:00', to: '05:00' }] },
  };
  const seen = await ask('POST', '/api/policies/preview', { ...change, count: 3 });
  expect(seen.dates.map((date) => new Date(date).getUTCDay())).toEqual([0, 0, 0]);
  const made = await ask('PUT', '/api/policies/default', { revision: policy.revision, ...change });
  expect(made.dates.slice(0, 3)).toEqual(seen.dates);
  expect((await send('PUT', '/api/policies/default', { revision: policy.revision, ...change })).status).toBe(409);

  const own = await ask('PUT', '/api/projects/acme/policy', { revision: 0, rotateAfterMs: 7 * DAY, quietHours: null });
  expect(own.policy).toMatchObject({ projectId: project, rotateAfterMs: 7 * DAY });
  expect(await ask('GET', `/api/projects/${project}/policy`)).toEqual(own);
  const { policies } = JSON.parse((await send('GET', '/api/policies')).text) as {
    policies: { projectId: string | null }[];
  };
  expect(policies.map(({ projectId }) => projectId)).toEqual([null, project]);
  const keys = await send('GET', '/api/keys?project=acme');
  expect(keys.text).toContain(`"nextDueAt":"${own.dates[0] ?? ''}"`);
  await ask('DELETE', `/api/projects/acme/policy?revision=${String(own.policy.revision)}`);
  expect((await ask('GET', '/api/projects/acme/policy')).policy.revision).toBe(0);
  expect((await send('GET', '/api/policies/overdue')).json).toEqual({ total: 0, projects: [], next: null });
});

it.each([
  ['PUT', '/api/policies/default', { rotateAfterMs: DAY }, 400],
  ['POST', '/api/policies/preview', { rotateAfterMs: 1000 }, 400],
  ['PUT', '/api/policies/default', { revision: 1, quietHours: { zone: 'UTC', windows: [] } }, 400],
  ['GET', '/api/projects/nobody/policy', undefined, 404],
  ['PUT', '/api/projects/nobody/policy', { revision: 0 }, 404],
])('%s %s of %j is refused with %d', async (method, address, body, status) => {
  expect((await send(method, address, body)).status).toBe(status);
});

it('a stranger sees and changes nothing', async () => {
  const stranger = { authorization: 'Bearer nobody' };
  expect((await api.send('GET', '/api/policies', undefined, stranger)).status).toBe(401);
  expect((await api.send('PUT', '/api/policies/default', { revision: 1 }, stranger)).status).toBe(401);
});

it('who sees some projects is told no date of another, neither by the default policy nor by a preview of it', async () => {
  const { keyring } = api;
  const make = async (name: string) => (await keyring.projects.create({ name, owner: randomUUID() })).id;
  const [foreign, empty] = [await make('foreign'), await make('empty')];
  await keyring.secrets.put(foreign, 'A', 'a');
  await query(
    api.adminUrl,
    `set session_replication_role = replica;
     update keyring.encryption_keys set created_at = created_at - interval '14 days' where project_id = '${foreign}'`,
  );
  const seenBy = async (projects: string[]) => {
    const { token } = await keyring.access.tokens.create({ name: 'limited', role: 'auditor', projects });
    const as = { authorization: `Bearer ${token}` };
    const answers = [
      await api.send('GET', '/api/policies/default', undefined, as),
      await api.send('POST', '/api/policies/preview', {}, as),
    ];
    return answers.map(({ text }) => JSON.parse(text) as Dates & { of: string; promisedAt: string });
  };
  const [own, others] = [
    await ask('GET', `/api/projects/${project}/policy`),
    await ask('GET', `/api/projects/${foreign}/policy`),
  ];
  expect(own.dates).not.toEqual(others.dates);
  expect((await ask('GET', '/api/policies/default')).dates).toEqual(others.dates);
  for (const seen of await seenBy([project])) {
    expect(seen).toMatchObject({ of: 'first project', dates: own.dates });
  }
  for (const seen of await seenBy([empty])) {
    expect(seen.of).toBe('new version');
    expect(Date.parse(seen.promisedAt)).toBeGreaterThan(Date.now() + 29 * DAY);
  }
});
