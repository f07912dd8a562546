/**
 * Google's own client library, unchanged, against a local server that verifies its tokens and checksums, encrypts for real and
 * answers with google.rpc.Status. It has not been run against Google Cloud.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { KeyringError } from '../../src/errors.ts';
import { crc32c } from '../../src/providers/crc32c.ts';
import { parseGcpkmsUri } from '../../src/providers/gcpkms.ts';
import type { RootKeyProvider } from '../../src/providers/provider.ts';
import { openRootKey } from '../../src/providers/registry.ts';
import type { RemoteOptions } from '../../src/providers/remote.ts';
import { rejected, thrown } from '../support/thrown.ts';
import { context, expectNoSecrets, providerContract, someKey } from './contract.ts';
import { patience, remoteContract, type Misbehaviour, type RemoteSubject } from './remote-contract.ts';
import { slowCrc32c, startGcpKms, type GcpKey, type GcpKmsServer } from './support/gcp-kms-server.ts';
import type { Spoiled } from './support/local-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'gcpkms-'));

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Only what the test says: neither a person's configuration nor a machine's metadata server. */
function useAccount(account: Readonly<Record<string, string>> | undefined): void {
  const file = join(folder, 'account.json');
  if (account !== undefined) writeFileSync(file, JSON.stringify(account));
  vi.stubEnv('GOOGLE_APPLICATION_CREDENTIALS', account === undefined ? undefined : file);
  vi.stubEnv('CLOUDSDK_CONFIG', join(folder, 'none'));
  vi.stubEnv('METADATA_SERVER_DETECTION', 'none');
}

async function openAt(kms: GcpKmsServer, name: string, options: RemoteOptions = {}): Promise<RootKeyProvider> {
  const uri = name.startsWith('gcpkms:') ? name : `gcpkms://${name}?endpoint=${kms.url}`;
  return openRootKey(uri, { cwd: '/', remote: { ...patience, ...options } });
}

