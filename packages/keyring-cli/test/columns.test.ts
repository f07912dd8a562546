import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

const LABEL = 'webhooks.signing_secret';
const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { run, json, refused } = here(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;
let owner: string;

beforeAll(async () => {
  const { project } = await json(['project', 'create', 'acme']);
  cluster = await openCluster({ home });
  owner = cluster.adminUrl('meshhook');
  await query(
    owner,
    `create table public.webhooks (id bigint primary key, project_id uuid not null references public.projects on delete cascade,
       signing_secret bytea, signing_key_id uuid);
     insert into public.webhooks values (1, '${project.id}', 'plain'), (42, '${project.id}', null);
     select keyring.register_encrypted_column('${LABEL}', 'public.webhooks', 'signing_secret', 'signing_key_id')`,
  );
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

test('values of a registered column are set, read and adopted', async () => {
  const listed = await run(['columns', 'list']);
  expect(listed.stdout).toMatch(
    /webhooks\.signing_secret +public\.webhooks +signing_secret +signing_key_id +id bigint +refused/,
  );

  const of = ['--project', 'acme'];
  const set = await run(['columns', 'set', LABEL, '42', ...of], { input: 'whsec_42' });
  expect(set).toMatchObject({ code: 0, stdout: `Set ${LABEL} of row 42 in acme.\n` });
  expect((await run(['columns', 'get', LABEL, '42', ...of])).stdout).toBe('whsec_42');
  expect(await json(['columns', 'get', LABEL, '42', ...of])).toMatchObject({
    label: LABEL,
    row: '42',
    value: 'whsec_42',
  });

  expect(await refused(['columns', 'get', LABEL, '1', ...of])).toMatchObject({
    code: 'illegal_state',
    hint: `Run \`mh-keys columns adopt ${LABEL}\`.`,
  });
  const [dry, adopted, listedAgain] = await asDocumented();
  expect(dry).toContain('1 row from before the keyring; 1 can be adopted');
  expect(adopted).toContain('Adopted 1 of 1 row; 0 left.');
  expect(listedAgain).toContain(LABEL);
  expect((await run(['columns', 'adopt', LABEL, '--finish'])).code).toBe(0);
  expect((await run(['columns', 'get', LABEL, '1', ...of])).stdout).toBe('plain');
  expect((await run(['rotate', '--all'])).code).toBe(0);
  expect((await run(['columns', 'get', LABEL, '1', ...of])).stdout).toBe('plain');
});

/** The commands of docs/columns.md, as they stand there: what each wrote. */
async function asDocumented(): Promise<string[]> {
  const text = await readFile(path.join(import.meta.dirname, '../../../docs/columns.md'), 'utf8');
  const [, block = ''] = /columns\.test\.ts -->\s*```sh\n([^]*?)```/.exec(text) ?? [];
  const answers: string[] = [];
  for (const line of block.trim().split('\n')) {
    const [, args = ''] = /^mh-keys ([^#]*)/.exec(line) ?? [];
    const { code, stdout, stderr } = await run(args.trim().split(/ +/));
    expect({ line, code, stderr }).toMatchObject({ line, code: 0 });
    answers.push(stdout);
  }
  return answers;
}

test('what is not there is refused, with what to do', async () => {
  const of = ['--project', 'acme'];
  expect(await refused(['columns', 'get', 'nowhere.token', '1', ...of])).toMatchObject({ code: 'unregistered_column' });
  expect(await refused(['columns', 'get', LABEL, '7', ...of])).toMatchObject({ code: 'unknown_secret' });
  expect(await refused(['columns', 'set', LABEL, '7', ...of], { input: 'x' })).toMatchObject({
    code: 'unknown_secret',
  });
  expect(await refused(['columns', 'get', LABEL, '007', ...of])).toMatchObject({
    code: 'invalid_argument',
    stderr: expect.stringContaining('bigint') as string,
  });
});
