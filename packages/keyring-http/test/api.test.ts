import { KeyringError } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import fc from '../../../test/support/seeded.ts';
import { keyringHandler, tokenDigest } from '../src/index.ts';
import { query } from '../../../test/support/database.ts';
import { answer, openApi, tokens, type Answer, type Api } from './support/api.ts';

const rotatePath = '/api/keys/rotate';
const admin = { authorization: `Bearer ${tokens.admin}` };
const nowhere = '00000000-0000-4000-8000-000000000000';
const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let api: Api;
let projectId: string;
beforeAll(async () => {
  api = await openApi();
  projectId = (await api.keyring.projects.create({ name: 'acme' })).id;
  await api.keyring.secrets.put(projectId, 'STRIPE_KEY', 'sk_live_never_shown');
});
afterAll(() => api[Symbol.asyncDispose]());

describe('who may', () => {
  const routes: [string, string, 'keys:read' | 'keys:rotate'][] = [
    ['GET', '/api/keys', 'keys:read'],
    ['GET', '/api/rotations', 'keys:read'],
    ['GET', `/api/rotations/${nowhere}`, 'keys:read'],
    ['POST', rotatePath, 'keys:rotate'],
    ['POST', `/api/rotations/${nowhere}/pace`, 'keys:rotate'],
  ];

  it.each(routes)('%s %s wants a token, a known one, with the permission %s', async (method, address, permission) => {
    const body = method === 'POST' ? {} : undefined;
    const none = await api.send(method, address, body, { authorization: '' });
    expect(none).toMatchObject({ status: 401, json: { code: 'unauthenticated' } });
    expect(none.headers.get('www-authenticate')).toBe('Bearer realm="meshhook-keyring"');

    const wrong = await api.send(method, address, body, { authorization: 'Bearer mhk_wrong' });
    expect(wrong).toMatchObject({ status: 401, json: { code: 'unauthenticated' } });
    expect(wrong.headers.get('www-authenticate')).toContain('error="invalid_token"');
    expect(wrong.text).not.toContain('mhk_wrong');

    const other = permission === 'keys:read' ? tokens.rotator : tokens.reader;
    const lacking = await api.send(method, address, body, { authorization: `Bearer ${other}` });
    expect(lacking).toMatchObject({ status: 403, json: { code: 'forbidden', details: { permission } } });
    expect(lacking.headers.get('www-authenticate')).toContain(`scope="${permission}"`);

    const right = permission === 'keys:read' ? tokens.reader : tokens.rotator;
    const allowed = await api.send(method, address, body, { authorization: `Bearer ${right}` });
    expect([401, 403]).not.toContain(allowed.status);
  });

  it('a refused caller changes nothing, and its body is not even read', async () => {
    const before = (await api.keyring.rotations.list()).length;
    const body = new ReadableStream<Uint8Array>({
      pull: () => {
        throw new Error('the body was read');
      },
    });
    const request = new Request(`http://x${rotatePath}`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
      duplex: 'half',
    });
    expect((await api.fetch(request)).status).toBe(401);
    expect(await api.keyring.rotations.list()).toHaveLength(before);
  });

  it('without any token nothing but health is served', async () => {
    const handler = keyringHandler({ keyring: api.keyring, tokens: [], version: '1.2.3' });
    expect((await handler(new Request('http://x/api/keys'))).status).toBe(401);
    const health = await answer(await handler(new Request('http://x/healthz')));
    expect(health).toMatchObject({ status: 200, json: { status: 'ok', version: '1.2.3' } });
  });
});

describe('health', () => {
  it('/healthz and /readyz are open', async () => {
    expect(await api.send('GET', '/healthz', undefined, { authorization: '' })).toMatchObject({
      status: 200,
      json: { status: 'ok' },
    });
    expect(await api.send('GET', '/readyz', undefined, { authorization: '' })).toMatchObject({
      status: 200,
      json: { status: 'ready' },
    });
  });

  it('/readyz says why it is not, by code; /healthz stays alive', async () => {
    const ready = () => Promise.reject(new KeyringError('not_migrated', 'The database at db.internal has no schema.'));
    const handler = keyringHandler({ keyring: { ...api.keyring, ready }, tokens: [], onError: () => undefined });
    const response = await answer(await handler(new Request('http://x/readyz')));
    expect(response).toMatchObject({ status: 503, json: { code: 'not_migrated', status: 503 } });
    expect(response.text).not.toContain('db.internal');
    expect((await handler(new Request('http://x/healthz'))).status).toBe(200);
  });
});

