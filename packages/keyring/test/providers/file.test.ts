import { chmod, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { wrappingKeyAad } from '../../src/envelope/aad.ts';
import { parseEnvelope } from '../../src/envelope/format.ts';
import { decryptionFailed, type KeyringError } from '../../src/errors.ts';
import { createRootKeyFile, fileRootKeyPath, openFileRootKey } from '../../src/providers/file.ts';
import { openRootKey, supportedRootKeySchemes } from '../../src/providers/registry.ts';
import { keyFromBytes, rootFingerprint } from '../../src/secret-bytes.ts';
import { rejected, thrown } from '../support/thrown.ts';

const uri = 'file:./root.key';
const context = wrappingKeyAad({ version: 1, wrappingKeyId: '44444444-4444-4444-8444-444444444444' });
const elsewhere = wrappingKeyAad({ version: 2, wrappingKeyId: '44444444-4444-4444-8444-444444444444' });
const someKey = () => Buffer.alloc(32, 5);
const encoded = Buffer.alloc(32, 1).toString('base64url');

let cwd: string;
let path: string;

beforeEach(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'keyring root key '));
  path = join(cwd, 'root.key');
});

afterEach(async () => {
  await rm(cwd, { recursive: true, force: true });
});

describe('creating', () => {
  test('a new file is readable for its owner only, explains itself and opens', async () => {
    const created = await createRootKeyFile(uri, { cwd });
    expect(created.path).toBe(path);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const text = await readFile(path, 'utf8');
    expect(text).toMatch(/^(# .+\n)+MESHHOOK-ROOT-KEY-1-[A-Za-z0-9_-]{43}\n$/);
    expect(text).toContain('never commit it');
    const provider = await openFileRootKey(uri, { cwd });
    expect(await provider.status()).toEqual({ healthy: true, fingerprint: created.fingerprint });
  });

  test('an existing file is never overwritten, even if empty or a dangling link', async () => {
    await writeFile(path, '');
    expect(await rejected(createRootKeyFile(uri, { cwd }))).toHaveProperty('code', 'root_key_exists');
    expect(await readFile(path, 'utf8')).toBe('');
    await symlink(join(cwd, 'nowhere'), join(cwd, 'link.key'));
    expect(await rejected(createRootKeyFile('file:link.key', { cwd }))).toHaveProperty('code', 'root_key_exists');
    expect(await readdir(cwd)).toEqual(expect.arrayContaining(['link.key', 'root.key']));
  });

  test('a directory that is not there is named', async () => {
    const error = (await rejected(createRootKeyFile('file:no/such/root.key', { cwd }))) as KeyringError;
    expect(error.code).toBe('root_key_unreadable');
    expect(error.remedy).toContain(join(cwd, 'no/such'));
  });

  test('of two that create at once, one wins', async () => {
    const outcomes = await Promise.allSettled([createRootKeyFile(uri, { cwd }), createRootKeyFile(uri, { cwd })]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });
});

describe('opening', () => {
  test('a missing file is missing, and the remedy says how to make one', async () => {
    const error = (await rejected(openFileRootKey(uri, { cwd }))) as KeyringError;
    expect(error.code).toBe('root_key_missing');
    expect(error.remedy).toContain('mh-keys root-key create');
    expect(error.message).toContain(path);
  });

  test.each([0o640, 0o604, 0o644, 0o660, 0o610, 0o601, 0o777])(
    'mode %i is refused, and the remedy is chmod',
    async (mode) => {
      await createRootKeyFile(uri, { cwd });
      await chmod(path, mode);
      const error = (await rejected(openFileRootKey(uri, { cwd }))) as KeyringError;
      expect(error.code).toBe('root_key_permissions');
      expect(error.remedy).toContain(`chmod 600 ${path}`);
    },
  );

  test.each([0o600, 0o400])('mode %i is accepted', async (mode) => {
    await createRootKeyFile(uri, { cwd });
    await chmod(path, mode);
    await expect(openFileRootKey(uri, { cwd })).resolves.toHaveProperty('uri', uri);
  });

  test.each([
    ['an empty file', ''],
    ['comments only', '# nothing here\n'],
    ['no prefix', `${encoded}\n`],
    ['a later format', `MESHHOOK-ROOT-KEY-2-${encoded}\n`],
    ['the prefix in lower case', `meshhook-root-key-1-${encoded}\n`],
    ['one digit too few', `MESHHOOK-ROOT-KEY-1-${encoded.slice(1)}\n`],
    ['one digit too many', `MESHHOOK-ROOT-KEY-1-A${encoded}\n`],
    ['padding', `MESHHOOK-ROOT-KEY-1-${encoded}=\n`],
    ['a digit outside base64url', `MESHHOOK-ROOT-KEY-1-+${encoded.slice(1)}\n`],
    ['spare bits that are not zero', `MESHHOOK-ROOT-KEY-1-${'A'.repeat(42)}B\n`],
    ['a space before the key', ` MESHHOOK-ROOT-KEY-1-${encoded}\n`],
    ['a space after the key', `MESHHOOK-ROOT-KEY-1-${encoded} \n`],
    ['two keys', `MESHHOOK-ROOT-KEY-1-${encoded}\nMESHHOOK-ROOT-KEY-1-${encoded}\n`],
    ['something else beside the key', `MESHHOOK-ROOT-KEY-1-${encoded}\nTODO\n`],
    ['a byte order mark', `\ufeffMESHHOOK-ROOT-KEY-1-${encoded}\n`],
    ['a key behind far too much', `${'#'.repeat(20_000)}\nMESHHOOK-ROOT-KEY-1-${encoded}\n`],
  ])('%s is unreadable, and the error shows nothing of it', async (_, content) => {
    await writeFile(path, content, { mode: 0o600 });
    const error = (await rejected(openFileRootKey(uri, { cwd }))) as KeyringError;
    expect(error.code).toBe('root_key_unreadable');
    expect(inspect(error, { depth: null })).not.toContain(encoded.slice(1, 20));
  });

  test.each([
    ['LF', `# c\n\nMESHHOOK-ROOT-KEY-1-${encoded}\n`],
    ['CRLF', `# c\r\nMESHHOOK-ROOT-KEY-1-${encoded}\r\n`],
    ['no line end', `MESHHOOK-ROOT-KEY-1-${encoded}`],
    ['a comment after it, beyond ASCII', `MESHHOOK-ROOT-KEY-1-${encoded}\n# für später\n`],
  ])('a file with %s holds its key', async (_, content) => {
    await writeFile(path, content, { mode: 0o600 });
    const provider = await openFileRootKey(uri, { cwd });
    expect((await provider.status()).fingerprint).toBe(rootFingerprint(keyFromBytes(Buffer.alloc(32, 1))));
  });

  test('a directory is unreadable, and so is a pipe, without waiting for it', async () => {
    await mkdir(path, { mode: 0o700 });
    expect(await rejected(openFileRootKey(uri, { cwd }))).toHaveProperty('code', 'root_key_unreadable');
    execFileSync('mkfifo', ['-m', '600', join(cwd, 'pipe')]);
    expect(await rejected(openFileRootKey('file:pipe', { cwd }))).toHaveProperty('code', 'root_key_unreadable');
  });
});

describe('wrapping', () => {
  test('what was wrapped unwraps in its context, in another process too', async () => {
    const { fingerprint } = await createRootKeyFile(uri, { cwd });
    const wrapped = await (await openFileRootKey(uri, { cwd })).wrap(someKey(), context);
    expect(wrapped.fingerprint).toBe(fingerprint);
    expect(Buffer.from(parseEnvelope(wrapped.wrapped).keyId).toString('hex')).toBe(fingerprint);
    const again = await openFileRootKey(uri, { cwd });
    expect(Buffer.compare(await again.unwrap(wrapped.wrapped, context), someKey())).toBe(0);
  });

  test('another context, other bytes and another root key give the one error', async () => {
    await createRootKeyFile(uri, { cwd });
    await createRootKeyFile('file:other.key', { cwd });
    const provider = await openFileRootKey(uri, { cwd });
    const other = await openFileRootKey('file:other.key', { cwd });
    const { wrapped } = await provider.wrap(someKey(), context);
    const tampered = wrapped.map((byte, at) => (at === 40 ? byte ^ 1 : byte));
    for (const attempt of [
      () => provider.unwrap(wrapped, elsewhere),
      () => provider.unwrap(tampered, context),
      () => provider.unwrap(new Uint8Array(0), context),
      () => other.unwrap(wrapped, context),
    ]) {
      expect(await rejected(attempt())).toStrictEqual(decryptionFailed());
    }
  });

  test('nothing but 32 bytes is wrapped', async () => {
    await createRootKeyFile(uri, { cwd });
    const provider = await openFileRootKey(uri, { cwd });
    expect(await rejected(provider.wrap(new Uint8Array(31), context))).toBeInstanceOf(TypeError);
  });

  test('a provider whose file goes away says so, and recovers when it is back', async () => {
    await createRootKeyFile(uri, { cwd });
    const provider = await openFileRootKey(uri, { cwd });
    const { fingerprint } = await provider.status();
    await rename(path, `${path}.away`);
    expect(await provider.status()).toEqual({
      ...{ healthy: false, fingerprint },
      trouble: expect.objectContaining({ code: 'root_key_missing' }),
    });
    expect(await rejected(provider.wrap(someKey(), context))).toHaveProperty('code', 'root_key_missing');
    await rename(`${path}.away`, path);
    expect(await provider.status()).toEqual({ healthy: true, fingerprint });
  });

  test('a file that now holds another key is not used', async () => {
    await createRootKeyFile(uri, { cwd });
    await createRootKeyFile('file:other.key', { cwd });
    const provider = await openFileRootKey(uri, { cwd });
    await rename(join(cwd, 'other.key'), path);
    expect(await rejected(provider.wrap(someKey(), context))).toHaveProperty('code', 'wrong_root_key');
    expect(await provider.status()).toHaveProperty('healthy', false);
  });

  test('a provider prints no key', async () => {
    await createRootKeyFile(uri, { cwd });
    const line = (await readFile(path, 'utf8')).split('\n').find((line) => line.startsWith('MESHHOOK')) ?? '';
    const provider = await openFileRootKey(uri, { cwd });
    expect(line).toHaveLength(63);
    expect(inspect(provider, { showHidden: true, depth: null }) + JSON.stringify(provider)).not.toContain(
      line.slice(20),
    );
  });
});

describe('addresses', () => {
  test.each([
    ['file:root.key', '/work/dir/root.key'],
    ['file:./root.key', '/work/dir/root.key'],
    ['file:../root.key', '/work/root.key'],
    ['file:/etc/mesh hook/root.key', '/etc/mesh hook/root.key'],
    ['file:/etc/a%20b.key', '/etc/a%20b.key'],
    ['file:///etc/a%20b.key', '/etc/a b.key'],
  ])('%s names %s', (uri, path) => {
    expect(fileRootKeyPath(uri, '/work/dir')).toBe(path);
  });

  test.each([
    'file:',
    'file://root.key',
    'file://localhost/etc/root.key',
    'file://server/share/root.key',
    'file:root.key?mode=600',
    'file:///etc/root.key?x',
    'file:///etc/root.key#x',
    'file:///etc/a%2fb',
    'file:///etc/a%00b',
    'file:///etc/a%zz',
    'file:a\0b',
    'env:ROOT_KEY',
    'root.key',
  ])('%j names no file', (uri) => {
    expect(thrown(() => fileRootKeyPath(uri, '/work/dir'))).toHaveProperty('code', 'invalid_argument');
  });
});

describe('registry', () => {
  test('a file: root key opens by its URI', async () => {
    const { fingerprint } = await createRootKeyFile(uri, { cwd });
    const provider = await openRootKey(uri, { cwd });
    expect(await provider.status()).toEqual({ healthy: true, fingerprint });
  });

  test.each(['vaultish://user:hunter2@host/key', 'constructor:x', 'root.key', '', 'FILE:./root.key'])(
    '%j is unsupported; the supported schemes are listed and credentials are not shown',
    async (uri) => {
      const error = (await rejected(openRootKey(uri, { cwd }))) as KeyringError;
      expect(error.code).toBe('unsupported_root_key');
      expect(error.details['supported']).toEqual(supportedRootKeySchemes);
      expect(error.remedy).toContain('file:');
      expect(inspect(error)).not.toContain('hunter2');
    },
  );
});
