import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { createRootKeyFile } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, session } from '../../../test/support/database.ts';
import {
  failToStart,
  fillProject,
  makePlace,
  startServer,
  temporaryFolder,
  until,
  type Place,
  type Server,
} from './support/server.ts';

/** As a program calls it, `Host` of its choosing included, which fetch does not allow. */
async function call(url: string, method = 'GET', headers: Record<string, string> = {}, body?: string) {
  const request = http.request(url, { method, headers, agent: false });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, text };
}

/** A way to the database that can be closed. */
async function openRoad(databaseUrl: string) {
  const to = new URL(databaseUrl);
  const travellers = new Set<Socket>();
  const toll = createServer((near) => {
    const far = connect(Number(to.port), to.hostname);
    for (const socket of [near, far]) {
      travellers.add(socket);
      socket.on('error', () => undefined).on('close', () => travellers.delete(socket));
    }
    near.pipe(far).pipe(near);
  });
  const listen = (port: number) => once(toll.listen(port, '127.0.0.1'), 'listening');
  await listen(0);
  const { port } = toll.address() as AddressInfo;
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  return {
    url: url.href,
    open: () => listen(port),
    close: () => {
      toll.close();
      for (const socket of travellers) socket.destroy();
    },
  };
}

describe('a server on a database of its own', () => {
  let place: Place;
  let server: Server;
  let authorization: string;
  beforeAll(async () => {
    place = await makePlace();
    server = await startServer(place.environment);
    authorization = await place.authorization();
    await fillProject(place.keyring, 'acme', 20);
  });
  afterAll(async () => {
    await (server as Server | undefined)?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });

  const rotate = (headers: Record<string, string>, body = '{"projects":["acme"]}') =>
    call(`${server.url}/api/keys/rotate`, 'POST', { 'content-type': 'application/json', ...headers }, body);

  it('says where things are, and not what is in them', () => {
    const said = server.output();
    expect(said).toContain(path.join(place.home, 'api-token'));
    expect(said).toContain(`${path.join(place.home, 'root.key')}: losing it loses every secret.`);
    expect(said).not.toContain(authorization.slice('Bearer '.length));
    expect(said).not.toContain(place.environment.DATABASE_URL);
  });

  it('is alive and ready, without a token', async () => {
    expect(await call(`${server.url}/healthz`)).toMatchObject({ status: 200, text: '{"status":"ok"}' });
    expect(await call(`${server.url}/readyz`)).toMatchObject({ status: 200, text: '{"status":"ready"}' });
  });

  it('rotates for its token only, and by itself', async () => {
    expect((await rotate({})).status).toBe(401);
    expect((await rotate({ authorization: 'Bearer mhk_guess' })).status).toBe(401);
    const accepted = await rotate({ authorization });
    expect(accepted.status).toBe(202);
    const location = accepted.headers.location ?? '';
    const done = await until(
      async () => JSON.parse((await call(server.url + location, 'GET', { authorization })).text) as { state: string },
      ({ state }) => state === 'completed',
    );
    expect(done).toMatchObject({ trigger: 'api', rows: { moved: 20, verified: 20, quarantined: 0 } });
    expect(server.output()).toMatch(
      /rotation [0-9a-f-]{36}: completed, 1 project, 20 secrets re-encrypted in [\d.]+ s/,
    );
  });

  it('answers what is no JSON, no route and no method with the problems of the API', async () => {
    const post = (headers: Record<string, string>, body: string) =>
      call(`${server.url}/api/keys/rotate`, 'POST', { authorization, ...headers }, body);
    expect(await post({}, '{"all":true}')).toMatchObject({ status: 415 });
    expect(await post({ 'content-type': 'application/x-www-form-urlencoded' }, 'all=true')).toMatchObject({
      status: 415,
    });
    expect(await post({ 'content-type': 'application/json' }, '{')).toMatchObject({ status: 400 });
    expect(await post({ 'content-type': 'application/json' }, 'x'.repeat(70_000))).toMatchObject({ status: 413 });
    for (const [address, method, status] of [
      ['/api/keys/', 'GET', 404],
      ['/api/nothing', 'GET', 404],
      ['/api/rotations', 'DELETE', 405],
      ['/healthz', 'POST', 405],
    ] as const) {
      const answer = await call(server.url + address, method, { authorization });
      expect(answer.status).toBe(status);
      expect(answer.headers['content-type']).toBe('application/problem+json');
    }
  });

  it.each([
    ['/', 'GET', { host: 'evil.example' }],
    ['/readyz', 'GET', { host: 'evil.example:8080' }],
    ['/api/keys', 'GET', { host: '127.0.0.1.evil.example' }],
    ['/api/keys/rotate', 'POST', { origin: 'http://evil.example', 'content-type': 'application/json' }],
    ['/api/keys/rotate', 'POST', { 'sec-fetch-site': 'cross-site', 'content-type': 'application/json' }],
  ])('%s by %s with %j is refused: another page asked', async (address, method, headers) => {
    const before = (await place.keyring.rotations.list()).length;
    const refused = await call(
      server.url + address,
      method,
      { authorization, ...headers },
      method === 'POST' ? '{"all":true}' : undefined,
    );
    expect(refused).toMatchObject({ status: 403, headers: { 'x-content-type-options': 'nosniff' } });
    expect(await place.keyring.rotations.list()).toHaveLength(before);
  });

  it('what a caller says about the protocol is not believed', async () => {
    const answer = await call(`${server.url}/keys`, 'GET', {
      authorization,
      'x-mh-protocol': 'gopher',
      'x-forwarded-proto': 'https',
    });
    expect(answer.status).toBe(200);
  });

  it('behind a proxy with TLS a session is in a cookie for TLS alone, and forms of the page work', async () => {
    const { secret: link } = await place.keyring.access.sessions.createLink();
    const json = { 'content-type': 'application/json' };
    const proxied = { host: 'localhost', origin: 'https://localhost', 'sec-fetch-site': 'same-origin' };
    const opened = await call(`${server.url}/api/session`, 'POST', { ...proxied, ...json }, JSON.stringify({ link }));
    expect(opened.status).toBe(201);
    const [given = ''] = opened.headers['set-cookie'] ?? [];
    expect(given).toMatch(/; HttpOnly; Secure; SameSite=Strict$/);
    const cookie = given.slice(0, given.indexOf(';'));
    const signOut = (headers: Record<string, string>) =>
      call(`${server.url}/sign-out`, 'POST', {
        cookie,
        'content-type': 'application/x-www-form-urlencoded',
        ...headers,
      });
    // Nobody who has a cookie sends a form without saying from where.
    for (const elsewhere of [{ host: 'localhost' }, { ...proxied, origin: 'https://evil.example' }]) {
      expect((await signOut(elsewhere)).status).toBe(403);
    }
    expect(await signOut(proxied)).toMatchObject({ status: 303, headers: { location: '/sign-in' } });
    expect((await call(`${server.url}/api/session`, 'GET', { cookie })).status).toBe(401);
  });

  it('the page is written by the server, allows no foreign script, and holds no secret', async () => {
    const evil = '</script><script>alert(1)</script><img src=x onerror=alert(2)>';
    const id = await fillProject(place.keyring, evil, 1);
    const { status, text, headers } = await call(`${server.url}/keys`, 'GET', { authorization });
    expect(status).toBe(200);
    expect(headers['content-security-policy']).toMatch(
      /default-src 'none'.*script-src 'self' 'nonce-[^']+';.*frame-ancestors 'none'/,
    );
    expect(headers['content-security-policy']).not.toMatch(/unsafe-(inline|eval)/);
    expect(text).toContain('acme');
    expect(text).toContain(id);
    expect(text).not.toContain('<script>alert');
    expect(text).not.toContain('<img src=x');
    expect(text).not.toMatch(/mhk_|value \d|postgres:\/\//);
  });

  it('no page holds a value, a token or the address of the database, nor does its data; each forbids to be framed', async () => {
    const { id } = await place.keyring.projects.resolve('acme');
    const rotation = await place.keyring.rotations.request({ projects: [id] });
    await until(
      () => place.keyring.rotations.get(rotation.id),
      (now) => now?.state === 'completed',
    );
    const [key] = await place.keyring.keys.list({ projectId: id });
    const places = [
      ...['', 'keys', `keys/${id}`, `keys/${id}/exposure/${key?.id}`, 'rotate?why=routine', 'rotate?why=data-key'],
      ...['rotations', `rotations/${rotation.id}`, 'schedule', `schedule?project=${id}`, 'secrets', `secrets/${id}`],
      ...['audit', 'settings', 'settings/approvals', 'settings/notifications', 'settings/machines', 'settings/keys'],
    ];
    for (const one of places) {
      const [path = '', query = ''] = one.split('?');
      const page = await call(`${server.url}/${one}`, 'GET', { authorization });
      const data = await call(`${server.url}/${path && `${path}/`}__data.json?${query}`, 'GET', { authorization });
      expect([one, page.status, data.status]).toEqual([one, 200, 200]);
      expect(page.headers['content-security-policy']).toMatch(/frame-ancestors 'none'/);
      expect(page.headers['content-security-policy']).not.toMatch(/unsafe-(inline|eval)/);
      for (const { text } of [page, data]) expect(text).not.toMatch(/mhk_|value \d|postgres:\/\//);
    }
  });

  it('ends on SIGTERM with 0', async () => {
    const other = await startServer(place.environment);
    expect(await other.stop('SIGTERM')).toBe(0);
    expect(other.output()).toContain('Stopping.');
  });

  it('an outage of the database is told as one, survived, and what was asked for meanwhile is done', async () => {
    const road = await openRoad(place.environment.DATABASE_URL);
    await using far = await startServer({ ...place.environment, DATABASE_URL: road.url });
    expect((await call(`${far.url}/readyz`)).status).toBe(200);
    // From here on only the far server drives rotations.
    await server.stop();
    road.close();
    const notReady = await call(`${far.url}/readyz`);
    expect(notReady).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    expect(notReady.text).toContain('database_unreachable');
    expect(notReady.text).not.toContain('127.0.0.1');
    const page = await call(`${far.url}/keys`, 'GET', { authorization });
    expect(page).toMatchObject({ status: 503 });
    expect(page.text).toContain('The database does not answer');
    expect((await call(`${far.url}/healthz`)).status).toBe(200);

    const { id: project } = await place.keyring.projects.resolve('acme');
    const { id } = await place.keyring.rotations.request({ projects: [project] });
    await road.open();
    await until(
      () => place.keyring.rotations.get(id),
      (now) => now?.state === 'completed',
    );
    expect((await call(`${far.url}/keys`, 'GET', { authorization })).status).toBe(200);
    expect(await far.stop()).toBe(0);
    road.close();
    server = await startServer(place.environment);
  });

  it('a rotation under way when the process is killed -9 continues at the next start, by itself', async () => {
    const id = await fillProject(place.keyring, 'large', 2_000);
    const killed = await startServer(place.environment);
    await server.stop();
    let rotation: string;
    {
      // A row that somebody holds keeps the rotation from ending before it is killed.
      await using holder = await session(place.database.adminUrl, 'holder');
      await holder.query('begin');
      await holder.query('select from public.secrets where project_id = $1 limit 1 for update', [id]);
      const accepted = await call(
        `${killed.url}/api/keys/rotate`,
        'POST',
        { authorization, 'content-type': 'application/json' },
        JSON.stringify({ projects: [id], fullSpeed: true }),
      );
      rotation = (JSON.parse(accepted.text) as { id: string }).id;
      await until(
        () => place.keyring.rotations.get(rotation),
        (now) => (now?.rows.moved ?? 0) >= 500 && now?.state === 'running',
      );
      expect(await killed.stop('SIGKILL')).toBe('SIGKILL');
      expect((await place.keyring.rotations.get(rotation))?.state).toBe('running');
    }
    server = await startServer(place.environment);
    const done = await until(
      () => place.keyring.rotations.get(rotation),
      (now) => now?.state === 'completed',
    );
    expect(done).toMatchObject({ rows: { moved: 2_000, verified: 2_000, quarantined: 0 } });
    const versions = await place.keyring.keys.list({ projectId: id });
    expect(versions.map(({ rows }) => rows)).toEqual([0, 2_000]);
    expect((await place.keyring.secrets.get(id, 'SECRET_1234'))?.value).toBe('value 1234');
  });
});

describe('a start that cannot be', () => {
  let place: Place;
  beforeAll(async () => {
    place = await makePlace();
  });
  afterAll(() => place[Symbol.asyncDispose]());

  it('a port that is taken: names PORT, and starts nothing for nothing', async () => {
    const taken = http.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const home = await temporaryFolder();
    const { code, stderr } = await failToStart({
      PORT: String((taken.address() as AddressInfo).port),
      MESHHOOK_HOME: path.join(home, 'none'),
    });
    expect(code).toBe(1);
    expect(stderr).toContain('hint: Set PORT to a free port');
    await expect(stat(path.join(home, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    taken.close();
    await rm(home, { recursive: true });
  });

  it('a port that is none', async () => {
    const { code, stderr } = await failToStart({ ...place.environment, PORT: 'http' });
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('PORT is not a port.') as string,
    });
  });

  it('a database without the schema: names mh-keys migrate', async () => {
    const empty = await createTestDatabase({ template: 'empty' });
    const { code, stderr } = await failToStart({ ...place.environment, DATABASE_URL: empty.serviceUrl });
    expect(code).toBe(1);
    expect(stderr).toContain('not_migrated');
    expect(stderr).toContain('mh-keys migrate');
    await empty.drop();
  });

  it('another root key', async () => {
    const other = `file:${path.join(place.home, 'other.key')}`;
    await createRootKeyFile(other);
    const { code, stderr } = await failToStart({ ...place.environment, MESHHOOK_ROOT_KEY: other });
    expect(code).toBe(1);
    expect(stderr).toContain('wrong_root_key');
  });

  it('a database that is not there, without its password in the error', async () => {
    const { code, stderr } = await failToStart({
      ...place.environment,
      DATABASE_URL: 'postgres://ada:hunter2@127.0.0.1:1/none',
    });
    expect(code).toBe(1);
    expect(stderr).toContain('database_unreachable');
    expect(stderr).not.toContain('hunter2');
  });

  it('a database without a root key', async () => {
    const { code, stderr } = await failToStart({ ...place.environment, MESHHOOK_ROOT_KEY: '' });
    expect(code).toBe(1);
    expect(stderr).toContain('root_key_missing');
  });

  it('a token that others may read', async () => {
    await writeFile(path.join(place.home, 'api-token'), `mhk_${'x'.repeat(43)}\n`, { mode: 0o644 });
    const { code, stderr } = await failToStart(place.environment);
    expect(code).toBe(1);
    expect(stderr).toContain('can be read by other users');
  });
});

describe('without any setting', () => {
  it('makes a database, a root key, the schema and a token, once, and keeps them', async () => {
    const home = await temporaryFolder();
    const first = await startServer({ MESHHOOK_HOME: home });
    const said = first.output();
    for (const what of ['PostgreSQL database', 'root key', 'schema', 'API token']) {
      expect(said).toMatch(new RegExp(`^ +made ${what}`, 'm'));
    }
    expect(await call(`${first.url}/readyz`)).toMatchObject({ status: 200 });
    expect(await call(`${first.url}/secrets`)).toMatchObject({ status: 303, headers: { location: '/sign-in' } });
    // Its own database, in somebody's terminal: a link to sign in with.
    expect(first.output()).toMatch(/^sign in +http:\S+\/sign-in#mhl_[0-9A-Za-z]{49}$/m);
    const token = await readFile(path.join(home, 'api-token'), 'utf8');
    expect(await first.stop('SIGINT')).toBe(0);

    const second = await startServer({ MESHHOOK_HOME: home });
    expect(second.output()).not.toContain('made');
    expect(await readFile(path.join(home, 'api-token'), 'utf8')).toBe(token);
    expect(await second.stop()).toBe(0);
    await rm(home, { recursive: true, force: true });
  });
});

describe('for a log collector', () => {
  it('LOG_FORMAT=json makes every line an object, with the rotation it is about, and none holds a value or a token', async () => {
    await using place = await makePlace();
    await using server = await startServer({ ...place.environment, LOG_FORMAT: 'json' });
    const projectId = await fillProject(place.keyring, 'logged', 3);
    const { id } = await place.keyring.rotations.request({ projects: [projectId] });
    await until(
      () => Promise.resolve(server.output()),
      (output) => output.includes(`"event":"rotation_ended","rotationId":"${id}"`),
    );
    const lines = server.output().trimEnd().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { event: string }).event)).toContain('listening');
    expect(server.output()).not.toContain('value ');
    expect(server.output()).not.toContain((await place.authorization()).replace('Bearer ', ''));
  });
});
