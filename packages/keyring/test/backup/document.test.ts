import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import fc from '../../../../test/support/seeded.ts';
import type { Backup } from '../../src/api.ts';
import { insecureEncodeBackup, keysOf, parseBackup, type BackupKeys } from '../../src/backup/document.ts';
import type { KeyringError } from '../../src/errors.ts';
import { insecureExportKey, keyFingerprint, keyFromBytes, rootFingerprint } from '../../src/secret-bytes.ts';
import { thrown } from '../support/thrown.ts';

const rootBytes = (): Buffer => Buffer.alloc(32, 0xa7);
const wrappingBytes = (version: number): Buffer => Buffer.alloc(32, 0xb0 + version);

function make({ versions = 2, uri = 'file:./root.key', withRoot = true } = {}): { backup: Backup; keys: BackupKeys } {
  const wrappingKeys = Array.from({ length: versions }, (_, index) => {
    const id = randomUUID();
    return { id, version: index + 1, key: keyFromBytes(wrappingBytes(index + 1)) };
  });
  const rootKey = keyFromBytes(rootBytes());
  return {
    keys: {
      rootKey: withRoot ? rootKey : undefined,
      wrappingKeys: new Map(wrappingKeys.map(({ id, key }) => [id, key])),
    },
    backup: {
      id: randomUUID(),
      createdAt: new Date('2026-11-27T12:00:00.000Z'),
      installationId: randomUUID(),
      schemaVersion: '20261127002000',
      recipients: ['age1example'],
      rootKey: { uri, fingerprint: rootFingerprint(rootKey), included: withRoot },
      wrappingKeys: wrappingKeys.map(({ id, version, key }) => ({
        ...{ id, version, state: 'enabled', primary: version === versions },
        fingerprint: keyFingerprint(key, id).toString('base64'),
      })),
      signingKeys: [{ id: randomUUID(), version: 1, publicKey: Buffer.alloc(32, 3).toString('base64') }],
      database: { projects: 3, dataKeys: 5, newestDataKeyAt: new Date(1e12), newestEntryAt: undefined },
    },
  };
}

/** The document as a person would change it, its keys in place. */
function edited(change: (document: Record<string, unknown>) => unknown, from = make()): Buffer {
  const document = JSON.parse(insecureEncodeBackup(from.backup, from.keys).toString()) as Record<string, unknown>;
  return Buffer.from(JSON.stringify(change(document) ?? document));
}

const everyKey = [rootBytes(), wrappingBytes(1), wrappingBytes(2)];

test('a backup comes back from its document: what it says, and every key', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.string(), fc.boolean(), (versions, text, withRoot) => {
      const { backup, keys } = make({ versions, uri: `file:"key": "${text}`, withRoot });
      const read = parseBackup(insecureEncodeBackup(backup, keys));
      expect(read).toEqual(backup);
      for (const { id, version } of backup.wrappingKeys) {
        const key = keysOf(read).wrappingKeys.get(id);
        expect(key && insecureExportKey(key).equals(wrappingBytes(version))).toBe(true);
      }
      const root = keysOf(read).rootKey;
      expect(root && insecureExportKey(root).equals(rootBytes())).toBe(withRoot ? true : undefined);
    }),
  );
});

test('a document that another program laid out anew reads the same', () => {
  const { backup, keys } = make();
  const document = JSON.parse(insecureEncodeBackup(backup, keys).toString()) as object;
  for (const text of [
    JSON.stringify(document),
    JSON.stringify(document, null, '\t').replaceAll('"key":', '"key" \r\n :'),
    JSON.stringify(Object.fromEntries(Object.entries(document).toReversed())),
    JSON.stringify({ ...document, later: { addition: true } }),
  ]) {
    expect(parseBackup(Buffer.from(text))).toEqual(backup);
  }
});

test('a key stands in the document as in a root key file, for hands to take', () => {
  const { backup, keys } = make();
  const document = JSON.parse(insecureEncodeBackup(backup, keys).toString()) as {
    rootKey: { key: string };
    wrappingKeys: { key: string }[];
  };
  expect(document.rootKey.key).toBe(`MESHHOOK-ROOT-KEY-1-${rootBytes().toString('base64url')}`);
  expect(document.wrappingKeys.map(({ key }) => key)).toEqual(
    [1, 2].map((n) => wrappingBytes(n).toString('base64url')),
  );
});

