import { afterAll, beforeAll, expect, it } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { openApi, tokens, type Api } from './support/api.ts';

let api: Api;
const projects: string[] = [];
beforeAll(async () => {
  api = await openApi();
  for (const name of ['acme', 'globex', 'initech']) {
    const { id } = await api.keyring.projects.create({ name });
    await api.keyring.secrets.put(id, 'A', 'a');
    projects.push(id);
  }
});
afterAll(() => api[Symbol.asyncDispose]());

type Item = Readonly<Record<string, unknown>>;

/** What a list has, by pages of two. */
async function walk(address: string, member: string): Promise<Item[]> {
  const seen: Item[] = [];
  for (let next: string | null = ''; next !== null;) {
    const answer = await api.send(
      'GET',
      `${address}${address.includes('?') ? '&' : '?'}limit=2${next && `&cursor=${next}`}`,
      undefined,
      {
        authorization: `Bearer ${tokens.admin}`,
      },
    );
    expect(answer.status, answer.text).toBe(200);
    const page = JSON.parse(answer.text) as { readonly [name: string]: Item[] } & { readonly next: string | null };
    expect(page[member]?.length).toBeLessThanOrEqual(2);
    seen.push(...(page[member] ?? []));
    ({ next } = page);
  }
  return seen;
}
const idsOf = (found: readonly { readonly id: string }[]): string[] => found.map(({ id }) => id);

it('grants and approvals come page by page, each once', async () => {
  const { grants, approvals } = api.keyring.access;
  await grants.add({ person: 'person:pages', role: 'auditor' });
  await grants.add({ person: 'person:pages', role: 'auditor', projectId: projects[0]! });
  await grants.add({ person: 'person:pages', role: 'service', projectId: projects[0]! });
  for (const subject of ['key:1', 'key:2', 'key:3']) await approvals.request({ action: 'key.destroy_early', subject });
  expect(await walk('/api/grants', 'grants')).toMatchObject(idsOf(await grants.list()).map((id) => ({ id })));
  const asked = await approvals.list();
  expect(asked).toHaveLength(3);
  expect(await walk('/api/approvals', 'approvals')).toMatchObject(idsOf(asked).map((id) => ({ id })));
});

it('policies come page by page, the default first', async () => {
  const { policies } = api.keyring;
  for (const projectId of projects) await policies.set({ jitterMs: 0 }, { projectId, revision: 0 });
  expect((await walk('/api/policies', 'policies')).map(({ projectName }) => projectName)).toEqual([
    ...[null, 'acme', 'globex', 'initech'],
  ]);
  for (const projectId of projects) {
    await policies.unset(projectId, { revision: (await policies.show(projectId)).revision });
  }
  // Where the last of a page is gone, and where it is the default.
  expect((await walk('/api/policies', 'policies')).map(({ projectId }) => projectId)).toEqual([null]);
  const after = { projectId: undefined, projectName: undefined };
  expect(await policies.list({ after })).toEqual([]);
});

it('what is overdue comes page by page, the oldest first, and the whole is counted on each', async () => {
  // Two at the very same moment; and parts of a millisecond, which a cursor does not keep.
  for (const [place, age] of ["'500 days'::interval", "'500 days'::interval", "'900 days'::interval"].entries()) {
    await query(
      api.adminUrl,
      `set session_replication_role = replica;
       update keyring.encryption_keys set created_at = '2026-01-01 00:00:00.123456+00'::timestamptz - ${age} where project_id = '${projects[place]!}';
       update keyring.keyrings set primary_made_at = '2026-01-01 00:00:00.123456+00'::timestamptz - ${age} where project_id = '${projects[place]!}'`,
    );
  }
  const twins = projects.slice(0, 2).toSorted();
  const seen = await walk('/api/policies/overdue', 'projects');
  expect(seen.map(({ projectId }) => projectId)).toEqual([projects[2], ...twins]);
  const first = await api.keyring.policies.overdue({ limit: 1 });
  expect(first).toMatchObject({ total: 3, next: { projectId: projects[2] } });
  const second = await api.keyring.policies.overdue({ limit: 1, after: first.next! });
  expect(second).toMatchObject({ total: 3, projects: [{ projectId: twins[0] }], next: { projectId: twins[0] } });
  const third = await api.keyring.policies.overdue({ limit: 1, after: second.next! });
  expect(third).toMatchObject({ total: 3, projects: [{ projectId: twins[1] }], next: undefined });
  expect(await api.keyring.policies.overdue({ after: { promisedAt: new Date(), projectId: projects[0]! } })).toEqual({
    ...{ total: 3, projects: [], next: undefined },
  });
});

it('messages, projects, receipts, and rotations of the wrapping key come page by page, each once', async () => {
  const { notifications, rotations, wrappingKeys } = api.keyring;
  await notifications.set({ url: 'https://example.com/hook' });
  for (let sent = 0; sent < 3; sent++) await notifications.test();
  expect(await walk('/api/notifications/log', 'notifications')).toMatchObject(
    idsOf(await notifications.log()).map((id) => ({ id })),
  );

  const { id } = await rotations.request({ projects });
  expect((await rotations.run(id)).state).toBe('completed');
  const rotated = await walk(`/api/rotations/${id}/projects`, 'projects');
  expect(rotated.map(({ projectId, state }) => [projectId, state])).toEqual(
    projects.toSorted().map((projectId) => [projectId, 'completed']),
  );
  expect(await walk(`/api/rotations/${id}/projects?state=blocked`, 'projects')).toEqual([]);
  const receipts = await walk(`/api/rotations/${id}/receipts`, 'receipts');
  expect(receipts.map(({ projectId }) => projectId)).toEqual(projects.toSorted());

  const made: string[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const asked = await wrappingKeys.request();
    await wrappingKeys.run(asked.id);
    made.push(asked.id);
  }
  expect(await wrappingKeys.rotations()).toHaveLength(3);
  const told = await walk('/api/wrapping-keys/rotations', 'rotations');
  expect(told.map((one) => one['id'])).toEqual(idsOf(await wrappingKeys.rotations()));
  expect(told.map((one) => one['id']).toSorted()).toEqual(made.toSorted());
  expect(await walk('/api/root-keys/rotations', 'rotations')).toEqual([]);
});
