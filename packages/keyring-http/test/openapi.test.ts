import { Validator } from '@seriousme/openapi-schema-validator';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import fc from '../../../test/support/seeded.ts';
import { statusOfCode } from '../src/index.ts';
import { openApi, tokens, type Api } from './support/api.ts';
import { routesOf, Schemas, type Description, type Route } from './support/description.ts';
import { digestOfTables } from './support/digest.ts';
import { Requests, type Asked } from './support/requests.ts';

// A client that knows the API from its description alone.
const FITTING = 500;
const MISFITTING = 2_000;

let api: Api;
let description: Description;
let schemas: Schemas;
let requests: Requests;
let routes: Route[];
const driven: Promise<unknown>[] = [];

beforeAll(async () => {
  api = await openApi({
    // Streams that end, so that every answer does.
    events: { pollMs: 20, lifetimeMs: 30 },
    onRotationRequested: (id) => driven.push(api.keyring.rotations.run(id).catch(() => undefined)),
    onWrappingRotationRequested: (id) => driven.push(api.keyring.wrappingKeys.run(id).catch(() => undefined)),
  });
  const { keyring } = api;
  const ids: string[] = [];
  for (const name of ['acme', 'globex', 'initech']) {
    const { id } = await keyring.projects.create({ name });
    for (const secret of ['A', 'B']) await keyring.secrets.put(id, secret, `the value of ${secret}`);
    ids.push(id);
  }
  const done = await keyring.rotations.request({ projects: ids.slice(0, 1) });
  await keyring.rotations.run(done.id);
  const open = await keyring.rotations.request({ projects: ids.slice(1, 2) });
  await keyring.rotations.pause(open.id);
  // So that what takes two people is asked for.
  for (const person of ['person:ada', 'person:bob']) {
    await keyring.access.grants.add({ person, role: 'instance_admin' });
  }
  const keys = await keyring.keys.list();
  const wrapping = await keyring.wrappingKeys.list();
  const known = {
    ids: [...ids, done.id, open.id, ...keys.map(({ id }) => id), ...wrapping.map(({ id }) => id)],
    names: ['acme', 'globex', 'A', 'B', 'C'],
  };
  const { json } = await api.send('GET', '/api/openapi.json', undefined, { authorization: '' });
  description = json as unknown as Description;
  schemas = new Schemas(description);
  requests = new Requests(schemas, known);
  routes = routesOf(description);
});
afterAll(async () => {
  await Promise.all(driven);
  await api[Symbol.asyncDispose]();
});

async function send({ method, target, headers, body }: Asked): Promise<Response> {
  return api.fetch(
    new Request(`http://127.0.0.1:8080${target}`, {
      method,
      headers: { authorization: `Bearer ${tokens.admin}`, ...headers },
      ...(body === undefined ? {} : { body: Uint8Array.from(body) }),
    }),
  );
}

it('the description is OpenAPI 3.1, and says of every route but the open ones who may come in', async () => {
  const { valid, errors } = await new Validator().validate(structuredClone(description) as never);
  expect({ valid, errors }).toEqual({ valid: true, errors: undefined });
  expect(routes.length).toBeGreaterThan(40);
  const open = routes.filter(({ operation }) => operation.security === undefined).map(({ path }) => path);
  expect(open.toSorted()).toEqual(['/api/openapi.json', '/healthz', '/readyz']);
});

it('every list goes on by a cursor, but for the few processes and keys above', () => {
  const lists = routes.flatMap(({ method, path: at, operation }) => {
    const name = operation.responses['200']?.content?.['application/json']?.schema.$ref?.split('/').at(-1) ?? '';
    return method === 'GET' && /(List|Log|Timeline)$/.test(name) ? [{ at, name, operation }] : [];
  });
  const isPaged = ({ name, operation }: (typeof lists)[number]): boolean =>
    ['limit', 'cursor'].every((wanted) => operation.parameters?.some((parameter) => parameter.name === wanted)) &&
    description.components.schemas[name]?.required?.includes('next') === true;
  expect(lists.length).toBeGreaterThan(15);
  expect(
    lists
      .filter((list) => !isPaged(list))
      .map(({ at }) => at)
      .toSorted(),
  ).toEqual(['/api/instances', '/api/root-keys', '/api/workers', '/api/wrapping-keys']);
});

