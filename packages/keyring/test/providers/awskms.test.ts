/**
 * AWS's own SDK, unchanged, against a local server that checks its signatures, encrypts for real and knows KMS's errors by
 * name. It has not been run against AWS.
 */
import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { remoteRootAad } from '../../src/envelope/aad.ts';
import { KeyringError, decryptionFailed } from '../../src/errors.ts';
import { parseAwskmsUri } from '../../src/providers/awskms.ts';
import type { RootKeyProvider } from '../../src/providers/provider.ts';
import { openRootKey } from '../../src/providers/registry.ts';
import type { RemoteOptions } from '../../src/providers/remote.ts';
import { rejected, thrown } from '../support/thrown.ts';
import { context, expectNoSecrets, providerContract, someKey } from './contract.ts';
import { patience, remoteContract, type Misbehaviour, type RemoteSubject } from './remote-contract.ts';
import { AWS_ACCOUNT, startAwsKms, type AwsKey, type AwsKmsServer } from './support/aws-kms-server.ts';
import type { Spoiled } from './support/local-server.ts';

/** Only what the test says: neither a person's configuration nor a machine's metadata service. */
function useCredentials(credentials: Partial<AwsKmsServer['credentials']>): void {
  const variables: Record<string, string | undefined> = {
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_SESSION_TOKEN: credentials.sessionToken,
    AWS_REGION: 'us-east-1',
    AWS_PROFILE: undefined,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
}

async function openAt(kms: AwsKmsServer, keyId: string, options: RemoteOptions = {}): Promise<RootKeyProvider> {
  const uri = keyId.startsWith('awskms:') ? keyId : `awskms:///${keyId}?endpoint=${kms.url}`;
  return openRootKey(uri, { cwd: '/', remote: { ...patience, ...options } });
}

async function subject(): Promise<RemoteSubject> {
  const kms = await startAwsKms('eu-west-1');
  useCredentials(kms.credentials);
  const key = kms.createKey();
  const other = kms.createKey();
  const former = [...key.backing];
  const spoils: Record<Misbehaviour, Spoiled> = {
    throttled: kms.error('ThrottlingException', 'You have exceeded the rate at which you may call KMS.'),
    failing: kms.error('KMSInternalException', 'Internal failure', 500),
    silent: 'silent',
    broken: 'broken',
    expired: kms.error('ExpiredTokenException', 'The security token included in the request is expired'),
    forbidden: kms.error(
      'AccessDeniedException',
      `User is not authorized to perform: kms:Encrypt on resource: ${key.arn}`,
    ),
    disabled: kms.error('DisabledException', `${key.arn} is disabled.`),
    missing: kms.error('NotFoundException', `Key '${key.arn}' does not exist`),
  };
  return {
    uri: `awskms:///${key.arn}?endpoint=${kms.url}`,
    open: (uri = key.arn, options = {}) => openAt(kms, uri, options),
    openOther: () => openAt(kms, other.arn),
    takeAway: () => kms.takeAway(),
    bringBack: () => kms.bringBack(),
    secrets: [kms.credentials.secretAccessKey, kms.credentials.sessionToken ?? ''],
    misbehave: (how, times) => {
      kms.spoil(spoils[how], times);
    },
    misbehaved: () => kms.spoiled(),
    replaceKey: () => {
      key.backing.splice(0, Infinity);
      kms.rotateKey(key);
    },
    restoreKey: () => {
      key.backing.splice(0, Infinity, ...former);
    },
    unknown: [],
    async close() {
      vi.unstubAllEnvs();
      await kms.takeAway();
    },
  };
}

providerContract('awskms', subject);
remoteContract('awskms', subject);

describe('AWS KMS', () => {
  let kms: AwsKmsServer;
  let key: AwsKey;

  beforeAll(async () => {
    kms = await startAwsKms('eu-west-1');
  });

  afterAll(async () => {
    await kms.takeAway();
  });

  afterEach(() => {
    kms.denied.clear();
    vi.unstubAllEnvs();
  });

  const fresh = (): AwsKey => {
    useCredentials(kms.credentials);
    key = kms.createKey();
    return key;
  };
  const fingerprint = async (provider: RootKeyProvider): Promise<string> => (await provider.status()).fingerprint;

  test('an alias is its key, and names it', async () => {
    kms.aliases.set('alias/root', fresh());
    const byKey = await openAt(kms, key.arn);
    for (const alias of ['alias/root', `arn:aws:kms:eu-west-1:${AWS_ACCOUNT}:alias/root`]) {
      const byAlias = await openAt(kms, `awskms:///${alias}?region=eu-west-1&endpoint=${kms.url}`);
      expect(byAlias.uri).toBe(byKey.uri);
      expect(await fingerprint(byAlias)).toBe(await fingerprint(byKey));
      const { wrapped } = await byAlias.wrap(someKey(), context);
      expect(Buffer.from(await byKey.unwrap(wrapped, context))).toEqual(someKey());
    }
  });

  test('an alias that is moved changes nothing for who is running, and is another root key for who starts', async () => {
    kms.aliases.set('alias/moving', fresh());
    const uri = `awskms:///alias/moving?region=eu-west-1&endpoint=${kms.url}`;
    const running = await openAt(kms, uri);
    const { wrapped } = await running.wrap(someKey(), context);
    kms.aliases.set('alias/moving', kms.createKey());
    expect(Buffer.from(await running.unwrap(wrapped, context))).toEqual(someKey());
    const started = await openAt(kms, uri);
    expect(await fingerprint(started)).not.toBe(await fingerprint(running));
    expect(started.uri).not.toBe(running.uri);
  });

  test('the region of an ARN wins over the configured one and over the one in the URI', async () => {
    fresh();
    vi.stubEnv('AWS_REGION', 'ap-southeast-2');
    await openAt(kms, key.arn);
    await openAt(kms, `awskms:///${key.arn}?region=ap-southeast-2&endpoint=${kms.url}`);
  });

  test('a signature for another region is refused, so the server of these tests does look at it', async () => {
    kms.aliases.set('alias/root', fresh());
    const error = await rejected(openAt(kms, `awskms:///alias/root?region=us-east-1&endpoint=${kms.url}`));
    expect(error).toMatchObject({ code: 'root_key_denied', details: { name: 'InvalidSignatureException' } });
  });

  test('a secret key that is wrong by one letter is refused, and not shown', async () => {
    fresh();
    const secretAccessKey = kms.credentials.secretAccessKey.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
    useCredentials({ ...kms.credentials, secretAccessKey });
    const error = await rejected(openAt(kms, key.arn));
    expect(error).toMatchObject({ code: 'root_key_denied', details: { name: 'InvalidSignatureException' } });
    expectNoSecrets([secretAccessKey, kms.credentials.sessionToken ?? ''], error);
  });

  test('no credentials at all: says where they come from, without asking KMS', async () => {
    fresh();
    useCredentials({});
    const before = kms.count();
    const error = await rejected(openAt(kms, key.arn));
    expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'credentials', attempts: 1 } });
    expect((error as KeyringError).remedy).toContain('AWS_PROFILE');
    expect(kms.count()).toBe(before);
  });

  test('no region for an alias: says how to write it', async () => {
    fresh();
    vi.stubEnv('AWS_REGION', undefined);
    const error = await rejected(openAt(kms, `awskms:///alias/root?endpoint=${kms.url}`));
    expect(error).toMatchObject({ code: 'invalid_argument' });
    expect((error as KeyringError).remedy).toContain('?region=');
  });

  test('a key of another region is missing, and the remedy names the region that was asked', async () => {
    fresh();
    const error = await rejected(openAt(kms, key.arn.replace('eu-west-1', 'us-east-1')));
    // The server is the endpoint of eu-west-1: the signature for us-east-1 is what it sees first.
    expect(error).toMatchObject({ code: 'root_key_denied' });
    const gone = await rejected(openAt(kms, key.arn.replace(/[0-9a-f]{12}$/, '000000000000')));
    expect(gone).toMatchObject({ code: 'root_key_missing' });
    expect((gone as KeyringError).remedy).toContain('eu-west-1');
  });

  test.each([
    ['Disabled', 'root_key_disabled', 'DisabledException'],
    ['PendingDeletion', 'root_key_disabled', 'KMSInvalidStateException'],
    ['PendingImport', 'root_key_disabled', 'KMSInvalidStateException'],
    ['Unavailable', 'root_key_unreachable', 'KeyUnavailableException'],
  ] as const)('a key that is %s is %s, for who is running and for who starts', async (state, code, name) => {
    const provider = await openAt(kms, fresh().arn);
    const { wrapped } = await provider.wrap(someKey(), context);
    key.state = state;
    expect(await rejected(provider.unwrap(wrapped, context))).toMatchObject({ code, details: { name } });
    expect(await provider.status()).toMatchObject({ healthy: false, trouble: { code } });
    expect(await rejected(openAt(kms, key.arn))).toHaveProperty('code', code);
    key.state = 'Enabled';
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(someKey());
  });

  test('a key for signatures is not taken for a root key', async () => {
    fresh().usage = 'SIGN_VERIFY';
    expect(await rejected(openAt(kms, key.arn))).toHaveProperty('code', 'wrong_root_key');
  });

  test.each(['Encrypt', 'Decrypt', 'DescribeKey'])('without kms:%s the error names that permission', async (action) => {
    fresh();
    kms.denied.add(action);
    const opening = openAt(kms, key.arn);
    const error = action === 'DescribeKey' ? await rejected(opening) : (await (await opening).status()).trouble;
    expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'forbidden' } });
    expect((error as KeyringError).message).toContain(`kms:${action}`);
  });

  test('what a key wrapped before KMS rotated it still opens', async () => {
    const provider = await openAt(kms, fresh().arn);
    const { wrapped } = await provider.wrap(someKey(), context);
    kms.rotateKey(key);
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(someKey());
    expect((await provider.wrap(someKey(), context)).fingerprint).toBe(await fingerprint(provider));
  });

  test('a replica of a multi-Region key is the same root key; a single-Region key of the same material is not', async () => {
    fresh();
    const replicas = await startAwsKms('us-east-1');
    const mrk = 'mrk-1234567890abcdef1234567890abcdef';
    const primary = kms.createKey({ keyId: mrk });
    const replica = replicas.createKey({ keyId: mrk, backing: primary.backing });
    const { wrapped } = await (await openAt(kms, primary.arn)).wrap(someKey(), context);
    useCredentials(replicas.credentials);
    const elsewhere = await openAt(replicas, replica.arn);
    expect(Buffer.from(await elsewhere.unwrap(wrapped, context))).toEqual(someKey());
    const copy = await openAt(replicas, replicas.createKey({ backing: primary.backing }).arn);
    expect(await rejected(copy.unwrap(wrapped, context))).toStrictEqual(decryptionFailed());
    await replicas.takeAway();
  });

  test('a start costs four requests', async () => {
    const { wrapped } = await (await openAt(kms, fresh().arn)).wrap(someKey(), context);
    const before = kms.count();
    const provider = await openAt(kms, key.arn);
    await provider.status();
    await provider.unwrap(wrapped, context);
    expect(kms.count() - before).toBe(4);
  });

  test('an answer of another key is not believed', async () => {
    const provider = await openAt(kms, fresh().arn);
    const { wrapped } = await provider.wrap(someKey(), context);
    const answer = { KeyId: kms.createKey().arn, Plaintext: someKey().toString('base64'), CiphertextBlob: 'AAAA' };
    kms.spoil({ status: 200, headers: { 'content-type': 'application/x-amz-json-1.1' }, body: answer });
    for (const work of [() => provider.wrap(someKey(), context), () => provider.unwrap(wrapped, context)]) {
      expect(await rejected(work())).toMatchObject({
        code: 'root_key_unreachable',
        details: { name: 'UnexpectedAnswer', attempts: 1 },
      });
    }
    kms.spoil('silent', 0);
  });

  test("a proxy's page instead of an answer is tried again", async () => {
    const provider = await openAt(kms, fresh().arn);
    kms.spoil({ status: 502, headers: { 'content-type': 'text/html' }, body: '<html>Bad Gateway</html>' }, 2);
    await provider.wrap(someKey(), context);
    expect(kms.spoiled()).toBe(2);
  });

  test('the encryption context is a digest of the associated data, as the specification says', async () => {
    const provider = await openAt(kms, fresh().arn);
    kms.sent.length = 0;
    const { fingerprint } = await provider.wrap(someKey(), context);
    const aad = remoteRootAad({ scheme: 'awskms', fingerprint, context });
    expect(kms.sent.map(({ KeyId, EncryptionContext }) => [KeyId, EncryptionContext])).toEqual([
      [key.arn, { 'meshhook-keyring': createHash('sha256').update(aad).digest('hex') }],
    ]);
  });

  test('a decryption names its key, so that KMS never picks one by itself', async () => {
    const provider = await openAt(kms, fresh().arn);
    const { wrapped } = await provider.wrap(someKey(), context);
    kms.sent.length = 0;
    await provider.unwrap(wrapped, context);
    expect(kms.sent[0]?.['KeyId']).toBe(key.arn);
  });
});

