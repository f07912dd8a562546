/** The commands of docs/guides, of a-key-leaked.md and of access.md, as they stand there, in the order in which somebody follows them. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createProgram } from '../src/program.ts';
import { firstOf, temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { run, json } = here(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;

beforeAll(async () => {
  await json(['project', 'create', 'acme']);
  cluster = await openCluster({ home });
  await json(['project', 'create', 'legacy']);
  for (const project of ['acme', 'legacy']) {
    await run(['secrets', 'set', 'STRIPE_KEY', '--project', project], { input: 'sk_live_old' });
  }
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

/** Runs the commands of a part, and gives what each wrote. `known` stands for what a person reads off the answer before. */
async function follow(page: string, part: string, known: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const text = await readFile(path.join(import.meta.dirname, '../../../docs', `${page}.md`), 'utf8');
  const from = text.indexOf(`guides.test.ts: ${part} -->`);
  expect(from, `${page}: ${part}`).toBeGreaterThan(0);
  const [, block = ''] = /```sh\n([^]*?)```/.exec(text.slice(from)) ?? [];
  const answers: string[] = [];
  for (const line of block.trim().split('\n')) {
    const [, input, command = ''] = /^ *(?:printf '([^']*)' \| )?mh-keys (.*)$/.exec(line) ?? [];
    const args = [...command.matchAll(/'([^']*)'|"\$(\w+)"|(\S+)/g)].map(
      ([, quoted, name, plain]) => quoted ?? (name === undefined ? plain : known[name]) ?? '',
    );
    expect(args, line).not.toContain('');
    const { code, stdout, stderr } = await run(args, input === undefined ? {} : { input });
    if (code !== 0) throw new Error(`${line}: ${stderr}`);
    answers.push(stdout);
  }
  return answers;
}

const activeKey = async (): Promise<string> =>
  firstOf((await json(['keys', 'list', '--project', 'acme'])).keys.filter(({ active }) => active)).id;
const requested = async (): Promise<string> => (await json(['rotate', '--project', 'acme', '--no-wait'])).rotation.id;

test('schedule.md sets a schedule, and says whether it is kept', async () => {
  const [dry, set] = await follow('guides/schedule', 'set');
  expect(dry).toContain('every 90 days');
  expect(set).toMatch(/Europe\/Berlin/);
  expect(await follow('guides/schedule', 'workers')).toEqual([expect.stringContaining('Nobody works')]);
  expect((await follow('guides/schedule', 'projects'))[2]).toContain('every 30 days');
  expect((await follow('guides/schedule', 'told'))[2]).toMatch(/test.*pending|pending.*test/);
  expect(await follow('guides/schedule', 'overdue')).toEqual(['Nothing is overdue.\n']);
});

test('rotate.md rotates, holds, lets go on and turns back', async () => {
  await follow('guides/rotate', 'dry');
  const [rotated, status] = await follow('guides/rotate', 'rotate');
  expect(rotated).toContain('completed');
  expect(status).toContain('acme');
  const ROTATION = await requested();
  const [shown, , resumed, receipts] = await follow('guides/rotate', 'open', { ROTATION });
  expect(shown).toContain('requested');
  expect(resumed).toContain('completed');
  expect(receipts).toContain('signature');
  expect((await follow('guides/rotate', 'back', { ROTATION: await requested() }))[0]).toMatch(
    /canceled|rolled back|rolled_back/,
  );
});

test('recover.md leaves a backup that opens this database, and nothing missing', async () => {
  const identity = await generateX25519Identity();
  const [BACKUP, IDENTITY] = [path.join(folder.path, 'keyring.age'), path.join(folder.path, 'identity.txt')];
  await writeFile(IDENTITY, identity, { mode: 0o600 });
  await follow('guides/recover', 'backup', { BACKUP, IDENTITY, RECIPIENT: await identityToRecipient(identity) });
  const [, doctor] = await follow('guides/recover', 'missing');
  expect(doctor).toContain('Healthy');
  expect(doctor).not.toContain('no_backup');
});

test('respond-to-a-leak.md leaves the version and names what has to be changed', async () => {
  const KEY = await activeKey();
  await follow('guides/respond-to-a-leak', 'value');
  const [, moved] = await follow('guides/respond-to-a-leak', 'compromise', { KEY });
  expect(moved).toContain('STRIPE_KEY');
  expect(await activeKey()).not.toBe(KEY);
  expect((await follow('guides/respond-to-a-leak', 'exposure', { KEY }))[0]).toContain('STRIPE_KEY');
  await run(['token', 'create', 'deploy', '--permission', 'keys:read', '--project', 'acme']);
  const { tokens } = (await json(['token', 'list'])) as unknown as {
    tokens: { id: string; revokedAt: string | null }[];
  };
  await follow('guides/respond-to-a-leak', 'token', { TOKEN: firstOf(tokens).id });
  const [trail] = await follow('guides/respond-to-a-leak', 'trail');
  expect(trail).toContain('key.compromised');
  expect((await run(['secrets', 'get', 'STRIPE_KEY', '--project', 'acme'])).stdout).toBe('sk_live_new');
});

test('a-key-leaked.md and access.md do what they say', async () => {
  const KEY = await activeKey();
  expect((await follow('runbooks/a-key-leaked', 'key', { KEY }))[1]).toContain('completed');
  expect(await activeKey()).not.toBe(KEY);
  const [, , tokens] = await follow('access', 'grants');
  expect(tokens).toContain('deploy');
});

test('every command that a document names is one', async () => {
  const root = path.join(import.meta.dirname, '../../..');
  const pages = (await readdir(path.join(root, 'docs'), { recursive: true })).filter((name) => name.endsWith('.md'));
  const program = createProgram({} as Parameters<typeof createProgram>[0], '0.0.0', () => undefined);
  const unknown: string[] = [];
  let named = 0;
  for (const page of ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', ...pages.map((name) => `docs/${name}`)]) {
    const text = await readFile(path.join(root, page), 'utf8');
    for (const [, words = ''] of text.matchAll(/mh-keys((?: [a-z][a-z-]*)+)[^`\n]*(?:`|\n)/g)) {
      let command: { commands: readonly (typeof program)[]; registeredArguments: readonly unknown[] } = program;
      named++;
      for (const word of words.trim().split(' ')) {
        const next: typeof program | undefined = command.commands.find((one) => one.name() === word);
        if (next === undefined) {
          if (command.registeredArguments.length === 0 && command.commands.length > 0)
            unknown.push(`${page}: mh-keys${words}`);
          break;
        }
        command = next;
      }
    }
  }
  expect(named).toBeGreaterThan(150);
  expect(unknown).toEqual([]);
});