test('reading takes the keys out of the bytes that were read, and shows none', () => {
  const { backup, keys } = make();
  const bytes = insecureEncodeBackup(backup, keys);
  const read = parseBackup(bytes);
  const shown = inspect(read, { depth: null, showHidden: true, getters: true }) + JSON.stringify(read);
  for (const key of everyKey) {
    expect(bytes.includes(key.toString('base64url'))).toBe(false);
    expect(shown).not.toContain(key.toString('base64url').slice(0, 8));
  }
});

test('nothing that looks like a backup stands for one', () => {
  expect(() => keysOf({ ...make().backup })).toThrow(TypeError);
});

describe('what is no whole backup is refused, and not quoted', () => {
  // prettier-ignore
  const corpus: [claim: string, bytes: () => Buffer][] = [
    ['nothing', () => Buffer.alloc(0)],
    ['no JSON', () => edited(() => undefined).subarray(0, -1)],
    ['bytes that are no text', () => Buffer.alloc(100, 0xff)],
    ['a list', () => Buffer.from('[]')],
    ['null', () => Buffer.from('null')],
    ['another format', () => edited((document) => ({ ...document, format: 'other/backup' }))],
    ['a later version', () => edited((document) => ({ ...document, version: 2 }))],
    ['no version', () => edited((document) => ({ ...document, version: undefined }))],
    ['no id', () => edited((document) => ({ ...document, id: undefined }))],
    ['an id that is none', () => edited((document) => ({ ...document, id: 'x' }))],
    ['a time that is none', () => edited((document) => ({ ...document, createdAt: 'yesterday' }))],
    ['no root key', () => edited((document) => ({ ...document, rootKey: undefined }))],
    ['a root key without digits', () => edited((document) => ({ ...document, rootKey: { ...(document['rootKey'] as object), key: 'MESHHOOK-ROOT-KEY-1-' } }))],
    ['another root key than it names', () => edited((document) => ({ ...document, rootKey: { ...(document['rootKey'] as object), fingerprint: '0'.repeat(32) } }))],
    ['no wrapping keys', () => edited((document) => ({ ...document, wrappingKeys: [] }))],
    ['a wrapping key without its key', () => edited((document) => ({ ...document, wrappingKeys: [{ ...(document['wrappingKeys'] as object[])[0], key: undefined }] }))],
    ['a wrapping key that is a number', () => edited((document) => ({ ...document, wrappingKeys: [{ ...(document['wrappingKeys'] as object[])[0], key: 0 }] }))],
    ['a wrapping key that names another’s place', () => edited((document) => ({ ...document, wrappingKeys: [{ ...(document['wrappingKeys'] as object[])[0], key: '0' }] }))],
    ['one digit of a key changed', () => Buffer.from(edited(() => undefined).toString().replace(wrappingBytes(1).toString('base64url'), wrappingBytes(1).fill(1, 31).toString('base64url')))],
    ['one digit of a key lost', () => Buffer.from(edited(() => undefined).toString().replace(wrappingBytes(1).toString('base64url'), wrappingBytes(1).toString('base64url').slice(1)))],
    ['a key under the id of another', () => edited((document) => { const [a, b] = document['wrappingKeys'] as Record<string, unknown>[]; return { ...document, wrappingKeys: [{ ...a, key: b?.['key'] }, b] }; })],
    ['a number that is none', () => edited((document) => ({ ...document, database: { projects: 'many' } }))],
    ['cut off in a key', () => { const whole = edited(() => undefined); return whole.subarray(0, whole.indexOf(wrappingBytes(1).toString('base64url')) + 20); }],
  ];
  test.each(corpus)('%s', (_, bytes) => {
    const error = thrown(() => parseBackup(bytes())) as KeyringError;
    expect(error).toMatchObject({ code: 'backup_unreadable', remedy: expect.stringContaining('another backup') });
    const said = inspect(error, { depth: null, showHidden: true });
    for (const key of everyKey) expect(said).not.toContain(key.toString('base64url').slice(0, 8));
  });
});