describe('rotate', () => {
  it('is accepted with its address, and followed there until it is completed', async () => {
    const accepted = await api.send('POST', rotatePath, { projects: ['acme'], reason: 'routine' });
    expect(accepted.status).toBe(202);
    const location = accepted.headers.get('location') ?? '';
    expect(location).toBe(`/api/rotations/${accepted.json.id}`);
    expect(accepted.json).toMatchObject({ state: 'requested', trigger: 'api', reason: 'routine', finishedAt: null });
    expect(accepted.json.requestedAt).toMatch(rfc3339);
    expect(api.requested.at(-1)).toBe(accepted.json.id);

    const again = await api.send('POST', rotatePath, { projects: [projectId] });
    expect(again).toMatchObject({ status: 409, json: { code: 'rotation_in_progress' } });
    expect(again.json.details.rotationIds).toEqual([accepted.json.id]);

    const run = api.keyring.rotations.run(accepted.json.id);
    let followed = await api.send('GET', location);
    while (followed.json.finishedAt === null) followed = await api.send('GET', location);
    await run;
    expect(followed.json).toMatchObject({
      state: 'completed',
      projects: { total: 1, completed: 1 },
      rows: { moved: 1, verified: 1, quarantined: 0 },
      projectDetails: [{ projectId, projectName: 'acme', state: 'completed', sourceVersion: 1, targetVersion: 2 }],
      quarantine: [],
    });
    expect(followed.json.durationMs).toBeGreaterThan(0);
    expect(followed.json.projectDetails[0]?.finishedAt).toMatch(rfc3339);
    expect((await api.keyring.secrets.get(projectId, 'STRIPE_KEY'))?.value).toBe('sk_live_never_shown');
  });

  it('its pace is asked for with it, and changed while it is open', async () => {
    const asked = await api.send('POST', rotatePath, { projects: [projectId], fullSpeed: true, maxRate: 50 });
    expect(asked).toMatchObject({ status: 202, json: { pace: 'full', maxRate: 50 } });
    const { id } = asked.json as { id: string };
    const pace = `/api/rotations/${id}/pace`;
    const changed = await api.send('POST', pace, { fullSpeed: false, maxRate: null });
    expect(changed).toMatchObject({ status: 200, json: { id, pace: 'polite', maxRate: null } });
    for (const body of [{}, { maxRate: 0 }, { pace: 'full' }]) {
      expect(await api.send('POST', pace, body)).toMatchObject({ status: 400, json: { code: 'invalid_argument' } });
    }
    const nobodys = await api.send('POST', `/api/rotations/${nowhere}/pace`, { maxRate: 1 });
    expect(nobodys).toMatchObject({ status: 404, json: { code: 'unknown_rotation' } });
    await api.keyring.rotations.run(id);
    const late = await api.send('POST', pace, { fullSpeed: true });
    expect(late).toMatchObject({ status: 409, json: { code: 'rotation_not_open' } });
  });

  it('all means every project that has a key', async () => {
    const accepted = await api.send('POST', rotatePath, { all: true });
    expect(accepted).toMatchObject({ status: 202, json: { scope: 'all', projects: { total: 1 } } });
    await api.keyring.rotations.run(accepted.json.id);
  });

  it('a runner that fails to listen does not undo the acceptance', async () => {
    await using other = await openApi({
      onRotationRequested: () => {
        throw new Error('deaf');
      },
    });
    const project = await other.keyring.projects.create({ name: 'p' });
    await other.keyring.secrets.put(project.id, 'A', 'a');
    expect((await other.send('POST', rotatePath, { all: true })).status).toBe(202);
    expect(other.errors).toHaveLength(1);
  });

  it.each([
    ['neither', {}, 'give one of projects, all and match'],
    ['both', { projects: ['acme'], all: true }, 'give one of projects, all and match'],
    ['all that is not true', { all: false }, 'all: '],
    ['no project', { projects: [] }, 'projects: '],
    ['an empty name', { projects: [''] }, 'projects.0: '],
    ['too many', { projects: Array.from({ length: 1001 }, (_, i) => String(i)) }, 'projects: '],
    ['a number', { projects: [7] }, 'projects.0: '],
    ['NUL in a name', { projects: ['a\0b'] }, 'projects.0: has control characters in it'],
    ['half a surrogate pair', { projects: ['\ud800'] }, 'projects.0: has control characters in it'],
    ['NUL in the reason', { all: true, reason: '\0' }, 'reason: has control characters in it'],
    ['a long reason', { all: true, reason: 'x'.repeat(1001) }, 'reason: '],
    ['an unknown field', { all: true, fullspeed: true }, 'fullspeed: unknown field'],
    ['two unknown fields', { all: true, a: 1, b: 2 }, 'a: unknown field; b: unknown field'],
    ['a prototype', '{"all":true,"__proto__":{"x":1}}', '__proto__: unknown field'],
    ['an array', [], 'expected object'],
    ['null', 'null', 'expected object'],
  ])('refuses %s, and names the field', async (_, body, said) => {
    const refused = await api.send('POST', rotatePath, body);
    expect(refused).toMatchObject({ status: 400, json: { code: 'invalid_argument' } });
    expect(refused.json.detail).toContain(said);
    expect(refused.json.fields.length).toBeGreaterThan(0);
  });

  it('a project that is not there, is there twice, or has no key, is refused by its own code', async () => {
    expect(await api.send('POST', rotatePath, { projects: ['nobody'] })).toMatchObject({
      status: 404,
      json: { code: 'unknown_project' },
    });
    const twins = await Promise.all([1, 2].map(() => api.keyring.projects.create({ name: 'twin' })));
    const ambiguous = await api.send('POST', rotatePath, { projects: ['twin'] });
    expect(ambiguous).toMatchObject({ status: 409, json: { code: 'ambiguous_project' } });
    expect(ambiguous.json.details.ids.sort()).toEqual(twins.map(({ id }) => id).sort());
    expect(await api.send('POST', rotatePath, { projects: [twins[0]?.id] })).toMatchObject({
      status: 409,
      json: { code: 'nothing_to_rotate' },
    });
  });

  it.each(['{', '', '{"all":true', 'all=true', '\ufeff{}}', '{"all":true}}', 'undefined', '\u0000'])(
    'the body %j is no JSON',
    async (body) => {
      const refused = await api.send('POST', rotatePath, body);
      expect(refused).toMatchObject({ status: 400, json: { code: 'malformed_json' } });
    },
  );

  it('a body of more than 64 KiB is refused, declared or streamed', async () => {
    const large = JSON.stringify({ all: true, reason: 'x'.repeat(65_536) });
    const declared = await api.send('POST', rotatePath, large, { 'content-length': String(large.length) });
    expect(declared).toMatchObject({ status: 413, json: { code: 'body_too_large', details: { limit: 65_536 } } });
    const streamed = await api.fetch(
      new Request(`http://x${rotatePath}`, {
        method: 'POST',
        body: new Blob([large]).stream(),
        headers: { 'content-type': 'application/json', authorization: `Bearer ${tokens.all}` },
        duplex: 'half',
      }),
    );
    expect(streamed.status).toBe(413);
  });

  it.each([
    ['does not come', 408, 'body_too_slow', () => undefined],
    ['comes in part', 408, 'body_too_slow', (body) => body.enqueue(new TextEncoder().encode('{"all":'))],
    ['breaks off', 400, 'malformed_json', (body) => body.error(new Error('the client is gone'))],
  ] satisfies [string, number, string, (body: ReadableStreamDefaultController) => void][])(
    'a body that %s is refused, whether its length was declared or not, and changes nothing',
    async (_, status, code, start) => {
      const handler = keyringHandler({
        keyring: api.keyring,
        tokens: [{ name: 'all', digest: tokenDigest(tokens.all), scopes: ['rotate'] }],
        bodyTimeoutMs: 30,
        onError: (error, id) => api.errors.push({ error, id }),
      });
      const before = { rotations: await api.keyring.rotations.list(), errors: api.errors.length };
      for (const length of [{ 'content-length': '12' }, {}]) {
        const request = new Request(`http://x${rotatePath}`, {
          method: 'POST',
          body: new ReadableStream({ start }),
          headers: { 'content-type': 'application/json', authorization: `Bearer ${tokens.all}`, ...length },
          duplex: 'half',
        });
        expect(await answer(await handler(request))).toMatchObject({ status, json: { code } });
      }
      expect({ rotations: await api.keyring.rotations.list(), errors: api.errors.length }).toEqual(before);
    },
  );

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonx'])(
    'a body declared as %s is refused',
    async (type) => {
      const refused = await api.send('POST', rotatePath, '{"all":true}', { 'content-type': type });
      expect(refused).toMatchObject({ status: 415, json: { code: 'unsupported_media_type' } });
    },
  );

  it('a body without a declared type is refused', async () => {
    const refused = await api.fetch(
      new Request(`http://x${rotatePath}`, {
        method: 'POST',
        body: new TextEncoder().encode('{"all":true}'),
        headers: { authorization: `Bearer ${tokens.all}` },
      }),
    );
    expect(refused.status).toBe(415);
  });
});

