/** Endpoints that mean no good, or are broken: a delivery to one comes to an end, says nothing of theirs, and goes nowhere else. */
import { execFile } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test } from 'vitest';
import { deliver } from '../src/notifications/deliver.ts';

const servers: Server[] = [];
const sockets = new Set<Socket>();
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

/** Something that listens, and does this once it has been sent a request. */
async function listening(answer: (socket: Socket) => void): Promise<{ url: string; requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', (chunk) => {
      requests.push(chunk.toString());
      answer(socket);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/hooks`, requests };
}

const message = (url: string) => ({
  ...{ id: 'msg_1', url, body: '{}' },
  secret: `whsec_${Buffer.alloc(32).toString('base64')}`,
});
const allowed = { allowHttp: true, allowPrivate: true };

test.each([
  ['closes without a word', ''],
  ['switches protocols', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n'],
  ['speaks another protocol', 'SSH-2.0-OpenSSH_9.9\r\n'],
  ['ends in the middle of its headers', 'HTTP/1.1 200 OK\r\nContent-'],
  ['ends in the middle of its answer', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort'],
  ['has no end of headers', `HTTP/1.1 200 OK\r\nX-Flood: ${'x'.repeat(1_000_000)}`],
  ['answers twice, of which the first is a lie', `HTTP/1.1 100 Continue\r\n\r\n`.repeat(1_000)],
])('one that %s was told nothing, and the log quotes nothing of it', async (_what, bytes) => {
  const { url } = await listening((socket) => socket.end(bytes));
  const { delivered, status, error } = await deliver(message(url), allowed);
  expect({ delivered, status }).toEqual({ delivered: false, status: undefined });
  expect(error).toMatch(/^The endpoint could not be reached( \([A-Z_0-9]+\))?\.$/);
});

test.each([
  ['answers byte by byte', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
  ['answers, but never ends', 'x', 'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n'],
])('one that %s is given up at the deadline, whatever it sends meanwhile', async (_what, trickle, first) => {
  const { url } = await listening((socket) => {
    socket.write(first);
    let sent = 0;
    const more = setInterval(() => socket.write(trickle[sent++ % trickle.length] ?? ''), 100);
    socket.on('close', () => clearInterval(more));
  });
  expect(await deliver(message(url), { ...allowed, timeoutMs: 300 })).toEqual({
    ...{ delivered: false, status: undefined },
    error: 'The endpoint did not answer in time.',
  });
});

test('a name server that never answers is given up at the deadline', async () => {
  const lookup = () => new Promise<never>(() => undefined);
  expect(await deliver(message('https://example.test/'), { lookup, timeoutMs: 100 })).toMatchObject({
    error: 'The endpoint did not answer in time.',
  });
});

test('who is told to stop ends a delivery to one that hangs', async () => {
  const stop = new AbortController();
  const { url } = await listening(() => stop.abort());
  expect(await deliver(message(url), { ...allowed, signal: stop.signal })).toMatchObject({ delivered: false });
});

test.each([
  'https://0/',
  'https://127.1/',
  'https://0177.0.0.1/',
  'https://0x7f000001/',
  'https://①②⑦.0.0.1/',
  'https://127%2e0%2e0%2e1/',
  'https://[::ffff:127.0.0.1]/',
  'https://[::ffff:7f00:1]/',
  'https://[::127.0.0.1]/',
  'https://[64:ff9b::127.0.0.1]/',
  'https://[64:ff9b:1::a00:1]/',
  'https://[fd00:ec2::254]/',
  'https://[fec0::1]/',
  'https://[5f00::1]/',
  'https://192.0.0.192/',
  'https://100.100.100.200/',
])('%s is no way into the network of the worker', async (url) => {
  expect((await deliver(message(url))).error).toBe('The endpoint has an address that is not of the public internet.');
});

test('a host of which one address alone is private is told nothing', async () => {
  const lookup = () =>
    Promise.resolve([
      { address: '8.8.8.8', family: 4 },
      { address: '::ffff:10.0.0.1', family: 6 },
    ]);
  expect((await deliver(message('https://example.test/'), { lookup })).error).toMatch(/public internet/);
});

test('a proxy that the environment names is not used: it would look the name up again', async () => {
  const proxy = await listening((socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
  const endpoint = await listening((socket) => socket.end('HTTP/1.1 204 No Content\r\n\r\n'));
  const source = new URL('../src/notifications/deliver.ts', import.meta.url).href;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [
      ...['--input-type=module', '-e'],
      `const { deliver } = await import(${JSON.stringify(source)});
       const { request } = await import('node:http');
       console.log(JSON.stringify(await deliver(${JSON.stringify(message(endpoint.url))}, ${JSON.stringify(allowed)})));
       // That it is a proxy that others do use.
       await new Promise((resolve) => request(${JSON.stringify(endpoint.url)}, (response) => response.resume().on('end', resolve)).end());`,
    ],
    {
      cwd: path.join(import.meta.dirname, '..'),
      env: {
        NODE_USE_ENV_PROXY: '1',
        HTTP_PROXY: new URL(proxy.url).origin,
        HTTPS_PROXY: new URL(proxy.url).origin,
        NODE_NO_WARNINGS: '1',
      },
    },
  );
  expect(JSON.parse(stdout)).toEqual({ delivered: true, status: 204 });
  expect(endpoint.requests).toHaveLength(1);
  expect(proxy.requests).toHaveLength(1);
  expect(proxy.requests[0]).toMatch(/^GET /);
});
