import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { KeyringError } from '@meshhook/keyring';
import { openCluster } from '@meshhook/keyring-embedded';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase } from '../../../test/support/database.ts';
import { canRun } from '../../../test/support/required.ts';
import { build, cli, temporaryFolder } from './support/cli.ts';
import { inProcess, type Ended } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const run = inProcess(home);
const binary = path.join(import.meta.dirname, '../bin/mh-keys.js');
const passphrase = 'correct horse battery staple';
const at = (name: string): string => path.join(folder.path, name);
const verify = (file: string, ...more: string[]): string[] => ['root-key', 'backup', 'verify', file, ...more];
let cluster: Awaited<ReturnType<typeof openCluster>>;
let recipient: string;
let identity: string[];
/** What was said before there was a backup, and when it was made. */
let before: string;
let made: Ended;

beforeAll(async () => {
  const secret = await generateX25519Identity();
  recipient = await identityToRecipient(secret);
  await writeFile(at('identity.txt'), `# public key: ${recipient}\n${secret}\n`, { mode: 0o600 });
  await writeFile(at('other.txt'), `${await generateX25519Identity()}\n`, { mode: 0o600 });
  await writeFile(at('passphrase.txt'), `${passphrase}\n`, { mode: 0o600 });
  identity = ['--identity', at('identity.txt')];
  await run(['project', 'create', 'acme']);
  // Held from here on, so that commands do not each start and stop it.
  cluster = await openCluster({ home });
  await run(['secrets', 'set', 'A', '--project', 'acme'], { input: 'value A' });
  before = (await run(['root-key', 'status'])).stdout.toString();
  made = await run(['root-key', 'backup', '--recipient', recipient]);
  await writeFile(at('piped.age'), made.stdout);
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

const document = ({ stdout }: Ended): Record<string, Record<string, unknown>> =>
  JSON.parse(stdout.toString()) as Record<string, Record<string, unknown>>;
const isThere = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );
const lastEntry = async (): Promise<unknown> => {
  const { entries } = document(await run(['audit', '--limit', '1', '--json']));
  return (entries as unknown as unknown[])[0];
};

test('a backup goes to standard output, and nothing else does; it opens, and status and doctor know', async () => {
  const warnings = async (): Promise<unknown> =>
    (document(await run(['doctor', '--json']))['report']?.['findings'] as { code: string }[]).map(({ code }) => code);
  expect(before).toContain('There is no backup');
  expect(made).toMatchObject({ code: 0, error: undefined });
  expect(made.stdout.subarray(0, 21).toString()).toBe('age-encryption.org/v1');
  const sha256 = createHash('sha256').update(made.stdout).digest('hex');
  expect(made.stderr).toContain(`1 wrapping key, for 1 recipient, SHA-256 ${sha256}`);
  expect(await warnings()).toEqual(['backup_not_verified', 'single_admin']);
  expect((await run(['root-key', 'status'])).stdout.toString()).toMatch(/Last backup: .*, never verified/);

  const verified = await run(verify(at('piped.age'), ...identity));
  expect(verified.stdout.toString()).toMatch(/^Opens this database: .*1 data key.*1 value tried/);
  expect(document(await run(['root-key', 'status', '--json']))['lastBackup']).toMatchObject({
    ...{ fileSha256: sha256, recipients: [recipient], complete: true, verifiedAt: expect.any(String) },
  });
  expect(await warnings()).toEqual(['single_admin']);
  // From a pipe as well, encrypted or as another program decrypted it.
  expect((await run(verify('-', ...identity), { input: made.stdout })).code).toBe(0);
});

test('a backup goes into a new file for its owner alone, and never over one that is there', async () => {
  const args = ['root-key', 'backup', '--recipient', recipient, '--armor', '--output', at('file.age'), '--json'];
  expect(document(await run(args))).toMatchObject({
    path: at('file.age'),
    backup: { complete: true, recipients: [recipient], writtenAt: expect.any(String) },
  });
  expect((await stat(at('file.age'))).mode & 0o777).toBe(0o600);
  const written = await readFile(at('file.age'));
  expect(written.toString()).toMatch(/^-----BEGIN AGE ENCRYPTED FILE-----\n/);
  expect(await run(args)).toMatchObject({ code: 4, error: { code: 'backup_exists' } });
  expect(await readFile(at('file.age'))).toEqual(written);
  expect(document(await run([...verify(at('file.age'), ...identity), '--json']))['proof']).toMatchObject({
    ...{ complete: true, values: 1, failed: 0 },
  });
});

test('a passphrase comes from standard input or a file; the same opens it, and no other', async () => {
  const output = at('passphrase.age');
  const args = ['root-key', 'backup', '--passphrase', '--output', output];
  for (const input of ['short\n', '', `\n${passphrase}`])
    expect(await run(args, { input })).toMatchObject({ code: 2, error: { code: 'invalid_argument' } });
  expect((await run(args, { input: `${passphrase}\r\nsomething else` })).code).toBe(0);
  expect((await run(verify(output, '--passphrase-file', at('passphrase.txt')))).code).toBe(0);
  expect(await run(verify(output, '--passphrase'), { input: `${passphrase.slice(0, -1)}\n` })).toMatchObject({
    ...{ code: 6, error: { code: 'backup_locked', remedy: expect.stringContaining('typing error') as string } },
  });
  expect(await run(verify(output, ...identity))).toMatchObject({
    ...{ code: 6, error: { code: 'backup_locked', remedy: 'Add --passphrase.' } },
  });
  expect(await run(verify('-', '--passphrase'), { input: passphrase })).toMatchObject({ code: 2 });
});

describe('what cannot be is refused before anything is made, and told apart', () => {
  test('whom a backup would be for', async () => {
    const output = at('never.age');
    const last = await lastEntry();
    const backUp = (...more: string[]): Promise<Ended> => run(['root-key', 'backup', '--output', output, ...more]);
    expect(await backUp()).toMatchObject({
      code: 2,
      error: { remedy: expect.stringContaining('age-keygen') as string },
    });
    expect(await backUp('--recipient', recipient, recipient.slice(0, -2))).toMatchObject({
      ...{ code: 2, error: { code: 'invalid_argument' } },
    });
    expect(await backUp('--recipient', recipient, '--passphrase')).toMatchObject({ code: 2, error: { code: 'usage' } });
    const secret = (await readFile(at('identity.txt'), 'utf8')).split('\n')[1] ?? '';
    const mistaken = await backUp('--recipient', secret);
    expect(mistaken).toMatchObject({ code: 2, error: { remedy: expect.stringContaining('make a new one') as string } });
    expect(JSON.stringify(mistaken)).not.toContain(secret.slice(18, 30));
    expect(await isThere(output)).toBe(false);
    expect(await lastEntry()).toEqual(last);
  });

  test('where it would go', async () => {
    const args = ['root-key', 'backup', '--recipient', recipient];
    for (const more of [{ tty: true }, {}]) {
      const json = more.tty === true ? [] : ['--json'];
      expect(await run([...args, ...json], more)).toMatchObject({ code: 2, error: { remedy: 'Add --output FILE.' } });
    }
    expect(await run([...args, '--output', at('no/such/folder.age')])).toMatchObject({
      ...{ code: 1, error: { code: 'backup_unwritten' } },
    });
  });

  test('what opens it, and what it is', async () => {
    const file = at('piped.age');
    const whole = await readFile(file);
    const changed = Buffer.from(whole);
    changed[whole.length - 1] = (whole.at(-1) ?? 0) ^ 1;
    await writeFile(at('cut.age'), whole.subarray(0, -1));
    await writeFile(at('changed.age'), changed);
    const to = ['--to', `file:${at('never.key')}`];
    const cases: [string[], number, string][] = [
      [verify(file, '--identity', at('other.txt')), 6, 'backup_locked'],
      [verify(file), 6, 'backup_locked'],
      [verify(file, '--identity', at('nowhere.txt')), 2, 'invalid_argument'],
      [verify(file, '--identity', at('passphrase.txt')), 2, 'invalid_argument'],
      [verify(at('cut.age'), ...identity), 6, 'backup_unreadable'],
      [verify(at('changed.age'), ...identity), 6, 'backup_unreadable'],
      [verify(at('identity.txt'), ...identity), 6, 'backup_unreadable'],
      [verify(at('nowhere.age'), ...identity), 2, 'invalid_argument'],
      [verify(folder.path, ...identity), 2, 'invalid_argument'],
      [['root-key', 'recover', at('cut.age'), ...identity, ...to], 6, 'backup_unreadable'],
      [['root-key', 'recover', file, '--identity', at('other.txt'), ...to], 6, 'backup_locked'],
      [['root-key', 'recover', file, ...identity, '--to', 'nonsense:x'], 2, 'unsupported_root_key'],
    ];
    for (const [args, code, error] of cases) {
      const refused = await run(args);
      expect(refused, args.join(' ')).toMatchObject({ code, error: { code: error } });
      expect(refused.error?.remedy, args.join(' ')).toMatch(/\w/);
    }
    expect(await isThere(at('never.key'))).toBe(false);
  });

  test('which database', async () => {
    const other = await createTestDatabase();
    const env = { databaseUrl: other.serviceUrl, rootKeyUri: `file:${at('other.key')}` };
    await run(['root-key', 'create', env.rootKeyUri]);
    await run(['project', 'create', 'other'], { env });
    const recover = ['root-key', 'recover', at('piped.age'), ...identity, '--to', `file:${at('never.key')}`];
    for (const args of [verify(at('piped.age'), ...identity), recover])
      expect(await run(args, { env })).toMatchObject({ code: 6, error: { code: 'backup_mismatch' } });
    expect(await isThere(at('never.key'))).toBe(false);
    await other.drop();
  });

  test('a Ctrl-C before it is sealed', async () => {
    const interruption = new AbortController();
    interruption.abort(new KeyringError('interrupted', 'Interrupted.'));
    const args = ['root-key', 'backup', '--recipient', recipient, '--output', at('never.age')];
    const last = await lastEntry();
    expect(await run(args, { signal: interruption.signal })).toMatchObject({ code: 130 });
    expect(await isThere(at('never.age'))).toBe(false);
    expect(await lastEntry()).toEqual(last);
  });
});

test('a full disk is told, and what was sealed for it is remembered as not written', async () => {
  build();
  const full = spawnSync(
    'bash',
    ['-c', 'exec "$0" "$@" > /dev/full', process.execPath, binary, 'root-key', 'backup', '--recipient', recipient],
    { env: { PATH: process.env['PATH'], MESHHOOK_HOME: home }, encoding: 'utf8' },
  );
  expect(full.stderr).toMatch(/standard output: ENOSPC\. \[backup_unwritten\]\nhint: Delete/);
  expect(full.status).toBe(1);
  expect(await lastEntry()).toMatchObject({ action: 'root_key.backed_up', outcome: 'failed' });
});

const hasMount = canRun(
  'mount',
  spawnSync('bash', ['-c', 'd=$(mktemp -d) && mount -t tmpfs -o size=4k tmpfs $d && umount $d']).status === 0,
  'no small disk can be mounted here',
);

test.skipIf(!hasMount)('on a full disk no part of a file is left', async () => {
  const disk = at('disk');
  await mkdir(disk);
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', disk]);
  try {
    await writeFile(path.join(disk, 'full'), Buffer.alloc(4096));
    const output = path.join(disk, 'keyring.age');
    expect(await run(['root-key', 'backup', '--recipient', recipient, '--output', output])).toMatchObject({
      ...{ code: 1, error: { code: 'backup_unwritten', remedy: expect.stringContaining('disk') as string } },
    });
    expect(await isThere(output)).toBe(false);
  } finally {
    spawnSync('umount', [disk]);
  }
});

test('an embedded database whose root key is gone opens again, at the place where it was', async () => {
  const key = path.join(home, 'root.key');
  await rm(key);
  expect(await run(['secrets', 'get', 'A', '--project', 'acme'])).toMatchObject({
    ...{ code: 6, error: { code: 'root_key_missing', remedy: expect.stringContaining('root-key recover') as string } },
  });
  const recover = ['root-key', 'recover', at('piped.age'), ...identity, '--to', `file:${key}`];
  // The program itself, as it is installed.
  const first = await cli(home).run(recover);
  expect(first).toMatchObject({ code: 0, stdout: expect.stringContaining('1 wrapping key put under it') as string });
  expect(first.stdout).toMatch(/Left as it was: the root key file:.*root\.key/);
  expect((await run(recover)).stdout.toString()).toContain('It did so already');
  expect((await run(['secrets', 'get', 'A', '--project', 'acme'])).stdout.toString()).toBe('value A');
});