describe('lists', () => {
  it('rotations come newest first, page by page, each once', async () => {
    for (let i = 0; i < 3; i++) {
      const { json } = await api.send('POST', rotatePath, { projects: ['acme'] });
      await api.keyring.rotations.run(json.id);
    }
    const expected = (await api.keyring.rotations.list({ limit: 500 })).map(({ id }) => id);
    const seen: string[] = [];
    let next: string | null = null;
    do {
      const page = await api.send('GET', `/api/rotations?limit=2${next ? `&cursor=${next}` : ''}`);
      expect(page.status).toBe(200);
      seen.push(...page.json.rotations.map((one) => one.id));
      next = page.json.next;
    } while (next !== null);
    expect(seen).toEqual(expected);
  });

  it('keys are listed by project, without key bytes, and say when there are more', async () => {
    const other = await api.keyring.projects.create({ name: 'zeta' });
    await api.keyring.secrets.put(other.id, 'A', 'a');
    const all = await api.send('GET', '/api/keys');
    expect(all.json.next).toBeNull();
    const active = all.json.keys.filter((one) => one.active);
    expect(active.map((one) => one.projectName)).toEqual(['acme', 'zeta']);
    expect(active[0]).toMatchObject({ status: 'active', rows: 1, destroyedAt: null });
    expect(active[0]?.createdAt).toMatch(rfc3339);
    expect(all.text).not.toMatch(/wrapped|sk_live/);

    const one = await api.send('GET', '/api/keys?limit=1');
    expect(one.json.next).not.toBeNull();
    expect(new Set(one.json.keys.map((key) => key.projectName))).toEqual(new Set(['acme']));
    const named = await api.send('GET', '/api/keys?project=zeta');
    expect(named.json.keys).toHaveLength(1);
    expect((await api.send('GET', '/api/keys?project=nobody')).status).toBe(404);
  });

  it('go on after any name that is stored, and take no cursor that somebody made up', async () => {
    // As they may be there from before the keyring.
    const names = ['odd \u0001 one', `odd ${'x'.repeat(1_500)}`];
    for (const name of names) {
      await query(api.adminUrl, `insert into public.projects (id, owner, name) values (gen_random_uuid(), $1, $2)`, [
        nowhere,
        name,
      ]);
    }
    const seen: string[] = [];
    for (let next: string | null | undefined = ''; typeof next === 'string';) {
      const page: Answer = await api.send('GET', `/api/projects?search=odd&limit=1${next && `&cursor=${next}`}`);
      seen.push(...page.json.projects.map(({ name }) => name));
      next = page.json.next;
    }
    expect(seen.toSorted()).toEqual(names.toSorted());
    await query(api.adminUrl, `delete from public.projects where name like 'odd %'`);

    const forged: readonly [string, unknown][] = [
      ['/api/projects', { name: '\0', id: nowhere }],
      ['/api/projects', { name: '\ud800', id: nowhere }],
      ['/api/projects', { name: 'a', id: "' or true" }],
      ['/api/keys', { projectName: '\0', projectId: nowhere, version: 1 }],
      ['/api/keys', { projectName: 'a', projectId: nowhere, version: 1e15 }],
      ['/api/keys', { name: 'a', id: nowhere }],
      [`/api/projects/${projectId}/secrets`, '\0'],
      [`/api/projects/${projectId}/secrets`, 7],
      ['/api/audit', '9'.repeat(19)],
      ['/api/audit', -1],
      ['/api/quarantine', '1; drop table'],
      ['/api/tokens', 'x'],
      ['/api/grants', { person: '\0', role: 'auditor', projectId: null }],
      ['/api/grants', { person: 'operator', role: 'auditor', projectId: 'x' }],
      ['/api/grants', { person: 'operator', role: 'root', projectId: null }],
      ['/api/approvals', 7],
      ['/api/rotations', 'a'.repeat(36)],
    ];
    for (const [address, position] of forged) {
      const cursor = Buffer.from(JSON.stringify(position)).toString('base64url');
      const refused = await api.send('GET', `${address}?cursor=${cursor}`, undefined, admin);
      expect(refused, `${address} ${JSON.stringify(position)}`).toMatchObject({ status: 400 });
    }
    // One that says what is, of something that is not there, is the place after it and tells nothing.
    const unknown = Buffer.from(JSON.stringify(nowhere)).toString('base64url');
    expect((await api.send('GET', `/api/rotations?cursor=${unknown}`)).json.rotations).toEqual([]);
  });

  it.each([
    'limit=0',
    'limit=201',
    'limit=x',
    'limit=1.5',
    'limit=1&limit=2',
    'cursor=x',
    'cursor=WzFd',
    'before=x',
    'colour=red',
    'limit=',
  ])('/api/rotations?%s is refused', async (query) => {
    const refused = await api.send('GET', `/api/rotations?${query}`);
    expect(refused).toMatchObject({ status: 400, json: { code: 'invalid_argument' } });
  });

  it.each([nowhere, 'x', '%00', '..%2f..', "'; drop table x; --", 'a'.repeat(3000)])(
    'the rotation %s is unknown',
    async (id) => {
      const missing = await api.send('GET', `/api/rotations/${encodeURI(id)}`);
      expect(missing).toMatchObject({ status: 404, json: { code: 'unknown_rotation' } });
      expect(missing.text).not.toContain('drop table');
    },
  );
});

