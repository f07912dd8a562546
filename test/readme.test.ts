import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

// What the README tells people to type, typed. (`npm ci && npm test` is what `.ci/run` does.)
const root = path.join(import.meta.dirname, '..');
const marker = '<!-- run by test/readme.test.ts -->';
const value = 'sk_live_4eC39HqLyjWDarjtT1zdp7dc';

let folder = '';
let home = '';
let readme = '';
let server: ChildProcess | undefined;
let said = '';

const environment = (): NodeJS.ProcessEnv => {
  const { DATABASE_URL: _url, MESHHOOK_ROOT_KEY: _key, ...rest } = process.env;
  return {
    ...rest,
    MESHHOOK_HOME: home,
    PORT: '0',
    PATH: `${path.join(root, 'node_modules/.bin')}:${rest['PATH'] ?? ''}`,
  };
};

const shell = async (command: string): Promise<string> => {
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', command], {
    cwd: root,
    env: environment(),
  });
  return stdout;
};

/** The lines of the first `sh` block after a place in the README. */
const commandsAfter = (place: string): string[] =>
  /```sh\n([^]*?)```/
    .exec(readme.slice(readme.indexOf(place)))?.[1]
    ?.trim()
    .split('\n') ?? [];

beforeAll(async () => {
  readme = await readFile(path.join(root, 'README.md'), 'utf8');
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-readme-'));
  home = path.join(folder, '.meshhook');
  server = spawn('npm', ['start'], {
    cwd: root,
    env: environment(),
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [server.stdout, server.stderr])
    stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  while (!/http:\/\/127\.0\.0\.1:\d+/.test(said)) {
    if (server.exitCode !== null) throw new Error(`npm start ended:\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

afterAll(async () => {
  if (server?.pid !== undefined && server.exitCode === null) {
    const ended = once(server, 'exit');
    process.kill(-server.pid, 'SIGTERM');
    await ended;
  }
  await rm(folder, { recursive: true, force: true });
});

test('npm start says what it made, where, and what must not be lost', () => {
  expect(said).toContain(path.join(home, 'root.key'));
  expect(said).toMatch(/los(e|ing|t)/i);
  expect(said).not.toContain(value);
});

test('the two minutes of the README run as printed, beside the server', async () => {
  const commands = commandsAfter(marker);
  expect(commands.length).toBeGreaterThan(8);
  const outputs = new Map<string, string>();
  for (const command of commands) outputs.set(command, await shell(command.replace('npx mh-keys', 'mh-keys')));
  const outputOf = (start: string): string => [...outputs].find(([command]) => command.startsWith(start))?.[1] ?? '';
  expect(outputOf('npx mh-keys secrets get')).toBe(value);
  expect(outputOf('npx mh-keys status')).toMatch(/acme/);
  expect(JSON.parse(outputOf('npx mh-keys rotate --all --json'))).toMatchObject({ rotation: { state: 'completed' } });
  expect(outputOf('npx mh-keys rotations')).toMatch(/completed/);
  expect(outputOf('npx mh-keys audit')).toMatch(/key\.promoted/);
  expect(outputOf('npx mh-keys doctor')).toMatch(/Healthy/);
});

test('the request of the README is accepted and its rotation completed by the server', async () => {
  const address = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0] ?? '';
  const command = commandsAfter('With the server running, by HTTP').join('\n');
  expect(command).toContain('/api/keys/rotate');
  const answer = await shell(
    command.replace('http://127.0.0.1:8080', address).replace('.meshhook/api-token', path.join(home, 'api-token')),
  );
  expect(answer).toMatch(/^HTTP\/1\.1 202/);
  const location = /^location: (\S+)/im.exec(answer)?.[1] ?? '';
  const token = (await readFile(path.join(home, 'api-token'), 'utf8')).trim();
  for (;;) {
    const response = await fetch(new URL(location, address), { headers: { authorization: `Bearer ${token}` } });
    const { state } = (await response.json()) as { state: string };
    if (state === 'completed') break;
    expect(['requested', 'running']).toContain(state);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
});
