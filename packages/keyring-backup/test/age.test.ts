import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import {
  createRootKeyFile,
  insecureExportBackup,
  KeyringError,
  openKeyring,
  verifyBackup,
  type Backup,
} from '@meshhook/keyring';
import { ageRecipients, openBackupFile, parseIdentities, type AgeOptions } from '@meshhook/keyring-backup';
import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { canRun } from '../../../test/support/required.ts';

const passphrase = 'correct horse battery staple';
// A thousand times less than what ships: what is proved here is who gets in, not how long it takes.
const workFactor = 8;
let database: TestDatabase;
let folder: string;
let rootKey: string;
/** Two who may open it, and one who may not. */
let ada: string;
let bob: string;
let eve: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-age-'));
  rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  database = await createTestDatabase();
  const keyring = await openKeyring({ database: database.serviceUrl, rootKey });
  const { id } = await keyring.projects.create({ name: 'acme' });
  await keyring.secrets.put(id, 'A', 'value of A');
  await keyring.close();
  [ada, bob, eve] = await Promise.all([generateX25519Identity(), generateX25519Identity(), generateX25519Identity()]);
});
afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

/** The file, and what was in it before it was encrypted. */
async function makeFile(options: AgeOptions): Promise<{ file: Buffer; document: Buffer }> {
  const recipients = ageRecipients(options);
  let file = Buffer.alloc(0);
  let document = Buffer.alloc(0);
  await insecureExportBackup({
    ...{ database: database.serviceUrl, rootKey, actor: 'test', recipients: recipients.names },
    seal: (plain) => recipients.seal((document = Buffer.from(plain))),
    write: async (bytes) => void (file = Buffer.from(bytes)),
  });
  return { file, document };
}

const forBoth = async (more: { armor?: boolean } = {}) =>
  makeFile({ recipients: [await identityToRecipient(ada), await identityToRecipient(bob)], ...more });
const copy = (bytes: Uint8Array): Buffer => Buffer.from(bytes);
const proves = async (backup: Backup): Promise<void> => {
  const proof = await verifyBackup({ database: database.serviceUrl, backup, actor: 'test' });
  expect(proof).toMatchObject({ complete: true, dataKeys: 1, values: 1 });
};
const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof KeyringError ? error.code : String(error)),
  );

test('each of two recipients opens it alone, armored or not; nobody else does', async () => {
  for (const armor of [false, true]) {
    const { file } = await forBoth({ armor });
    expect(file.subarray(0, 14).toString()).toBe(armor ? '-----BEGIN AGE' : 'age-encryption');
    for (const identity of [ada, bob]) await proves(await openBackupFile(copy(file), { identities: [identity] }));
    await proves(await openBackupFile(copy(file), { identities: [eve, bob] }));
    expect(await codeOf(openBackupFile(copy(file), { identities: [eve] }))).toBe('backup_locked');
    expect(await codeOf(openBackupFile(copy(file), { passphrase }))).toBe('backup_locked');
  }
});

test('nothing of what is inside can be read in the file', async () => {
  const { file, document } = await forBoth();
  const { wrappingKeys, rootKey: root } = JSON.parse(document.toString()) as {
    wrappingKeys: { key: string }[];
    rootKey: { key: string };
  };
  for (const key of [...wrappingKeys.map((one) => one.key), root.key.slice(20)]) {
    expect(file.includes(key)).toBe(false);
    expect(file.includes(Buffer.from(key, 'base64url'))).toBe(false);
  }
  expect(file.includes('meshhook')).toBe(false);
});

test('a passphrase opens it; one with a typing error, and an identity, do not', async () => {
  const { file } = await makeFile({ passphrase, workFactor });
  await proves(await openBackupFile(copy(file), { passphrase }));
  for (const keys of [{ passphrase: passphrase.replace('horse', 'hosre') }, { passphrase: `${passphrase} ` }, {}])
    expect(await codeOf(openBackupFile(copy(file), keys))).toBe('backup_locked');
  await expect(openBackupFile(copy(file), { identities: [ada] })).rejects.toThrow('made with a passphrase');
});

test('a post-quantum recipient opens it', async () => {
  const identity = await generateHybridIdentity();
  const { file } = await makeFile({ recipients: [await identityToRecipient(identity)] });
  await proves(await openBackupFile(file, { identities: [identity] }));
});

test('no file that was cut off, at any byte, is taken for one', async () => {
  const { file } = await forBoth();
  const codes = new Set<string>();
  for (let length = 0; length < file.length; length += 7)
    codes.add(await codeOf(openBackupFile(copy(file.subarray(0, length)), { identities: [ada] })));
  codes.add(await codeOf(openBackupFile(copy(file.subarray(0, -1)), { identities: [ada] })));
  codes.add(await codeOf(openBackupFile(Buffer.concat([file, Buffer.from('x')]), { identities: [ada] })));
  expect([...codes]).toEqual(['backup_unreadable']);
});

