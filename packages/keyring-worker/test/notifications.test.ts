import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pgDatabase, type Database, type Keyring } from '@meshhook/keyring';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { isPublic } from '../src/notifications/address.ts';
import { deliver } from '../src/notifications/deliver.ts';
import { Courier } from '../src/notifications/courier.ts';
import { startInstallation, type Installation } from '../../keyring/test/engine/support/installation.ts';
import { clearProjects, codeOf, makeProject } from '../../keyring/test/engine/support/world.ts';

interface Received {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

let installation: Installation;
let keyring: Keyring;
let server: Server;
let url = '';
let database: Database;
let courier: Courier;
const received: Received[] = [];
/** How the endpoint answers; it has read the request by then. */
let answer: (response: ServerResponse) => void;

beforeAll(async () => {
  installation = await startInstallation();
  server = createServer((request: IncomingMessage, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      received.push({ path: request.url ?? '', headers: request.headers as Record<string, string>, body });
      answer(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/hooks`;
  database = pgDatabase({ connectionString: installation.test.serviceUrl, maxConnections: 2 });
});
beforeEach(async () => {
  received.length = 0;
  answer = (response) => response.writeHead(204).end();
  await installation.sql('delete from keyring.notification_endpoint');
  await installation.sql('delete from keyring.notifications');
  await installation.sql(`delete from keyring_jobs.job_common where name = 'notifications'`);
  await clearProjects(installation);
  keyring = await installation.open();
  courier = new Courier(database, keyring, { allowPrivate: true, allowHttp: true });
  await courier.open();
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await database.close();
  await installation.end();
});

const log = () => keyring.notifications.log();
const events = async () => (await log()).map(({ event }) => event).sort();

test('a receiver verifies what it gets with the library of the scheme, whatever rotation its secret has been through', async () => {
  const { secret = '' } = await keyring.notifications.set({ url });
  const project = await makeProject(installation, keyring, { secrets: 1 });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await keyring.rotations.run(id);
  expect(await courier.round()).toBe(1);
  const headers = received[0]?.headers ?? {};
  const body = received[0]?.body ?? '';
  const told = new Webhook(secret).verify(body, headers) as { type: string; data: { subject: string } };
  expect(told).toMatchObject({ type: 'rotation.completed', data: { subject: `rotation:${id}`, outcome: 'succeeded' } });
  expect(() => new Webhook(secret).verify(`${body} `, headers)).toThrow('No matching signature');
  expect(body).not.toContain(project.secrets.get('SECRET_1') ?? 'none');
  expect(await log()).toMatchObject([{ id: headers['webhook-id'], state: 'delivered', attempts: 1, lastStatus: 204 }]);
  expect(await courier.round()).toBe(0);
});

test('each of the events is told, of nothing else, and nothing of what was rolled back', async () => {
  await keyring.notifications.set({ url });
  const entry = (action: string) =>
    `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', '${action}', 'succeeded', 'test:1')`;
  for (const action of [
    'rotation.completed',
    'rotation.failed',
    'rotation.blocked',
    'rotation.overdue',
    'key.compromised',
  ]) {
    await installation.sql(entry(action));
  }
  await installation.sql(entry('approval.requested'));
  await installation.sql(entry('rotation.requested'));
  const seen = await events();
  expect(seen).toEqual([
    ...[
      'approval.wanted',
      'key.compromised',
      'rotation.blocked',
      'rotation.completed',
      'rotation.failed',
      'rotation.overdue',
    ],
  ]);
  await installation.sql(`begin; ${entry('rotation.failed')}; rollback`);
  expect(await events()).toEqual(seen);
  await keyring.notifications.set({ url, events: ['key.compromised'] });
  await installation.sql(entry('rotation.failed'));
  expect(await events()).toEqual(seen);
});

test('what is not delivered is tried again by pg-boss, later and later, and given up after a day at least', async () => {
  await keyring.notifications.set({ url });
  await keyring.notifications.test();
  answer = (response) => response.writeHead(503).end('x'.repeat(1000));
  const waits: number[] = [];
  for (let tries = 1; tries <= 14; tries++) {
    expect(await courier.round()).toBe(1);
    const [job] = await installation.sql<{ wait: number; state: string }>(
      `select extract(epoch from start_after - now())::float8 as wait, state::text from keyring_jobs.job_common where name = 'notifications'`,
    );
    waits.push(job?.wait ?? 0);
    expect(job?.state).toBe(tries < 14 ? 'retry' : 'failed');
    expect(await courier.round()).toBe(0);
    await installation.sql(`update keyring_jobs.job_common set start_after = now() where name = 'notifications'`);
  }
  expect(waits[0]).toBeGreaterThan(10);
  expect(waits[4]).toBeGreaterThan(waits[0] ?? 0);
  expect(waits.slice(0, 13).reduce((sum, wait) => sum + wait, 0)).toBeGreaterThan(20 * 3_600);
  expect(await log()).toMatchObject([
    { event: 'test', state: 'failed', attempts: 14, lastStatus: 503, lastError: 'The endpoint answered 503.' },
  ]);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
});

test('an endpoint that says it is gone is not asked again, and one that was removed leaves no message pending', async () => {
  await keyring.notifications.set({ url });
  await keyring.notifications.test();
  answer = (response) => response.writeHead(410).end();
  expect(await courier.round()).toBe(1);
  expect(await log()).toMatchObject([{ state: 'failed', attempts: 1, lastStatus: 410 }]);
  await keyring.notifications.test();
  await keyring.notifications.unset();
  expect(await courier.round()).toBe(1);
  expect(await log()).toMatchObject([{ state: 'failed', lastError: 'There is no endpoint any more.' }, {}]);
  expect(
    await installation.sql(
      `select id from keyring_jobs.job_common where name = 'notifications' and state <> 'completed'`,
    ),
  ).toEqual([]);
  expect(received).toHaveLength(1);
});

test('text of people arrives as it is, and only in the body', async () => {
  const { secret = '' } = await keyring.notifications.set({ url });
  const reason = 'x\r\nx-evil: 1\r\n\r\n<script>\u2028 \u202e\u{1f511} "\\';
  await installation.sql(
    `insert into keyring.audit_log (actor, action, outcome, subject, details)
     values ('test', 'approval.requested', 'succeeded', $1, jsonb_build_object('reason', $1::text))`,
    [reason],
  );
  expect(await courier.round()).toBe(1);
  const [{ headers, body } = { headers: {}, body: '' }] = received;
  expect(new Webhook(secret).verify(body, headers)).toMatchObject({ data: { subject: reason, details: { reason } } });
  expect(Object.keys(headers).sort()).toEqual([
    'connection',
    'content-length',
    'content-type',
    'host',
    'user-agent',
    'webhook-id',
    'webhook-signature',
    'webhook-timestamp',
  ]);
});

test('two couriers deliver each message once, and whoever is told to stop counts no try', async () => {
  await keyring.notifications.set({ url });
  for (let n = 0; n < 12; n++) await keyring.notifications.test();
  const other = new Courier(database, keyring, { allowPrivate: true, allowHttp: true });
  await other.open();
  const going = new AbortController();
  await Promise.all([courier.rounds(going.signal), other.rounds(going.signal)]);
  await courier.rounds(going.signal);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(12);
  expect(received).toHaveLength(12);
  await keyring.notifications.test();
  answer = () => going.abort();
  await courier.rounds(going.signal);
  expect((await log())[0]).toMatchObject({ state: 'pending', attempts: 0 });
});

test('a message of a courier that died is delivered by another', async () => {
  await keyring.notifications.set({ url });
  await keyring.notifications.test();
  answer = (response) => response.writeHead(500).end();
  await courier.round();
  await installation.sql(
    `update keyring_jobs.job_common set state = 'active', started_on = now() - interval '3 minutes' where name = 'notifications'`,
  );
  answer = (response) => response.writeHead(200).end();
  const other = new Courier(database, await installation.open(), { allowPrivate: true, allowHttp: true });
  await other.open();
  expect(await other.round()).toBe(1);
  expect(await log()).toMatchObject([{ state: 'delivered', attempts: 2 }]);
});

const message = (to: string) => ({
  id: 'msg_1',
  url: to,
  secret: `whsec_${Buffer.alloc(32).toString('base64')}`,
  body: '{}',
});

test.each([
  '127.0.0.1',
  '10.1.2.3',
  '172.31.0.1',
  '192.168.1.1',
  '169.254.169.254',
  '100.64.0.1',
  '0.0.0.0',
  '224.0.0.1',
  '255.255.255.255',
  '198.18.0.1',
  '::1',
  '::',
  'fe80::1',
  'fc00::1',
  'ff02::1',
  '::ffff:127.0.0.1',
  '::ffff:8.8.8.8',
  '64:ff9b::7f00:1',
  '2002:7f00:1::',
  '2001:db8::1',
])('nothing is sent to %s', async (address) => {
  expect(isPublic(address)).toBe(false);
  const lookup = () =>
    Promise.resolve([
      { address: '93.184.216.34', family: 4 },
      { address, family: address.includes(':') ? 6 : 4 },
    ]);
  expect(await deliver(message('https://example.test/'), { lookup })).toEqual({
    ...{ delivered: false, status: undefined },
    error: 'The endpoint has an address that is not of the public internet.',
  });
});

test.each(['https://127.0.0.1/', 'https://[::1]/', 'https://2130706433/', 'https://0x7f.1/', 'https://localhost/'])(
  'nor to %s, however it is written',
  async (to) => {
    expect((await deliver(message(to))).error).toBe('The endpoint has an address that is not of the public internet.');
  },
);

test.each(['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111', '2a00:1450:4001::1'])(
  '%s is of the public internet',
  (address) => {
    expect(isPublic(address)).toBe(true);
  },
);

test('the connection goes to the address that was checked, whatever its name becomes', async () => {
  const asked: string[] = [];
  const lookup = (host: string) => {
    asked.push(host);
    return Promise.resolve([{ address: asked.length === 1 ? '127.0.0.1' : '127.0.0.2', family: 4 }]);
  };
  const to = url.replace('127.0.0.1', 'rebinding.test');
  expect(await deliver(message(to), { lookup, allowHttp: true, allowPrivate: true })).toMatchObject({
    delivered: true,
  });
  expect(asked).toEqual(['rebinding.test']);
  expect(received[0]?.headers['host']).toContain('rebinding.test');
});

test('plain HTTP is refused, a redirect is not followed, a silence ends, and a long answer is not read', async () => {
  const allowed = { allowHttp: true, allowPrivate: true };
  expect(await deliver(message(url))).toMatchObject({ error: 'The endpoint is not https.' });
  answer = (response) => response.writeHead(302, { location: `${url}/elsewhere` }).end();
  expect(await deliver(message(url), allowed)).toMatchObject({ delivered: false, status: 302 });
  expect(received).toHaveLength(1);
  answer = () => undefined;
  expect(await deliver(message(url), { ...allowed, timeoutMs: 100 })).toMatchObject({
    error: 'The endpoint did not answer in time.',
  });
  answer = (response) => {
    response.writeHead(200);
    const more = (): void => {
      while (!response.destroyed && response.write('x'.repeat(65_536)));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  };
  expect(await deliver(message(url), allowed)).toMatchObject({ delivered: true });
  expect(await deliver(message('https://nowhere.invalid/'), allowed)).toMatchObject({
    delivered: false,
    status: undefined,
  });
});

test('its secret is in the keyring, is told once, and an endpoint that makes no sense is refused', async () => {
  const { secret } = await keyring.notifications.set({ url });
  expect(secret).toMatch(/^whsec_/);
  expect((await keyring.notifications.set({ url: `${url}/2` })).secret).toBeUndefined();
  expect((await keyring.notifications.set({ url, newSecret: true })).secret).not.toBe(secret);
  const own = `whsec_${Buffer.alloc(24, 1).toString('base64')}`;
  expect((await keyring.notifications.set({ url, secret: own })).secret).toBeUndefined();
  expect(JSON.stringify(await keyring.audit.list())).not.toMatch(/whsec_|\/hooks/);
  for (const bad of [
    { url: 'ftp://x' },
    { url: 'https://a:b@c/' },
    { url, events: [] },
    { url, secret: 'whsec_short' },
  ]) {
    expect(await codeOf(keyring.notifications.set(bad))).toBe('invalid_argument');
  }
  await keyring.notifications.unset();
  expect(await keyring.notifications.show()).toBeUndefined();
  expect(await codeOf(keyring.notifications.test())).toBe('illegal_state');
});

test('the log is bounded', async () => {
  await installation.sql(
    `insert into keyring.notifications (event, body, state, created_at)
     select 'test', '{}', case when n <= 10100 then 'pending' else 'delivered' end, timestamptz '2100-01-01' + n * interval '1 second'
     from generate_series(1, 11200) n`,
  );
  await courier.tidy();
  // What is still to be told is not pushed out by what was told since.
  expect(
    await installation.sql(
      `select state, count(*)::int as n, extract(epoch from min(created_at) - timestamptz '2100-01-01')::int as oldest
       from keyring.notifications group by 1 order by 1`,
    ),
  ).toEqual([
    { state: 'delivered', n: 1000, oldest: 10_201 },
    { state: 'pending', n: 10000, oldest: 101 },
  ]);
});
