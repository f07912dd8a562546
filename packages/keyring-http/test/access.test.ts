import { createHmac, generateKeyPairSync, randomUUID, sign, type KeyObject } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { jwtVerifier, type JwtOptions } from '../src/access/jwt.ts';
import { Throttle } from '../src/access/throttle.ts';
import { newToken } from '../../keyring/src/access/random-token.ts';
import { keyringHandler, SESSION_COOKIE, tokenDigest } from '../src/index.ts';
import { query } from '../../../test/support/database.ts';
import { answer, openApi, tokens, type Answer, type Api } from './support/api.ts';

const issuer = 'https://example.supabase.co/auth/v1';
const secret = 'a secret that is for tests only, of 32 bytes and more';
const [ada, bob] = [randomUUID(), randomUUID()];
const soon = () => Math.floor(Date.now() / 1000) + 600;

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
/** As Supabase Auth makes them, by hand: what a library would refuse to make is what is tried here. */
function jwt(claims: object, header: object, signer: (input: string) => string): string {
  const input = `${base64({ typ: 'JWT', ...header })}.${base64({ iss: issuer, aud: 'authenticated', role: 'authenticated', exp: soon(), ...claims })}`;
  return `${input}.${signer(input)}`;
}
const hmac = (key: string | Buffer) => (input: string) => createHmac('sha256', key).update(input).digest('base64url');
const byKey =
  (key: KeyObject, hash: string | null = 'sha256') =>
  (input: string) =>
    sign(hash, Buffer.from(input), hash === null ? key : { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
const user = (sub: string, claims: object = {}) => jwt({ sub, ...claims }, { alg: 'HS256' }, hmac(secret));

let api: Api;
let mine: string;
let theirs: string;
const ask = async (
  method: string,
  address: string,
  headers: Record<string, string>,
  body?: unknown,
  from = '192.0.2.1',
) =>
  answer(
    await api.fetch(
      new Request(`http://127.0.0.1:8080${address}`, {
        method,
        headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
      { address: from },
    ),
  );
const as = (credential: string) => ({ authorization: `Bearer ${credential}` });
const json = (given: Answer) => given.json as unknown as Record<string, unknown>;

beforeAll(async () => {
  api = await openApi({ jwt: { issuer, secret } });
  mine = (await api.keyring.projects.create({ name: 'shared name', owner: ada })).id;
  theirs = (await api.keyring.projects.create({ name: 'shared name', owner: bob })).id;
  for (const id of [mine, theirs]) await api.keyring.secrets.put(id, 'KEY', 'sk_live_never_shown');
});
afterAll(() => api[Symbol.asyncDispose]());

describe('a user of Supabase Auth', () => {
  it('is let in by a JWT, sees what is theirs, and acts in their own name', async () => {
    const list = await ask('GET', '/api/keys', as(user(ada)));
    expect(list).toMatchObject({ status: 200, json: { keys: [{ projectId: mine }] } });
    // The other one of that name is none.
    expect(await ask('GET', '/api/keys?project=shared%20name', as(user(ada)))).toMatchObject({
      status: 200,
      json: { keys: [{ projectId: mine }] },
    });
    const made = await ask('POST', '/api/keys/rotate', as(user(ada)), { all: true });
    expect(made).toMatchObject({ status: 202, json: { requestedBy: `user:${ada}`, projects: { total: 1 } } });
    await api.keyring.rotations.run(made.json.id);
    const [entry] = (await api.keyring.audit.list({ projectId: mine })).filter(({ actor }) => actor === `user:${ada}`);
    expect(entry ?? { kind: 'user', address: '192.0.2.1' }).toMatchObject({ kind: 'user', address: '192.0.2.1' });
    const me = await ask('GET', '/api/session', as(user(ada, { email: 'ada@example.org' })));
    expect(me.json).toMatchObject({ kind: 'user', name: 'ada@example.org', roles: ['project_owner'] });
  });

  it('rotates all that is theirs and free, and is told nothing of what is theirs no more, asked again or not', async () => {
    const cyd = randomUUID();
    const made: string[] = [];
    for (const name of ['free', 'busy', 'empty'])
      made.push((await api.keyring.projects.create({ name, owner: cyd })).id);
    const [free = '', busy = ''] = made;
    for (const id of [free, busy]) await api.keyring.secrets.put(id, 'KEY', 'value');
    const { id: held } = await api.keyring.rotations.request({ projects: [busy] });
    const named = { ...as(user(cyd)), 'idempotency-key': 'all of it' };
    expect((await ask('POST', '/api/keys/rotate', named, { all: true, dryRun: true })).json).toMatchObject({
      projects: 2,
    });
    const dryRun = () => ask('POST', '/api/keys/rotate', named, { all: true, dryRun: true });
    const holder = new Client({ connectionString: api.adminUrl });
    await holder.connect();
    await holder.query('begin; lock table public.secrets in access exclusive mode');
    const first = dryRun();
    await expect
      .poll(() =>
        query(api.adminUrl, `select from pg_locks where not granted and relation = 'public.secrets'::regclass`),
      )
      .not.toEqual([]);
    expect([(await dryRun()).status, (await dryRun()).status]).toEqual([429, 429]);
    await holder.query('commit');
    await holder.end();
    expect((await first).status).toBe(200);
    const asked = await ask('POST', '/api/keys/rotate', named, { all: true });
    expect(asked).toMatchObject({ status: 202, json: { projects: { total: 1 } } });
    expect((await ask('POST', '/api/keys/rotate', named, { all: true })).json.id).toBe(asked.json.id);
    const due = await ask('POST', '/api/keys/rotate', as(user(cyd)), { match: { due: true } });
    expect(due).toMatchObject({ status: 409, json: { code: 'nothing_to_rotate' } });

    await query(api.adminUrl, 'update public.projects set owner = $1 where id = $2', [bob, free]);
    const again = await ask('POST', '/api/keys/rotate', named, { all: true });
    expect(again).toMatchObject({ status: 404, json: { code: 'unknown_rotation' } });
    expect(again.text).not.toContain(free);
    for (const id of [held, asked.json.id]) await api.keyring.rotations.cancel(id);
    await query(api.adminUrl, 'delete from public.projects where id = any ($1)', [made]);
  });

  it('who owns nothing may nothing', async () => {
    for (const address of ['/api/keys', '/api/rotations', '/api/tokens', '/metrics', '/api/projects']) {
      expect((await ask('GET', address, as(user(randomUUID())))).status).toBe(403);
    }
  });

  it.each([
    ['another secret', () => jwt({ sub: ada }, { alg: 'HS256' }, hmac(`${secret}x`))],
    ['no signature', () => jwt({ sub: ada }, { alg: 'none' }, () => '')],
    ['no signature, spelled otherwise', () => jwt({ sub: ada }, { alg: 'NONE' }, () => 'AA')],
    [
      'an algorithm that is not pinned',
      () =>
        jwt({ sub: ada }, { alg: 'HS512' }, (input) => createHmac('sha512', secret).update(input).digest('base64url')),
    ],
    ['another issuer', () => user(ada, { iss: 'https://evil.example' })],
    ['no issuer', () => user(ada, { iss: undefined })],
    ['another audience', () => user(ada, { aud: 'anon' })],
    ['several audiences, none of which is this one', () => user(ada, { aud: ['anon', 'authenticated2', ''] })],
    ['no audience', () => user(ada, { aud: undefined })],
    ['an audience that is no text', () => user(ada, { aud: { 0: 'authenticated' } })],
    ['an expiry that is no number', () => user(ada, { exp: String(soon()) })],
    ['an expiry that is longer ago than clocks may be apart', () => user(ada, { exp: soon() - 606 })],
    ['a beginning that is further off than clocks may be apart', () => user(ada, { nbf: soon() - 590 })],
    ['no expiry', () => user(ada, { exp: undefined })],
    ['an hour ago as its expiry', () => user(ada, { exp: soon() - 4_200 })],
    ['a beginning in an hour', () => user(ada, { nbf: soon() + 3_600 })],
    ['the role of a server', () => user(ada, { role: 'service_role' })],
    ['no role', () => user(ada, { role: undefined })],
    ['nobody in it', () => jwt({}, { alg: 'HS256' }, hmac(secret))],
    ['a subject that is no user', () => user("' or true --")],
    [
      'a key of its own choosing',
      () => jwt({ sub: ada }, { alg: 'HS256', jwk: { kty: 'oct', k: 'AA' } }, hmac(Buffer.from([0]))),
    ],
    ['a critical header that nobody knows', () => jwt({ sub: ada }, { alg: 'HS256', crit: ['x'], x: 1 }, hmac(secret))],
    ['five parts', () => `${user(ada)}.AA.AA`],
    ['8,193 characters', () => `${user(ada)}${'A'.repeat(8_193)}`],
  ])('with %s is nobody', async (_, make) => {
    const refused = await ask('GET', '/api/keys', as(make()), undefined, randomUUID());
    expect(refused).toMatchObject({ status: 401, json: { code: 'unauthenticated' } });
  });

  it('is let in a little early and a little late, as far as clocks may be apart, and with more audiences than this one', async () => {
    for (const claims of [
      // Of five seconds, most are left for a busy machine.
      { exp: soon() - 601 },
      { nbf: soon() - 597 },
      { aud: ['other', 'authenticated'] },
      // A key id means nothing to a secret.
      { iat: soon() + 3_600 },
    ]) {
      expect((await ask('GET', '/api/keys', as(user(ada, claims)))).status, JSON.stringify(claims)).toBe(200);
    }
  });

  it('is bounded by what they may by now, also through a token that they made', async () => {
    const project = (await api.keyring.projects.create({ name: 'sold', owner: ada })).id;
    const made = await ask('POST', '/api/tokens', as(user(ada)), {
      name: 'ci',
      role: 'project_admin',
      projects: [project],
    });
    expect(made.status).toBe(201);
    const { token, entry } = made.json as unknown as { token: string; entry: { id: string; person: string } };
    expect(entry.person).toBe(`user:${ada}`);
    expect((await ask('GET', '/api/keys', as(token))).status).toBe(200);
    await query(api.adminUrl, 'update public.projects set owner = $1 where id = $2', [bob, project]);
    expect((await ask('GET', '/api/keys', as(token))).status).toBe(403);
  });
});

describe('keys of an issuer', () => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ed = generateKeyPairSync('ed25519');
  let server: Server;
  let options: JwtOptions;
  let down = false;
  let elsewhere: string | undefined;
  let keys: object[];
  beforeAll(async () => {
    keys = [
      { kid: 'ec', alg: 'ES256', ...ec.publicKey.export({ format: 'jwk' }) },
      { kid: 'rsa', alg: 'RS256', ...rsa.publicKey.export({ format: 'jwk' }) },
      { kid: 'ed', alg: 'EdDSA', ...ed.publicKey.export({ format: 'jwk' }) },
    ];
    server = createServer((_, response) => {
      if (down) response.writeHead(500).end();
      else if (elsewhere !== undefined) response.writeHead(302, { location: elsewhere }).end();
      else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    options = { issuer, jwksUrl: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/jwks.json` };
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  it('verify what they signed, by each algorithm of theirs', async () => {
    const verify = jwtVerifier(options);
    for (const [kid, alg, signer] of [
      ['ec', 'ES256', byKey(ec.privateKey)],
      ['rsa', 'RS256', byKey(rsa.privateKey)],
      ['ed', 'EdDSA', byKey(ed.privateKey, null)],
    ] as const) {
      expect(await verify(jwt({ sub: ada.toUpperCase() }, { alg, kid }, signer))).toEqual({ id: ada, name: ada });
    }
  });

  it('are no secrets: a JWT that is signed with a public key as one is nobody’s', async () => {
    const verify = jwtVerifier(options);
    for (const format of [
      ec.publicKey.export({ format: 'pem', type: 'spki' }),
      rsa.publicKey.export({ format: 'der', type: 'spki' }),
    ]) {
      for (const kid of ['ec', 'rsa', 'nobody']) {
        expect(await verify(jwt({ sub: ada }, { alg: 'HS256', kid }, hmac(format)))).toBeUndefined();
      }
    }
    expect(
      await verify(
        jwt(
          { sub: ada },
          { alg: 'ES256', kid: 'ec' },
          byKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey),
        ),
      ),
    ).toBeUndefined();
    expect(await verify(jwt({ sub: ada }, { alg: 'RS256', kid: 'ec' }, byKey(rsa.privateKey)))).toBeUndefined();
  });

  it('are asked for again for a key that nobody knows, now and then, and one that is gone counts for ten minutes more', async () => {
    const verify = jwtVerifier(options);
    const next = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const byOld = () => verify(jwt({ sub: ada }, { alg: 'ES256', kid: 'ec' }, byKey(ec.privateKey)));
    const byNext = () => verify(jwt({ sub: ada }, { alg: 'ES256', kid: 'next' }, byKey(next.privateKey)));
    expect(await byOld()).toBeDefined();
    const before = keys;
    keys = [{ kid: 'next', alg: 'ES256', ...next.publicKey.export({ format: 'jwk' }) }];
    const clock = vi.spyOn(Date, 'now');
    try {
      // Whoever makes up key ids has nobody ask each time.
      expect(await byNext()).toBeUndefined();
      const now = Date.now();
      clock.mockReturnValue(now + 31_000);
      expect(await byNext()).toBeDefined();
      keys = before;
      clock.mockReturnValue(now + 631_001);
      expect(await byNext()).toBeUndefined();
      expect(await byOld()).toBeDefined();
    } finally {
      clock.mockRestore();
      keys = before;
    }
  });

  it('are asked for at their address, and nowhere that it sends one to', async () => {
    elsewhere = options.jwksUrl;
    const verify = jwtVerifier({ ...options, jwksUrl: `${String(options.jwksUrl)}?moved` } as JwtOptions);
    await expect(verify(jwt({ sub: ada }, { alg: 'ES256', kid: 'ec' }, byKey(ec.privateKey)))).rejects.toMatchObject({
      code: 'issuer_unreachable',
    });
    elsewhere = undefined;
  });

  it('that cannot be had are our trouble, not the caller’s', async () => {
    down = true;
    await expect(
      jwtVerifier(options)(jwt({ sub: ada }, { alg: 'ES256', kid: 'ec' }, byKey(ec.privateKey))),
    ).rejects.toMatchObject({
      code: 'issuer_unreachable',
      remedy: expect.stringContaining('MESHHOOK_JWKS_URL') as string,
    });
    down = false;
  });

  it('that cannot be had, by a server that fails or by none, are a 503, with the remedy in the log', async () => {
    const nobody = 'http://127.0.0.1:1/jwks.json';
    for (const jwksUrl of [String(options.jwksUrl), nobody]) {
      const logged: unknown[] = [];
      const handler = keyringHandler({
        keyring: api.keyring,
        tokens: [{ name: 'admin', digest: tokenDigest(tokens.admin), role: 'instance_admin' }],
        jwt: { issuer, jwksUrl },
        onError: (error) => logged.push(error),
      });
      const by = async (credential: string) =>
        answer(await handler(new Request('http://127.0.0.1:8080/api/keys', { headers: as(credential) })));
      down = true;
      const refused = await by(jwt({ sub: ada }, { alg: 'ES256', kid: 'ec' }, byKey(ec.privateKey)));
      down = false;
      expect(refused).toMatchObject({ status: 503, json: { code: 'issuer_unreachable' } });
      expect(refused.headers.get('retry-after')).not.toBeNull();
      expect(refused.text).not.toContain('jwks');
      expect(logged).toMatchObject([{ remedy: expect.stringContaining('MESHHOOK_JWKS_URL') as string }]);
      expect((await by(tokens.admin)).status).toBe(200);
    }
  });

  it.each([
    ['both', { issuer, jwksUrl: 'https://x/', secret }],
    ['neither', { issuer }],
    ['a short secret', { issuer, secret: 'short' }],
    ['keys over plain HTTP', { issuer, jwksUrl: 'http://keys.example/jwks.json' }],
    ['no issuer', { issuer: '', secret }],
    ['a day of tolerance', { issuer, secret, clockToleranceSeconds: 86_400 }],
  ])('%s is misuse', (_, given) => {
    expect(() => jwtVerifier(given as never)).toThrow(TypeError);
  });
});

describe('a session', () => {
  const host = { host: '127.0.0.1:8080' };
  const ours = { ...host, origin: 'http://127.0.0.1:8080', 'sec-fetch-site': 'same-origin' };
  const signIn = async (headers: Record<string, string> = ours): Promise<Answer> => {
    const { secret: link } = await api.keyring.access.sessions.createLink();
    return ask('POST', '/api/session', headers, { link });
  };
  const cookieOf = (given: Answer) => (given.headers.get('set-cookie') ?? '').split(';')[0] ?? '';

  it('is opened by a link, once, and is in a cookie that no script and no other site gets', async () => {
    const { secret: link } = await api.keyring.access.sessions.createLink();
    const opened = await ask('POST', '/api/session', ours, { link });
    expect(opened).toMatchObject({ status: 201, json: { person: 'operator' } });
    expect(opened.headers.get('set-cookie')).toMatch(
      new RegExp(`^${SESSION_COOKIE}=mhs_[0-9A-Za-z]{49}; Path=/; Expires=[^;]+; HttpOnly; SameSite=Strict$`),
    );
    expect(opened.text).not.toContain('mhs_');
    expect(await ask('POST', '/api/session', ours, { link })).toMatchObject({ status: 401 });
    const me = await ask('GET', '/api/session', { cookie: cookieOf(opened) });
    expect(me.json).toMatchObject({ kind: 'session', person: 'operator', warnings: [{ code: 'single_admin' }] });
    const secure = await api.fetch(
      new Request('https://keys.internal/api/session', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ link: (await api.keyring.access.sessions.createLink()).secret }),
      }),
    );
    expect(secure.headers.get('set-cookie')).toContain('; Secure');
  });

  it('is never the one that the browser came with: that one ends', async () => {
    const before = cookieOf(await signIn());
    const fixed = await signIn({ ...ours, cookie: before });
    expect(cookieOf(fixed)).not.toBe(before);
    expect((await ask('GET', '/api/session', { cookie: before })).status).toBe(401);
    const chosen = await signIn({ ...ours, cookie: `${SESSION_COOKIE}=mhs_chosen` });
    expect(cookieOf(chosen)).not.toContain('chosen');
  });

  it.each([
    ['another origin', { ...host, origin: 'https://evil.example' }],
    ['another port', { ...host, origin: 'http://127.0.0.1:3000' }],
    ['a sandboxed frame', { ...host, origin: 'null' }],
    ['another site', { ...ours, 'sec-fetch-site': 'cross-site' }],
    ['a page of a sibling', { ...ours, 'sec-fetch-site': 'same-site' }],
    ['nowhere that it says', host],
  ])('changes nothing for %s', async (_, headers) => {
    const cookie = cookieOf(await signIn());
    const before = (await api.keyring.rotations.list()).length;
    const refused = await ask('POST', '/api/keys/rotate', { ...headers, cookie }, { all: true });
    expect(refused).toMatchObject({ status: 403, json: { code: 'forbidden' } });
    expect(await api.keyring.rotations.list()).toHaveLength(before);
    expect((await ask('GET', '/api/keys', { ...headers, cookie })).status).toBe(200);
  });

  it('ends when it is signed out, and the cookie goes', async () => {
    const cookie = cookieOf(await signIn());
    const out = await ask('DELETE', '/api/session', { ...ours, cookie });
    expect(out.status).toBe(204);
    expect(out.headers.get('set-cookie')).toContain('Max-Age=0');
    expect((await ask('GET', '/api/session', { cookie })).status).toBe(401);
  });

  it('is not what a wrong token falls back to', async () => {
    const cookie = cookieOf(await signIn());
    expect((await ask('GET', '/api/session', { cookie, ...as('mhk_wrong') })).status).toBe(401);
    expect((await ask('GET', '/api/session', { cookie, authorization: 'Basic YTpi' })).status).toBe(401);
  });

  it('is not signed in by a page from elsewhere', async () => {
    const { secret: link } = await api.keyring.access.sessions.createLink();
    expect((await ask('POST', '/api/session', { ...host, origin: 'https://evil.example' }, { link })).status).toBe(403);
    expect((await ask('POST', '/api/session', ours, { link })).status).toBe(201);
  });
});

describe('who guesses', () => {
  /** Every three seconds there is another try: on a busy machine, some while they are made. */
  const clockStands = (): void => {
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
  };

  it('is slowed down after twenty tries, alone, and is told for how long', async () => {
    clockStands();
    const from = '198.51.100.7';
    let refused: Answer | undefined;
    for (let tries = 0; tries < 30; tries++)
      refused = await ask('GET', '/api/keys', as(`mhk_guess${String(tries)}`), undefined, from);
    expect(refused).toMatchObject({ status: 429, json: { code: 'rate_limited' } });
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await ask('GET', '/api/keys', as('mhk_guess'), undefined, '198.51.100.8')).status).toBe(401);
    const guessed = await ask('POST', '/api/session', {}, { link: 'mhl_guess' }, from);
    expect(guessed.status).toBe(429);
  });

  it('gets no more tries when they come all at once', async () => {
    clockStands();
    const from = '198.51.100.10';
    const answers = await Promise.all(
      Array.from({ length: 60 }, () => ask('GET', '/api/keys', as(newToken('token')), undefined, from)),
    );
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(20);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(40);
  });

  it('is nobody who sends the same old token again and again, for whom nobody is asked, and who locks out no neighbour', async () => {
    const from = '198.51.100.11';
    const { token, entry } = await api.keyring.access.tokens.create({ name: 'old', role: 'auditor' });
    await api.keyring.access.tokens.revoke(entry.id);
    for (let tries = 0; tries < 30; tries++) {
      expect((await ask('GET', '/api/keys', as(token), undefined, from)).status).toBe(401);
    }
    const { token: fresh } = await api.keyring.access.tokens.create({ name: 'new', role: 'auditor' });
    expect((await ask('GET', '/api/keys', as(fresh), undefined, from)).status).toBe(200);
  });

  it('comes from where the host says, whatever else the request says, and however that is spelled', async () => {
    const from = 'x'.repeat(5_000);
    expect((await ask('GET', '/api/keys', as(tokens.reader), undefined, from)).status).toBe(200);
    expect((await ask('GET', '/api/keys', as(tokens.reader), undefined, '')).status).toBe(200);
    const refused: number[] = [];
    clockStands();
    for (let tries = 0; tries < 21; tries++) {
      const lying = { ...as(`mhk_lie${String(tries)}`), 'x-forwarded-for': `203.0.113.${String(tries)}` };
      refused.push((await ask('GET', '/api/keys', lying, undefined, '198.51.100.12')).status);
    }
    expect(new Set(refused.slice(0, 20))).toEqual(new Set([401]));
    expect(refused.at(-1)).toBe(429);
  });

  it('locks out nobody who was right before', async () => {
    const from = '198.51.100.9';
    expect((await ask('GET', '/api/keys', as(tokens.reader), undefined, from)).status).toBe(200);
    for (let tries = 0; tries < 30; tries++)
      await ask('GET', '/api/keys', as(`mhk_wrong${String(tries)}`), undefined, from);
    expect((await ask('GET', '/api/keys', as(tokens.reader), undefined, from)).status).toBe(200);
  });

  it('is on the record, in an entry a minute and not one a try', async () => {
    await expect
      .poll(
        async () =>
          (await api.keyring.audit.list({ limit: 1000 })).filter(({ action }) => action === 'access.refused').length,
      )
      .toBeGreaterThan(0);
    const entries = (await api.keyring.audit.list({ limit: 1000 })).filter(({ action }) => action === 'access.refused');
    // There were some two hundred tries, in minutes at most.
    expect(entries.length).toBeLessThan(20);
    expect(entries.at(-1)).toMatchObject({ outcome: 'refused', kind: 'system', details: { sources: [{ tries: 1 }] } });
    expect(JSON.stringify(entries)).not.toContain('mhk_');
  });

  it('has a bucket that fills again, one for a network of IPv6, and bounded in number', () => {
    let now = 0;
    const throttle = new Throttle(() => now);
    let guesses = 0;
    const guess = (source: string): number => {
      const credential = String((guesses += 1));
      const seconds = throttle.begin(source, credential);
      if (seconds === 0) throttle.end(source, credential, 'wrong');
      return seconds;
    };
    for (let tries = 0; tries < 20; tries++) expect(guess('2001:db8:1:2::1')).toBe(0);
    expect(guess('2001:db8:1:2:ffff::9')).toBe(3);
    expect(guess('2001:db8:1:3::1')).toBe(0);
    now = 3_000;
    expect(guess('2001:db8:1:2::1')).toBe(0);
    expect(guess('2001:db8:1:2::1')).toBe(3);
    for (let source = 0; source < 20_000; source++) guess(String(source));
    expect(guess('2001:db8:1:2::1')).toBe(0);
  });

  it('takes a try before anybody looks, and gets it back for what was right, or what nobody could say', () => {
    const throttle = new Throttle(() => 0);
    const from = '192.0.2.7';
    const begin = (credential: string) => throttle.begin(from, credential);
    // One page asks for many things at once, with one cookie that nobody has seen yet.
    for (let n = 0; n < 50; n++) expect(begin('new')).toBe(0);
    for (let n = 0; n < 50; n++) throttle.end(from, 'new', 'right');
    expect(begin('outage')).toBe(0);
    throttle.end(from, 'outage', 'undecided');
    for (let n = 0; n < 20; n++) expect(begin(`guess ${String(n)}`)).toBe(0);
    expect(begin('one more')).toBe(3);
    for (let n = 0; n < 20; n++) throttle.end(from, `guess ${String(n)}`, 'wrong');
    expect(begin('one more')).toBe(3);
    expect(begin('new')).toBe(0);
    // Revoked: it is looked at once more, as a guess.
    throttle.end(from, 'new', 'wrong');
    expect(begin('new')).toBeGreaterThan(0);
  });
});

describe('tokens, grants and approvals', () => {
  const admin = as(tokens.admin);

  it('a token is made, shown once, works, and is revoked', async () => {
    const made = await ask('POST', '/api/tokens', admin, {
      name: 'deploy',
      permissions: ['keys:read'],
      projects: [mine],
    });
    expect(made.status).toBe(201);
    const { token, entry } = made.json as unknown as { token: string; entry: { id: string } };
    expect(
      (await ask('GET', '/api/keys', as(token))).json.keys.map(
        (key) => (key as unknown as { projectId: string }).projectId,
      ),
    ).toEqual(expect.arrayContaining([mine]));
    expect((await ask('GET', '/api/tokens', admin)).text).not.toContain(token);
    expect((await ask('DELETE', `/api/tokens/${entry.id}`, admin)).json).toMatchObject({ state: 'revoked' });
    expect((await ask('GET', '/api/keys', as(token))).status).toBe(401);
  });

  it('a token of somebody does no more than they may by now', async () => {
    const person = 'person:zoe';
    const { id } = await api.keyring.access.grants.add({ person, role: 'project_admin', projectId: mine });
    const { token } = await api.keyring.access.tokens.create({ name: 'zoe', role: 'instance_admin', person });
    const may = async () => Object.keys(json(await ask('GET', '/api/session', as(token)))['permissions'] as object);
    expect(await may()).toContain('keys:rotate');
    expect(await may()).not.toContain('access:manage');
    expect((await ask('GET', '/api/keys', as(token))).text).not.toContain(theirs);
    await api.keyring.access.grants.remove(id);
    expect(await may()).toEqual([]);
    expect((await ask('GET', '/api/keys', as(token))).status).toBe(403);
  });

  it('nobody hands out more than they hold', async () => {
    const owner = as(user(ada));
    for (const body of [
      { name: 'x', role: 'instance_admin' },
      { name: 'x', role: 'auditor' },
      { name: 'x', permissions: ['keys:read'] },
    ]) {
      expect((await ask('POST', '/api/tokens', owner, body)).status).toBe(403);
    }
    expect((await ask('POST', '/api/tokens', owner, { name: 'x', role: 'service', projects: [mine] })).status).toBe(
      201,
    );
    expect((await ask('POST', '/api/tokens', owner, { name: 'x', role: 'service', projects: [theirs] })).status).toBe(
      404,
    );
    expect((await ask('POST', '/api/grants', owner, { person: `user:${bob}`, role: 'instance_admin' })).status).toBe(
      403,
    );
    expect(
      (await ask('POST', '/api/grants', owner, { person: `user:${bob}`, role: 'auditor', project: mine })).status,
    ).toBe(201);
    expect(
      (await ask('POST', '/api/grants', owner, { person: `user:${bob}`, role: 'auditor', project: theirs })).status,
    ).toBe(404);
  });

  it('what takes two people is asked for with 202, approved by another admin, and then done', async () => {
    for (const person of ['person:eve', 'person:kim']) {
      expect((await ask('POST', '/api/grants', admin, { person, role: 'instance_admin' })).status).toBe(201);
    }
    const tokenOf = async (person: string) =>
      (await api.keyring.access.tokens.create({ name: person, role: 'instance_admin', person })).token;
    const [eve, kim] = [as(await tokenOf('person:eve')), as(await tokenOf('person:kim'))];
    const off = { wanted: false, reason: 'a test' };
    const asked = await ask('PUT', '/api/two-person-rule', eve, off);
    expect(asked).toMatchObject({ status: 202, json: { approval: { action: 'rule.switch_off', state: 'pending' } } });
    const { id } = json(asked)['approval'] as { id: string };
    const mineToo = await ask('POST', '/api/tokens', eve, { name: 'another of mine', role: 'instance_admin' });
    const again = as(String(json(mineToo)['token']));
    for (const self of [eve, again, admin]) {
      expect((await ask('POST', `/api/approvals/${id}/approve`, self)).status).toBe(403);
    }
    expect((await ask('GET', '/api/approvals?open=true', kim)).text).toContain(id);
    expect((await ask('POST', `/api/approvals/${id}/approve`, kim)).json).toMatchObject({ state: 'approved' });
    expect(await ask('PUT', '/api/two-person-rule', eve, off)).toMatchObject({ status: 200, json: { inForce: false } });
    expect((await ask('PUT', '/api/two-person-rule', eve, { wanted: true, reason: 'back' })).status).toBe(200);

    // Who asked, and is no admin by now, does nothing with an approval.
    const second = json(await ask('PUT', '/api/two-person-rule', eve, off))['approval'] as { id: string };
    expect((await ask('POST', `/api/approvals/${second.id}/approve`, kim)).status).toBe(200);
    const grantsOf = (sql: string) => query(api.adminUrl, `set session_replication_role = replica; ${sql}`);
    await grantsOf(`update keyring.grants set person = 'person:eve2' where person = 'person:eve'`);
    expect((await ask('PUT', '/api/two-person-rule', eve, off)).status).toBe(403);
    await grantsOf(`update keyring.grants set person = 'person:eve' where person = 'person:eve2'`);
    expect((await ask('GET', '/api/two-person-rule', kim)).json).toMatchObject({ inForce: true });

    const policy = async () => {
      const { policy } = json(await ask('GET', '/api/policies/default', eve));
      return policy as { retentionMs: number; revision: number };
    };
    const { retentionMs, revision } = await policy();
    const shorter = { retentionMs: retentionMs / 2, revision, reason: 'a test' };
    const wanted = await ask('PUT', '/api/policies/default', eve, shorter);
    expect(wanted).toMatchObject({ status: 202, json: { approval: { action: 'retention.shorten' } } });
    expect((await policy()).retentionMs).toBe(retentionMs);
    const approval = (json(wanted)['approval'] as { id: string }).id;
    expect((await ask('POST', `/api/approvals/${approval}/approve`, eve)).status).toBe(403);
    expect((await ask('POST', `/api/approvals/${approval}/approve`, kim)).status).toBe(200);
    expect((await ask('PUT', '/api/policies/default', eve, shorter)).status).toBe(200);
    expect((await policy()).retentionMs).toBe(retentionMs / 2);
  });
});