describe('every answer', () => {
  it('another method is answered with those that work', async () => {
    const refused = await api.send('DELETE', '/api/rotations');
    expect(refused).toMatchObject({ status: 405, json: { code: 'method_not_allowed' } });
    expect(refused.headers.get('allow')).toBe('GET, HEAD');
    expect((await api.send('PUT', `/api/rotations/${nowhere}/pace`)).headers.get('allow')).toBe('POST');
    expect((await api.send('OPTIONS', rotatePath)).status).toBe(405);
    expect(await api.fetch(new Request('http://x/healthz', { method: 'HEAD' }))).toMatchObject({
      status: 200,
      body: null,
    });
  });

  it.each(['/', '/api', '/api/', '/api/secrets', '/api/keys/', '/api/keys/rotate/x', '/healthz/x', '/API/KEYS'])(
    '%s is nothing',
    async (address) => {
      expect(await api.send('GET', address)).toMatchObject({ status: 404, json: { code: 'unknown_route' } });
    },
  );

  it('has the headers that keep browsers out, and is not cached', async () => {
    const answers = [
      await api.send('GET', '/healthz'),
      await api.send('GET', '/api/keys'),
      await api.send('GET', '/api/keys', undefined, { authorization: '' }),
      await api.send('GET', '/nothing'),
      await api.send('PUT', '/api/keys'),
      await api.send('POST', rotatePath, '{'),
    ];
    for (const { headers } of answers) {
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(headers.get('access-control-allow-origin')).toBeNull();
    }
  });

  it('2,000 malformed requests get a 4xx problem each, never a 5xx, and change nothing', async () => {
    const before = { rotations: await api.keyring.rotations.list({ limit: 500 }), errors: api.errors.length };
    const methods = fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS');
    const addresses = fc.oneof(
      fc.constantFrom(rotatePath, '/api/keys', '/api/rotations'),
      fc.string({ unit: 'binary' }).map((text) => `/api/rotations/${encodeURIComponent(text.toWellFormed())}`),
      fc.webPath().map((text) => `/api/x${text}`),
    );
    const bodies = fc.oneof(
      fc.string(),
      fc.json(),
      fc.record({ projects: fc.anything(), all: fc.anything(), extra: fc.anything() }).map(safeJson),
    );
    const queries = fc.oneof(
      fc.constant(''),
      fc.webQueryParameters().map((text) => `?nonsense=1&${text}`),
    );
    const types = fc.constantFrom('application/json', 'application/json; charset=utf-8', 'text/plain', 'x');
    await fc.assert(
      fc.asyncProperty(methods, addresses, queries, bodies, types, async (method, address, query, body, type) => {
        // The two lists, asked for nothing, are well-formed.
        const isList = method === 'GET' && (address === '/api/keys' || address === '/api/rotations') && query === '';
        const sent = method === 'GET' ? undefined : body;
        const { status, json } = await api.send(
          method,
          `${address}${query}`,
          sent,
          sent === undefined ? {} : { 'content-type': type },
        );
        expect(status).toBeGreaterThanOrEqual(isList ? 200 : 400);
        expect(status).toBeLessThan(500);
        if (!isList) expect(json).toMatchObject({ status, code: expect.any(String) as string });
      }),
      { numRuns: 2_000 },
    );
    expect({ rotations: await api.keyring.rotations.list({ limit: 500 }), errors: api.errors.length }).toEqual(before);
  });
});

/** Never a good request: `extra` is unknown. */
function safeJson(value: { extra: unknown }): string {
  try {
    return JSON.stringify({ ...value, extra: value.extra ?? null });
  } catch {
    return '{"projects":';
  }
}