it('docs/http-api.md lists every route', async () => {
  const text = await readFile(path.join(import.meta.dirname, '../../../docs/http-api.md'), 'utf8');
  const listed = [...text.matchAll(/^\| (`[A-Z].*?) \|/gm)].map(([, cell = '']) => cell);
  const missing = routes.filter(({ method, path: at }) => {
    const address = at.replaceAll(/\{\w+\}/g, ':x');
    return !listed.some((cell) => cell.includes(method) && cell.replaceAll(/:\w+/g, ':x').endsWith(`${address}\``));
  });
  expect(missing.map(({ method, path: at }) => `${method} ${at}`)).toEqual([]);
});

it(`${String(FITTING)} requests that fit the description get answers that fit it`, async () => {
  const seen = new Map<string, Set<number>>();
  const one = fc.constantFrom(...routes).chain((route) => fc.tuple(fc.constant(route), requests.fitting(route)));
  await fc.assert(
    fc.asyncProperty(one, async ([route, asked]) => {
      const response = await send(asked);
      const { status } = response;
      const text = await response.text();
      const at = `${asked.method} ${asked.target} → ${String(status)} ${text.slice(0, 500)}`;
      const described = route.operation.responses[String(status)];
      expect(described, at).toBeDefined();
      expect(status, at).toBeLessThan(500);
      const type = response.headers.get('content-type')?.split(';')[0] ?? '';
      if (status === 204) return;
      const schema = described?.content?.[type]?.schema;
      expect(schema, `${type}: ${at}`).toBeDefined();
      if (schema !== undefined && /[/+]json$/.test(type)) {
        expect(schemas.misfit(schema, JSON.parse(text), { closed: true }), at).toBeUndefined();
      }
      const statuses = seen.get(`${route.method} ${route.path}`) ?? new Set();
      seen.set(`${route.method} ${route.path}`, statuses.add(status));
    }),
    { numRuns: FITTING },
  );
  const succeeded = [...seen].filter(([, statuses]) => [...statuses].some((status) => status < 300));
  // Not one route that the client never got right; some act only on what is rarely there.
  expect(succeeded.length).toBeGreaterThan(20);
});

it(`${String(MISFITTING)} malformed ones get a 4xx problem each, never a 5xx, and change nothing`, async () => {
  await Promise.all(driven);
  const before = await digestOfTables(api.adminUrl);
  const failures = api.errors.length;
  const ways = new Map<string, number>();
  const problemSchema = { $ref: '#/components/schemas/Problem' };
  const guarded = routes.filter(({ operation }) => operation.security !== undefined);
  const one = fc.constantFrom(...guarded).chain((route) => requests.misfitting(route));
  await fc.assert(
    fc.asyncProperty(one, async (asked) => {
      const response = await send(asked);
      const text = await response.text();
      const at = `${asked.what}: ${asked.method} ${asked.target} → ${String(response.status)} ${text.slice(0, 500)}`;
      expect(response.status, at).toBeGreaterThanOrEqual(400);
      expect(response.status, at).toBeLessThan(500);
      expect(response.headers.get('content-type'), at).toBe('application/problem+json');
      const problem = JSON.parse(text) as { status: number; code: keyof typeof statusOfCode };
      expect(schemas.misfit(problemSchema, problem, { closed: true }), at).toBeUndefined();
      expect(problem.status, at).toBe(response.status);
      expect(statusOfCode[problem.code], at).toBe(response.status);
      ways.set(asked.what, (ways.get(asked.what) ?? 0) + 1);
    }),
    { numRuns: MISFITTING },
  );
  expect(await digestOfTables(api.adminUrl)).toEqual(before);
  expect(api.errors.length).toBe(failures);
  expect(Math.min(...ways.values())).toBeGreaterThan(10);
  expect(ways.size).toBe(10);
});
