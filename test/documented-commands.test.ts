/** Commands that documents show are run: a block of them says by which test, and that test knows the document. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '..');

interface Block {
  readonly file: string;
  readonly first: string;
  /** The test that its marker names. */
  readonly runBy: string | undefined;
}

/** Blocks of `sh`, and those without a language that show our commands. */
function blocksOf(file: string, text: string): Block[] {
  return [...text.matchAll(/^( *)```(\w*)\n([^]*?)^ *```/gm)].flatMap(({ 2: language = '', 3: body = '', index }) => {
    const isCommand = language === 'sh' || (language === '' && /^\s*([A-Z_]+=\S+ +)*(npx )?mh-keys /m.test(body));
    if (!isCommand) return [];
    const runBy = /<!-- run by (\S+?\.test\.ts)(?::[^>]*)? -->\s*$/.exec(text.slice(0, index))?.[1];
    return [{ file, first: body.trim().split('\n')[0] ?? '', runBy }];
  });
}

const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const blocks = documents.flatMap((file) => blocksOf(file, readFileSync(path.join(root, file), 'utf8')));

// Not run as they stand there, and why that is as good. Who adds one gives the reason.
const notRun: Readonly<Record<string, string>> = {
  'README.md: npm ci && npm start     # a real PostgreSQL, a root key, the schema, the API and the page: http://127.0.0.1:8080':
    'test/readme.test.ts starts it; .ci/run installs and tests',
  'README.md: curl -i -X POST http://127.0.0.1:8080/api/keys/rotate \\': 'test/readme.test.ts runs it, at a free port',
  'docs/access.md: mh-keys grant add person:ada instance_admin':
    'access.test.ts does it: it switches a rule on for a whole installation',
  'docs/audit.md: mh-keys audit verify --checkpoint audit-checkpoint':
    'audit.test.ts does it, with the file of its own home',
  'docs/operating.md: DATABASE_URL=postgres://owner@host/db            mh-keys migrate':
    'names a host; test/check-scripts and the CLI do it',
  'docs/operating.md: mh-keys secrets adopt --dry-run        # counts them, says which could not be encrypted':
    'wants rows from before the keyring: the tests of adoption have them',
  'docs/operating.md: DATABASE_URL=postgres://keyring_login@host/db  MESHHOOK_ROOT_KEY=file:/etc/meshhook/root.key  mh-keys worker':
    'names a host; worker.test.ts runs workers',
  'docs/providers/file.md: mh-keys root-key create file:/etc/meshhook/root.key':
    'a path of root; root-key.test.ts makes them elsewhere',
  'docs/providers/pkcs11.md: npm install pkcs11js                                                  # needs a C++ compiler: it is built when it is installed':
    'wants a compiler and a module; CI runs the provider against SoftHSM',
};

test('every block of commands is run by a test, or it is said here why not', () => {
  const unmarked = blocks.filter(({ runBy }) => runBy === undefined).map(({ file, first }) => `${file}: ${first}`);
  expect(unmarked.filter((block) => !(block in notRun))).toEqual([]);
  // What is run, or gone, needs no excuse any more.
  expect(Object.keys(notRun).filter((block) => !unmarked.includes(block))).toEqual([]);
});

test('the test that a block names is there, and names its document', () => {
  const marked = blocks.filter(({ runBy }) => runBy !== undefined);
  expect(marked.length).toBeGreaterThan(25);
  for (const { file, runBy = '' } of marked) {
    expect(existsSync(path.join(root, runBy)), `${file}: ${runBy}`).toBe(true);
    const name = path.basename(file, '.md');
    expect(readFileSync(path.join(root, runBy), 'utf8'), `${runBy} knows ${file}`).toContain(name);
  }
});

test('a block without a test is found', () => {
  expect(
    blocksOf('x', 'a\n\n```sh\nls\n```\n\n<!-- run by a.test.ts: b -->\n\n   ```sh\n   mh-keys doctor\n   ```\n'),
  ).toEqual([
    { file: 'x', first: 'ls', runBy: undefined },
    { file: 'x', first: 'mh-keys doctor', runBy: 'a.test.ts' },
  ]);
});
