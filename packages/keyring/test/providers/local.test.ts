import { mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { KeyringError } from '../../src/errors.ts';
import { openEnvRootKey } from '../../src/providers/env.ts';
import { createRootKeyFile, openFileRootKey } from '../../src/providers/file.ts';
import { openRootKey } from '../../src/providers/registry.ts';
import { rejected } from '../support/thrown.ts';
import { expectNoSecrets, providerContract } from './contract.ts';

const line = (byte: number): string => `MESHHOOK-ROOT-KEY-1-${Buffer.alloc(32, byte).toString('base64url')}`;
/** As every spelling of it that could be printed. */
const spellings = (byte: number): string[] => {
  const key = Buffer.alloc(32, byte);
  return [
    key.toString('base64url').slice(2, 20),
    key.toString('hex').slice(2, 20),
    key.toString('base64').slice(2, 20),
  ];
};

providerContract('file', async () => {
  const cwd = await mkdtemp(join(tmpdir(), 'keyring contract '));
  await createRootKeyFile('file:root.key', { cwd });
  await createRootKeyFile('file:other.key', { cwd });
  const text = await readFile(join(cwd, 'root.key'), 'utf8');
  const encoded = /ROOT-KEY-1-(\S{43})/.exec(text)?.[1] ?? '';
  return {
    uri: 'file:root.key',
    open: (uri = 'file:root.key') => openRootKey(uri, { cwd }),
    openOther: () => openFileRootKey('file:other.key', { cwd }),
    takeAway: () => rename(join(cwd, 'root.key'), join(cwd, 'away')),
    bringBack: () => rename(join(cwd, 'away'), join(cwd, 'root.key')),
    secrets: [encoded.slice(0, 20), Buffer.from(encoded, 'base64url').toString('hex').slice(0, 20)],
    close: () => rm(cwd, { recursive: true }),
  };
});

providerContract('env', async () => {
  const env: Record<string, string | undefined> = { ROOT: line(1), OTHER: line(2) };
  return {
    uri: 'env:ROOT',
    open: (uri = 'env:ROOT') => openRootKey(uri, { cwd: '/', env }),
    openOther: () => openEnvRootKey('env:OTHER', { env }),
    takeAway: () => {
      delete env['ROOT'];
    },
    bringBack: () => {
      env['ROOT'] = line(1);
    },
    secrets: spellings(1),
    close: () => undefined,
  };
});

describe('a root key in the environment', () => {
  test('is what the same line in a file is', async () => {
    const cwd = await mkdtemp(join(tmpdir(), 'keyring env '));
    try {
      const { path, fingerprint } = await createRootKeyFile('file:root.key', { cwd });
      const env = { WHOLE: await readFile(path, 'utf8') };
      expect(await (await openEnvRootKey('env:WHOLE', { env })).status()).toEqual({ healthy: true, fingerprint });
    } finally {
      await rm(cwd, { recursive: true });
    }
  });

  test.each([
    ['not set', undefined, 'root_key_missing'],
    ['empty', '', 'root_key_missing'],
    ['quoted', `"${line(1)}"`, 'root_key_unreadable'],
    ['behind a space', ` ${line(1)}`, 'root_key_unreadable'],
    ['two keys', `${line(1)}\n${line(1)}`, 'root_key_unreadable'],
    ['cut off', line(1).slice(0, -1), 'root_key_unreadable'],
    ['not canonical', `${line(0).slice(0, -1)}B`, 'root_key_unreadable'],
    ['far too long', `${'#\n'.repeat(10_000)}${line(1)}`, 'root_key_unreadable'],
  ])('that is %s is refused, and not shown', async (_, value, code) => {
    const error = (await rejected(openEnvRootKey('env:ROOT', { env: { ROOT: value } }))) as KeyringError;
    expect(error.code).toBe(code);
    expect(error.remedy).toContain('ROOT');
    expectNoSecrets(spellings(1), error);
  });

  test('that is not the program’s own is missing: the library reads no environment by itself', async () => {
    process.env['KEYRING_TEST_ROOT'] = line(1);
    try {
      expect(await rejected(openRootKey('env:KEYRING_TEST_ROOT', { cwd: '/' }))).toHaveProperty(
        'code',
        'root_key_missing',
      );
      expect(await rejected(openRootKey('env:constructor', { cwd: '/' }))).toHaveProperty('code', 'root_key_missing');
    } finally {
      delete process.env['KEYRING_TEST_ROOT'];
    }
  });

  test('that changes is not used', async () => {
    const env = { ROOT: line(1) };
    const provider = await openEnvRootKey('env:ROOT', { env });
    env.ROOT = line(2);
    expect(await provider.status()).toMatchObject({ healthy: false, trouble: { code: 'wrong_root_key' } });
    expect(await rejected(provider.wrap(new Uint8Array(32), Buffer.of(1)))).toHaveProperty('code', 'wrong_root_key');
  });

  test.each(['env:', 'env:A B', 'env:A-B', 'env:9', 'env://A', 'env:A=B', 'env:A\n', `env:${line(1)}`, 'env:Ä'])(
    '%j names no variable, and is not shown',
    async (uri) => {
      const error = (await rejected(openEnvRootKey(uri, { env: { A: line(1) } }))) as KeyringError;
      expect(error.code).toBe('invalid_argument');
      expectNoSecrets(spellings(1), error);
    },
  );
});