test('no file in which one byte was changed, anywhere, is taken for one', async () => {
  const { file } = await forBoth();
  const codes = new Map<string, number>();
  for (let at = 0; at < file.length; at += 3) {
    const changed = copy(file);
    changed[at] = (changed[at] ?? 0) ^ 1;
    const code = await codeOf(openBackupFile(changed, { identities: [ada] }));
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  // In the part that is for this identity, it is no longer for it.
  expect([...codes.keys()].toSorted()).toEqual(['backup_locked', 'backup_unreadable']);
  expect(codes.get('backup_locked')).toBeLessThan(60);
});

test.each([
  ['another kind of file', 'PK\u0003\u0004'],
  ['text', 'hello'],
  ['an armor without an end', '-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n'],
  ['nothing', ''],
  ['a document that is none', '{}'],
])('%s is no backup', async (_, text) => {
  expect(await codeOf(openBackupFile(Buffer.from(text), { identities: [ada] }))).toBe('backup_unreadable');
});

test('an age file with something else in it is no backup', async () => {
  const file = await ageRecipients({ recipients: [await identityToRecipient(ada)] }).seal(Buffer.from('{"a": 1}'));
  expect(await codeOf(openBackupFile(file, { identities: [ada] }))).toBe('backup_unreadable');
});

test('opening overwrites what it opened', async () => {
  const { document } = await forBoth();
  await proves(await openBackupFile(document, {}));
  expect(document.every((byte) => byte === 0)).toBe(true);
});

describe('who cannot be a recipient is told before anything is encrypted', () => {
  test('nobody, a recipient that is none, one of several that was not copied whole, and a mixture', async () => {
    const good = await identityToRecipient(ada);
    const quantum = await identityToRecipient(await generateHybridIdentity());
    for (const recipients of [
      [],
      [''],
      ['ssh-ed25519 AAAA'],
      [good, good.slice(0, -1)],
      [good.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q')), good],
      ['age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t'],
      [good, quantum],
    ]) {
      expect(await codeOf((async () => ageRecipients({ recipients }))()), recipients.join()).toBe('invalid_argument');
    }
    expect(ageRecipients({ recipients: [good, good] }).names).toEqual([good]);
  });

  test('an identity in the place of a recipient is called what it is, and not repeated', async () => {
    const error = await (async () => ageRecipients({ recipients: [ada] }))().catch((refusal: unknown) => refusal);
    expect(error).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining('secret') });
    expect(JSON.stringify([error, String(error), (error as KeyringError).remedy])).not.toContain(ada.slice(16, 24));
  });

  test('a short passphrase', async () => {
    expect(await codeOf((async () => ageRecipients({ passphrase: 'fifteen letters' }))())).toBe('invalid_argument');
  });
});

test('an identity file is read as age-keygen writes it, and nothing else is taken for one', async () => {
  expect(parseIdentities(Buffer.from(`# created: today\r\n# public key: age1x\n${ada}\n\n${bob}\n`))).toEqual([
    ada,
    bob,
  ]);
  for (const text of ['', '# only a comment', 'age1x', `${ada}\nage1x`, '-----BEGIN AGE ENCRYPTED FILE-----'])
    expect(await codeOf((async () => parseIdentities(Buffer.from(text)))())).toBe('invalid_argument');
  const { file } = await forBoth();
  expect(await codeOf(openBackupFile(file, { identities: [ada.slice(0, -1)] }))).toBe('invalid_argument');
});

const hasAge = canRun('age', spawnSync('age', ['--version']).status === 0, 'there is no age');

describe.skipIf(!hasAge)('the age of the distribution', () => {
  const age = async (...args: string[]): Promise<Buffer> =>
    (await promisify(execFile)('age', args, { encoding: 'buffer', maxBuffer: 1e6 })).stdout;

  test('opens what was sealed here, armored or not, to the byte', async () => {
    const identityFile = path.join(folder, 'ada.txt');
    await writeFile(identityFile, `${ada}\n`, { mode: 0o600 });
    for (const armor of [false, true]) {
      const { file, document } = await forBoth({ armor });
      await writeFile(path.join(folder, 'backup.age'), file);
      expect(await age('-d', '-i', identityFile, path.join(folder, 'backup.age'))).toEqual(document);
    }
  });

  test('opens with the passphrase, typed at a terminal', async () => {
    const { file, document } = await makeFile({ passphrase, workFactor });
    await writeFile(path.join(folder, 'passphrase.age'), file);
    const out = path.join(folder, 'opened');
    const child = spawn('script', ['-qec', `age -d -o '${out}' '${path.join(folder, 'passphrase.age')}'`, '/dev/null']);
    // It forgets what was typed before it asked.
    child.stdout.on(
      'data',
      (text: Buffer) => void (text.includes('passphrase') && child.stdin.write(`${passphrase}\n`)),
    );
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(await readFile(out)).toEqual(document);
  });

  test('seals what is opened here', async () => {
    const { document } = await forBoth();
    await writeFile(path.join(folder, 'document'), document, { mode: 0o600 });
    for (const more of [[], ['-a']]) {
      const file = await age('-r', await identityToRecipient(bob), ...more, path.join(folder, 'document'));
      await proves(await openBackupFile(file, { identities: [bob] }));
    }
  });
});