async function subject(): Promise<RemoteSubject> {
  const kms = await startGcpKms();
  useAccount(kms.serviceAccount);
  const key = kms.createKey();
  const other = kms.createKey();
  const former = [...key.versions];
  const version = `${key.name}/cryptoKeyVersions/1`;
  const spoils: Record<Misbehaviour, Spoiled> = {
    throttled: kms.error(429, 'RESOURCE_EXHAUSTED', "Quota exceeded for quota metric 'Cryptographic requests'."),
    failing: kms.error(503, 'UNAVAILABLE', 'The service is currently unavailable.'),
    silent: 'silent',
    broken: 'broken',
    expired: kms.error(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.'),
    forbidden: kms.error(
      403,
      'PERMISSION_DENIED',
      `Permission denied on resource '${key.name}' (or it may not exist).`,
    ),
    disabled: kms.error(400, 'FAILED_PRECONDITION', `${version} is not enabled, current state is: DISABLED.`),
    missing: kms.error(404, 'NOT_FOUND', `CryptoKey ${key.name} not found.`),
  };
  return {
    uri: `gcpkms://${key.name}?endpoint=${kms.url}`,
    open: (uri = key.name, options = {}) => openAt(kms, uri, options),
    openOther: () => openAt(kms, other.name),
    takeAway: () => kms.takeAway(),
    bringBack: () => kms.bringBack(),
    secrets: [kms.serviceAccount['private_key']?.slice(40, 100) ?? ''],
    misbehave: (how, times) => {
      kms.spoil(spoils[how], times);
    },
    misbehaved: () => kms.spoiled(),
    replaceKey: () => {
      key.versions.splice(0, Infinity);
      kms.rotateKey(key);
    },
    restoreKey: () => {
      key.versions.splice(0, Infinity, ...former);
    },
    unknown: [],
    async close() {
      vi.unstubAllEnvs();
      await kms.takeAway();
    },
  };
}

providerContract('gcpkms', subject);
remoteContract('gcpkms', subject);

describe('Cloud KMS', () => {
  let kms: GcpKmsServer;
  let key: GcpKey;

  beforeAll(async () => {
    kms = await startGcpKms();
  });

  beforeEach(() => {
    useAccount(kms.serviceAccount);
    key = kms.createKey();
  });

  afterEach(() => {
    kms.denied.clear();
    kms.damage = undefined;
    kms.spoil('silent', 0);
    vi.unstubAllEnvs();
  });

  afterAll(async () => {
    await kms.takeAway();
  });

  test('what a version wrapped opens when another is primary, and not when it is off', async () => {
    const provider = await openAt(kms, key.name);
    const { wrapped, fingerprint } = await provider.wrap(someKey(), context);
    kms.rotateKey(key);
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(someKey());
    expect((await provider.wrap(someKey(), context)).fingerprint).toBe(fingerprint);
    for (const state of ['DISABLED', 'DESTROY_SCHEDULED', 'DESTROYED'] as const) {
      Object.assign(key.versions[0] ?? {}, { state });
      const error = await rejected(provider.unwrap(wrapped, context));
      expect(error).toMatchObject({ code: 'root_key_disabled', details: { failure: 'disabled' } });
      expect((error as KeyringError).message).toContain(
        `cryptoKeyVersions/1 is not enabled, current state is: ${state}.`,
      );
      // The primary is well: new keys can still be wrapped.
      expect(await provider.status()).toEqual({ healthy: true, fingerprint });
    }
  });

  test('a primary version that is off keeps nobody from starting with what another one wrapped', async () => {
    const { wrapped } = await (await openAt(kms, key.name)).wrap(someKey(), context);
    kms.rotateKey(key);
    Object.assign(key.versions[1] ?? {}, { state: 'DISABLED' });
    const provider = await openAt(kms, key.name);
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(someKey());
    expect(await provider.status()).toMatchObject({ healthy: false, trouble: { code: 'root_key_disabled' } });
  });

  test.each(['useToEncrypt', 'useToDecrypt'])('without %s the error names that permission', async (permission) => {
    kms.denied.add(`cloudkms.cryptoKeyVersions.${permission}`);
    const opening = openAt(kms, key.name);
    const error = permission === 'useToEncrypt' ? await rejected(opening) : (await (await opening).status()).trouble;
    expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'forbidden', status: 7 } });
    expect((error as KeyringError).message).toContain(permission);
  });

  test('a key for signatures is not taken for a root key', async () => {
    key.purpose = 'ASYMMETRIC_SIGN';
    expect(await rejected(openAt(kms, key.name))).toHaveProperty('code', 'wrong_root_key');
  });

  test('a token of another account is refused, so the server of these tests does look at it', async () => {
    const stranger = await startGcpKms();
    useAccount(stranger.serviceAccount);
    const error = await rejected(openAt(kms, key.name));
    expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'credentials', attempts: 1 } });
    await stranger.takeAway();
  });

  test('no credentials at all: says where they come from, without asking Cloud KMS', async () => {
    useAccount(undefined);
    const before = kms.count();
    const error = await rejected(openAt(kms, key.name));
    expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'credentials', attempts: 1 } });
    expect((error as KeyringError).remedy).toContain('GOOGLE_APPLICATION_CREDENTIALS');
    expect(kms.count()).toBe(before);
  });

  test("a proxy's page instead of an answer is tried again", async () => {
    const provider = await openAt(kms, key.name);
    kms.spoil({ status: 502, headers: { 'content-type': 'text/html' }, body: '<html>Bad Gateway</html>' }, 2);
    await provider.wrap(someKey(), context);
    expect(kms.spoiled()).toBe(2);
  });

  type Answered = Record<string, unknown>;
  const other = Buffer.alloc(32, 9).toString('base64');
  test.each<[string, 'wrap' | 'unwrap', (answer: Answered) => Answered]>([
    ['a plaintext that was not checked', 'wrap', (answer) => ({ ...answer, verifiedPlaintextCrc32c: false })],
    [
      'a context that was not checked',
      'wrap',
      (answer) => ({ ...answer, verifiedAdditionalAuthenticatedDataCrc32c: false }),
    ],
    ['another ciphertext than it was', 'wrap', (answer) => ({ ...answer, ciphertext: other })],
    ['a ciphertext without a checksum', 'wrap', (answer) => ({ ...answer, ciphertextCrc32c: undefined })],
    ['another key than it was', 'unwrap', (answer) => ({ ...answer, plaintext: other })],
    ['a key without a checksum', 'unwrap', (answer) => ({ ...answer, plaintextCrc32c: undefined })],
  ])('%s: the answer to %s is discarded and asked for again', async (_, verb, damage) => {
    const provider = await openAt(kms, key.name);
    const { wrapped } = await provider.wrap(someKey(), context);
    const call = async (): Promise<unknown> =>
      verb === 'wrap' ? provider.wrap(someKey(), context) : provider.unwrap(wrapped, context);
    let damaged = 0;
    kms.damage = (answer) => (damaged++ < 2 ? damage(answer) : answer);
    await call();
    expect(damaged).toBe(3);
    kms.damage = damage;
    const error = await rejected(call());
    expect(error).toMatchObject({ code: 'root_key_unreachable', details: { name: 'DamagedInTransit', attempts: 4 } });
  });

  test('a request that was damaged on its way is refused by the service, and sent again', async () => {
    const provider = await openAt(kms, key.name);
    const { wrapped } = await provider.wrap(someKey(), context);
    const message = 'The checksum in field ciphertext_crc32c did not match the data in field ciphertext.';
    kms.spoil(kms.error(400, 'INVALID_ARGUMENT', message), 2);
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(someKey());
    expect(kms.spoiled()).toBe(2);
  });

  test('a start costs four requests', async () => {
    const { wrapped } = await (await openAt(kms, key.name)).wrap(someKey(), context);
    const before = kms.count();
    const provider = await openAt(kms, key.name);
    await provider.status();
    await provider.unwrap(wrapped, context);
    expect(kms.count() - before).toBe(4);
  });

  test('an answer of another key is not believed', async () => {
    const provider = await openAt(kms, key.name);
    kms.damage = (answer) => ({ ...answer, name: `${kms.createKey().name}/cryptoKeyVersions/1` });
    expect(await rejected(provider.wrap(someKey(), context))).toHaveProperty('code', 'root_key_unreachable');
    kms.damage = (answer) => ({ ...answer, name: String(answer['name']).replace('meshhook-test', '123456789012') });
    await provider.wrap(someKey(), context);
  });
});