describe('awskms: URIs', () => {
  const id = '0b2ad402-1111-4222-8333-944455556666';
  const arn = `arn:aws:kms:eu-west-1:${AWS_ACCOUNT}:key/${id}`;

  test.each([
    [`awskms:///${arn}`, arn, 'eu-west-1', undefined],
    [`awskms:///${arn}?region=us-east-1`, arn, 'eu-west-1', undefined],
    [`awskms:///${arn.replace('aws:', 'aws-us-gov:')}`, arn.replace('aws:', 'aws-us-gov:'), 'eu-west-1', undefined],
    ['awskms:///alias/a/b_c-1?region=eu-west-1', 'alias/a/b_c-1', 'eu-west-1', undefined],
    ['awskms:///alias/a', 'alias/a', undefined, undefined],
    [
      `awskms:///arn:aws:kms:eu-west-1:${AWS_ACCOUNT}:alias/a`,
      `arn:aws:kms:eu-west-1:${AWS_ACCOUNT}:alias/a`,
      'eu-west-1',
      undefined,
    ],
    [
      `awskms:///${arn}?endpoint=https://vpce-1.kms.eu-west-1.vpce.amazonaws.com`,
      arn,
      'eu-west-1',
      'https://vpce-1.kms.eu-west-1.vpce.amazonaws.com',
    ],
    [`awskms:///${arn}?endpoint=https://[::1]:8443/`, arn, 'eu-west-1', 'https://[::1]:8443'],
    [`awskms:///${arn}?endpoint=http://localhost:4566`, arn, 'eu-west-1', 'http://localhost:4566'],
  ])('%s', (uri, keyId, region, endpoint) => {
    expect(parseAwskmsUri(uri)).toEqual({ keyId, region, endpoint });
  });

  test.each([
    'awskms:',
    'awskms://',
    'awskms:///',
    `awskms://${arn}`,
    'awskms://alias/a?region=eu-west-1',
    `awskms:///${id}`,
    `awskms:///${arn}/`,
    `awskms:///${arn.toUpperCase()}`,
    `awskms:///${arn.replace(id, id.toUpperCase())}`,
    `awskms:///${arn.replace('kms', 's3')}`,
    `awskms:///${arn.replace(AWS_ACCOUNT, '1')}`,
    `awskms:///%61lias/a`,
    'awskms:///alias/../key',
    'awskms:///alias/',
    `awskms:///${arn}#x`,
    `awskms://key:hunter2hunter2@/${arn}`,
    `awskms:///${arn}?secret_access_key=hunter2hunter2`,
    `awskms:///${arn}?region=hunter2hunter2!`,
    `awskms:///${arn}?region=eu-west-1&region=us-east-1`,
    `awskms:///${arn}?endpoint=http://10.0.0.1`,
    `awskms:///${arn}?endpoint=https://user:hunter2hunter2@host`,
    `awskms:///${arn}?endpoint=https://host/path`,
    `awskms:///${arn}?endpoint=https://host?x=hunter2hunter2`,
    `awskms:///${arn}?endpoint=ftp://host`,
    `awskms:///${arn}?endpoint=host`,
  ])('%j is refused, and nothing of it shown', (uri) => {
    const error = thrown(() => parseAwskmsUri(uri));
    expect(error).toBeInstanceOf(KeyringError);
    expect(error).toMatchObject({ code: 'invalid_argument', remedy: expect.stringContaining('awskms:///') });
    expectNoSecrets(['hunter2hunter2'], error);
  });
});
