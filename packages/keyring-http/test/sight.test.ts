import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { createApp } from '../src/handler.ts';
import { resolveOptions } from '../src/options.ts';
import { openApi, type Api } from './support/api.ts';
import { userJwt } from './support/user-jwt.ts';

// Whoever is of a project is answered from what keyring_user sees: also when the service itself sees no tenant's rows any more.

const jwt = {
  issuer: 'https://example.supabase.co/auth/v1',
  secret: 'a secret that is for tests only, of 32 bytes and more',
};
const owner = randomUUID();
const value = 'sk_live_read_as_oneself';
let api: Api;
let project: string;
let rotation: string;
let key: string;
let auditorOfAll: string;
let bound: Record<string, string>;

beforeAll(async () => {
  api = await openApi({ jwt });
  const { keyring } = api;
  project = (await keyring.projects.create({ name: 'own', owner })).id;
  await keyring.secrets.put(project, 'KEY', value);
  rotation = (await keyring.rotations.request({ projects: [project] })).id;
  await keyring.rotations.run(rotation);
  key = (await keyring.keys.list({ projectId: project }))[0]?.id ?? '';
  await keyring.projects.create({ name: 'foreign', owner: randomUUID() });
  const tokenOf = async (role: 'project_admin' | 'auditor' | 'service', projects: 'all' | readonly string[]) =>
    (await keyring.access.tokens.create({ name: role, role, projects })).token;
  const person = 'person:ada';
  await keyring.access.grants.add({ person, role: 'project_admin', projectId: project });
  bound = {
    'a project admin': await tokenOf('project_admin', [project]),
    'an auditor': await tokenOf('auditor', [project]),
    'a service': await tokenOf('service', [project]),
    'a token of a person': (await keyring.access.tokens.create({ name: 'hers', role: 'project_admin', person })).token,
    'the owner': userJwt(jwt, owner),
  };
  auditorOfAll = await tokenOf('auditor', 'all');
});
afterAll(() => api[Symbol.asyncDispose]());

async function get(address: string, credential: string): Promise<string> {
  const response = await api.fetch(
    new Request(`http://x${address}`, { headers: { authorization: `Bearer ${credential}` } }),
    { address: randomUUID() },
  );
  const text = await response.text();
  // What is worked out from the moment of the answer.
  return `${String(response.status)} ${text.replaceAll(/"(at|lastUsedAt|instance)":("[^"]*"|null)/g, '')}`;
}

/** Of every route to look, for the things of the project. */
function addresses(): string[] {
  const app = createApp(resolveOptions({ keyring: api.keyring, tokens: [] }));
  const paths = new Set(app.routes.filter(({ method }) => method === 'GET').map((route) => route.path));
  return [...paths].map((path) =>
    path
      .replace(':projectId', project)
      .replace(':project', project)
      .replace(':name', 'KEY')
      .replace(':id', path.startsWith('/api/keys') ? key : path.startsWith('/api/rotations') ? rotation : project),
  );
}

async function answersOf(credential: string): Promise<Record<string, string>> {
  const answers: Record<string, string> = {};
  for (const address of addresses()) answers[address] = await get(address, credential);
  return answers;
}

/** From the service; but for the tables by which it knows who asks. */
async function takeTenantsFromTheService(): Promise<void> {
  const policies = await query<{ statement: string }>(
    api.adminUrl,
    `select format('alter policy %I on %I.%I to %s', p.policyname, p.schemaname, p.tablename,
         (select string_agg(quote_ident(r), ', ') from unnest(p.roles || array['keyring_owner'::name]) r where r <> 'keyring_service')) as statement
     from pg_policies p
     where 'keyring_service' = any (p.roles) and p.tablename not in ('grants', 'api_tokens', 'signing_keys', 'audit_archives', 'audit_checkpoints')
       and exists (select from pg_policies u
         where (u.schemaname, u.tablename) = (p.schemaname, p.tablename) and 'keyring_user' = any (u.roles))`,
  );
  expect(policies.length).toBeGreaterThan(10);
  for (const { statement } of policies) await query(api.adminUrl, statement);
}

test('every route to look answers who is of a project as before when the service sees no tenant’s rows', async () => {
  const before: Record<string, Record<string, string>> = {};
  for (const [who, credential] of Object.entries(bound)) before[who] = await answersOf(credential);
  expect(await get('/api/projects', auditorOfAll)).toContain(project);
  expect(before['a service']?.[`/api/projects/${project}/secrets/KEY`]).toContain(value);
  expect(before['the owner']?.[`/api/rotations/${rotation}/events`]).toContain('event: finished');

  await takeTenantsFromTheService();
  expect(await get('/api/projects', auditorOfAll)).not.toContain(project);
  expect(await get('/api/audit', auditorOfAll)).not.toContain(project);
  let answered = 0;
  for (const [who, credential] of Object.entries(bound)) {
    const after = await answersOf(credential);
    for (const [address, answer] of Object.entries(after)) {
      expect(`${who} ${address} ${answer}`).toBe(`${who} ${address} ${before[who]?.[address] ?? ''}`);
      if (answer.startsWith('200') && answer.includes(project)) answered += 1;
    }
  }
  expect(answered).toBeGreaterThan(40);
});