describe('CRC-32C', () => {
  test.each([
    ['', 0],
    ['123456789', 0xe3069283],
    ['The quick brown fox jumps over the lazy dog', 0x22620404],
  ])('of %j is %d', (text, checksum) => {
    expect(crc32c(Buffer.from(text))).toBe(checksum);
  });

  test('of every byte is what the slow way gives', () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    expect(crc32c(bytes)).toBe(slowCrc32c(bytes));
    // RFC 3720, B.4: 32 zeros, 32 ones.
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  });
});

describe('gcpkms: URIs', () => {
  const name = 'projects/meshhook-1/locations/europe-west1/keyRings/Ring_1/cryptoKeys/root-key';

  test.each([
    [`gcpkms://${name}`, name, undefined],
    [
      `gcpkms://${name.replace('meshhook-1', 'example.com:meshhook-1')}`,
      name.replace('meshhook-1', 'example.com:meshhook-1'),
      undefined,
    ],
    [`gcpkms://${name}?endpoint=https://cloudkms-eu.p.googleapis.com`, name, 'https://cloudkms-eu.p.googleapis.com/'],
  ])('%s', (uri, expected, endpoint) => {
    const parsed = parseGcpkmsUri(uri);
    expect([parsed.name, parsed.endpoint?.href]).toEqual([expected, endpoint]);
  });

  test.each([
    'gcpkms:',
    'gcpkms://',
    `gcpkms:///${name}`,
    `gcpkms:${name}`,
    `gcpkms://${name}/`,
    `gcpkms://${name}/cryptoKeyVersions/1`,
    `gcpkms://${name.replace('meshhook-1', '123456789012')}`,
    `gcpkms://${name.replace('root-key', '')}`,
    `gcpkms://${name.replace('root-key', '..')}`,
    `gcpkms://${name.replace('root-key', 'r%6fot')}`,
    `gcpkms://${name.replace('cryptoKeys', 'importJobs')}`,
    `gcpkms://user:hunter2hunter2@${name}`,
    `gcpkms://${name}?credentials=hunter2hunter2`,
    `gcpkms://${name}?endpoint=http://kms.internal`,
    `gcpkms://${name}#hunter2hunter2`,
  ])('%j is refused, and nothing of it shown', (uri) => {
    const error = thrown(() => parseGcpkmsUri(uri));
    expect(error).toBeInstanceOf(KeyringError);
    expect(error).toMatchObject({ code: 'invalid_argument', remedy: expect.stringContaining('gcpkms://projects/') });
    expectNoSecrets(['hunter2hunter2'], error);
  });
});
