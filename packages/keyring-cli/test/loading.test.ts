/** What a command has to load before it can do anything: the clouds' client libraries and the job queue are not in it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, cli, temporaryFolder } from './support/cli.ts';

const folder = temporaryFolder();
const list = path.join(folder.path, 'loaded.json');

/** Writes down every file that is loaded, imported or required. */
const listening = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  import { writeFileSync } from 'node:fs';
  const loaded = [];
  registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context); } });
  process.on('exit', () => writeFileSync(${JSON.stringify(list)}, JSON.stringify(loaded)));
`)}`;

beforeAll(build);
afterAll(folder.remove);

test.each([
  ['--version', []],
  ['root-key create, of a file', ['root-key', 'create', 'file:./new.key']],
])('mh-keys %s loads no provider but that of files, no client library and no job queue', async (name, args) => {
  const { code } = await cli(folder.path).run(args.length === 0 ? [name] : args, {
    cwd: folder.path,
    env: { NODE_OPTIONS: `--import=${listening}` },
  });
  expect(code).toBe(0);
  const loaded = JSON.parse(readFileSync(list, 'utf8')) as string[];
  expect(loaded.some((url) => url.includes('/keyring-cli/dist/main.js'))).toBe(true);
  const providers = loaded.filter((url) => /\/providers\/[a-z0-9-]+\.js$/.test(url)).map((url) => path.basename(url));
  expect(providers.filter((file) => /^(awskms|gcpkms|azurekms|hashivault|pkcs11|cloud)/.test(file))).toEqual([]);
  expect(
    loaded.filter((url) => /\/node_modules\/(@aws|@smithy|@google|google-|@azure|@grpc|pkcs11|pg-boss|pino)/.test(url)),
  ).toEqual([]);
});

test('a Node that is too old is told so, instead of a stack', async () => {
  const older = `data:text/javascript,${encodeURIComponent(
    `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } })`,
  )}`;
  const { code, stderr } = await cli(folder.path).run(['status'], { env: { NODE_OPTIONS: `--import=${older}` } });
  expect(code).toBe(2);
  expect(stderr).toMatch(/^error: mh-keys wants Node 22\.18 or later, and this is 20\.20\.2\. \[usage\]\nhint: /);
});
