import { createRootKeyFile, openKeyring } from '@meshhook/keyring';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';

// The plain host of docs/http-api.md, as it is printed there, over a real socket; and the commands that go with it.
const root = path.join(import.meta.dirname, '../../..');
const marker = '<!-- run by packages/keyring-http/test/host.test.ts -->';
const token = 'a token of the test, 32 bytes of it or so'.replaceAll(/[^a-z]/g, 'x');

let document = '';
let folder = '';
let database: TestDatabase;
let server: ChildProcess;
let port = 0;
let said = '';

const blocksOf = (language: string): string[] =>
  document
    .split(marker)
    .slice(1)
    .flatMap((after) => new RegExp(`^\\s*\`\`\`${language}\n([^]*?)\`\`\``).exec(after)?.[1] ?? []);

async function waitUntil(isSo: () => boolean): Promise<void> {
  for (const end = Date.now() + 120_000; !isSo();) {
    if (Date.now() > end) throw new Error(`waited in vain: ${said}`);
    await delay(20);
  }
}

beforeAll(async () => {
  document = await readFile(path.join(root, 'docs/http-api.md'), 'utf8');
  // Inside the package, so that its imports are found.
  folder = await mkdtemp(path.join(import.meta.dirname, 'host-'));
  database = await createTestDatabase();
  const rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  // The first to open an installation makes its wrapping key.
  await openKeyring({ database: database.serviceUrl, rootKey }).then((keyring) => keyring.close());
  const [host = ''] = blocksOf('js');
  await writeFile(path.join(folder, 'server.mjs'), host);
  server = spawn(process.execPath, [path.join(folder, 'server.mjs')], {
    env: {
      ...process.env,
      DATABASE_URL: database.serviceUrl,
      MESHHOOK_ROOT_KEY: rootKey,
      DEPLOY_TOKEN: token,
      PORT: '0',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [server.stdout, server.stderr])
    stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await waitUntil(() => /listening on \d+/.test(said));
  port = Number(/listening on (\d+)/.exec(said)?.[1]);
});
afterAll(async () => {
  if (server.exitCode === null) {
    const ended = once(server, 'exit');
    server.kill('SIGTERM');
    await ended;
  }
  await rm(folder, { recursive: true, force: true });
  await database.drop();
});

it('the commands of docs/http-api.md run as printed', async () => {
  await writeFile(path.join(folder, 'api-token'), token);
  const [commands = ''] = blocksOf('sh');
  expect(commands.split('\n').length).toBeGreaterThan(4);
  const script = commands
    .replaceAll('127.0.0.1:8080', `127.0.0.1:${String(port)}`)
    .replaceAll('.meshhook/api-token', path.join(folder, 'api-token'));
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', script], { cwd: folder });
  expect(stdout).toContain('"name":"acme"');
  expect(stdout).toContain('"created":true');
  expect(stdout).toContain('"status":"active"');
  expect(stdout).toContain('HTTP/1.1 202');
  const location = /^location: (\S+)/im.exec(stdout)?.[1] ?? '';
  const events = await fetch(`http://127.0.0.1:${String(port)}${location}/events`, {
    headers: { authorization: `Bearer ${token}` },
  });
  expect(await events.text()).toContain('event: finished');
});

/** The first line of the answer to exactly these bytes; empty when the connection was just closed. */
async function raw(bytes: string | Uint8Array): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  let answer = '';
  socket.on('data', (chunk) => (answer += chunk.toString('latin1')));
  socket.write(bytes);
  await Promise.race([once(socket, 'close'), waitUntil(() => answer.includes('\r\n\r\n'))]);
  socket.destroy();
  return answer.split('\r\n')[0] ?? '';
}

it('what no client would send is answered with a 4xx, or not at all, and the server lives on', async () => {
  const as = `host: x\r\nauthorization: Bearer ${token}\r\n`;
  const json = `${as}content-type: application/json\r\n`;
  const requests = [
    `GET /api/../../../etc/passwd HTTP/1.1\r\n${as}\r\n`,
    `GET /api/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n${as}\r\n`,
    `GET //etc/passwd HTTP/1.1\r\n${as}\r\n`,
    `GET http://elsewhere.example/api/nothing HTTP/1.1\r\n${as}\r\n`,
    `GET /api/keys/%ff%fe HTTP/1.1\r\n${as}\r\n`,
    `GET /api/keys/% HTTP/1.1\r\n${as}\r\n`,
    `GET /api/projects/%00 HTTP/1.1\r\n${as}\r\n`,
    `GET /api/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${'x'.repeat(9_000)}\r\n\r\n`,
    `GET /api/keys HTTP/1.1\r\nhost: x\r\ncookie: ${'x'.repeat(40_000)}\r\n\r\n`,
    `GET /api/keys HTTP/9.9\r\n${as}\r\n`,
    `BREW /api/keys HTTP/1.1\r\n${as}\r\n`,
    `PATCH /api/keys HTTP/1.1\r\n${as}content-length: 0\r\n\r\n`,
    `POST /api/keys/rotate HTTP/1.1\r\n${json}content-length: 2\r\n\r\n{x`,
    `POST /api/keys/rotate HTTP/1.1\r\n${json}transfer-encoding: chunked\r\n\r\nzz\r\n`,
    `POST /api/keys/rotate HTTP/1.1\r\n${json}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    `POST /api/keys/rotate HTTP/1.1\r\n${json}content-length: 99999999\r\n\r\n{`,
    // A body that never comes to its end.
    `POST /api/keys/rotate HTTP/1.1\r\n${json}content-length: 40\r\n\r\n{"all":`,
    '\u0000\u0001\u0002\r\n\r\n',
  ];
  const answers = await Promise.all(requests.map(raw));
  for (const [at, line] of answers.entries())
    expect(line, requests[at]?.slice(0, 80)).toMatch(/^(HTTP\/1\.1 4\d\d .*)?$/);
  expect(answers.filter((line) => line !== '').length).toBeGreaterThan(14);
  expect(answers.filter((line) => line.includes('408'))).toHaveLength(1);
  const alive = await fetch(`http://127.0.0.1:${String(port)}/readyz`);
  expect(alive.status).toBe(200);
  expect(said).not.toContain(token);
});
