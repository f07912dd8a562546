/**
 * Azure's own SDK and credentials, unchanged, against a local server that stands for Entra ID, Key Vault and a Managed HSM: real
 * names behind a proxy, TLS, challenges, real RSA and AES. It has not been run against Azure.
 */
import { createHash } from 'node:crypto';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { remoteRootAad } from '../../src/envelope/aad.ts';
import { encodeRemoteWrapped, parseRemoteWrapped } from '../../src/envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../../src/errors.ts';
import { parseAzurekmsUri } from '../../src/providers/azurekms.ts';
import type { RootKeyProvider } from '../../src/providers/provider.ts';
import { openRootKey } from '../../src/providers/registry.ts';
import type { RemoteOptions } from '../../src/providers/remote.ts';
import { rejected, thrown } from '../support/thrown.ts';
import { context, expectNoSecrets, providerContract, someKey } from './contract.ts';
import { patience, remoteContract, type Misbehaviour, type RemoteSubject } from './remote-contract.ts';
import { HSM, VAULT, startAzure, type AzureKey, type AzureServer } from './support/azure-server.ts';
import type { Spoiled } from './support/local-server.ts';

const authorities = getCACertificates('default');

/** Only what the test says: neither a person's sign-in nor a machine's identity. */
function useIdentity(azure: AzureServer, secret: string | undefined = azure.clientSecret): void {
  setDefaultCACertificates([...authorities, azure.cert]);
  const variables: Record<string, string | undefined> = {
    HTTPS_PROXY: azure.proxy,
    HTTP_PROXY: azure.proxy,
    NO_PROXY: undefined,
    AZURE_TOKEN_CREDENTIALS: 'prod',
    AZURE_TENANT_ID: azure.tenantId,
    AZURE_CLIENT_ID: azure.clientId,
    AZURE_CLIENT_SECRET: secret,
  };
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
}

async function openKey(uri: string, options: RemoteOptions = {}): Promise<RootKeyProvider> {
  return openRootKey(uri, { cwd: '/', remote: { ...patience, ...options } });
}

const uriOf = ({ host, name }: AzureKey): string => `azurekms://${host}/${name}`;

function subjectAt(host: string): () => Promise<RemoteSubject> {
  return async () => {
    const azure = await startAzure();
    useIdentity(azure);
    const key = azure.createKey(host);
    const other = azure.createKey(host);
    const [version] = key.versions;
    const former = { ...version };
    const expired = azure.error(401, 'Unauthorized', '[TokenExpired] Error validating token: the token is expired.');
    const challenge = `Bearer authorization="https://login.microsoftonline.com/${azure.tenantId}", resource="https://${host.slice('keyring-test.'.length)}", error="invalid_token"`;
    const spoils: Record<Misbehaviour, Spoiled> = {
      throttled: azure.error(429, 'Throttled', 'Request was not processed because too many requests were received.'),
      failing: azure.error(500, 'InternalError', 'An internal error occurred.'),
      silent: 'silent',
      broken: 'broken',
      expired: { ...expired, headers: { 'www-authenticate': challenge } },
      forbidden: azure.error(
        403,
        'Forbidden',
        'Caller is not authorized to perform action on resource.',
        'ForbiddenByRbac',
      ),
      disabled: azure.error(403, 'Forbidden', 'Operation is not allowed on a disabled key.', 'KeyDisabled'),
      missing: azure.error(404, 'KeyNotFound', 'A key with (name/id) was not found in this key vault.'),
    };
    return {
      uri: uriOf(key),
      open: (uri = uriOf(key), options = {}) => openKey(uri, options),
      openOther: () => openKey(uriOf(other)),
      takeAway: () => azure.takeAway(),
      bringBack: () => azure.bringBack(),
      get secrets() {
        return [azure.clientSecret, ...azure.tokens];
      },
      misbehave: (how, times) => {
        azure.spoil(spoils[how], times, (request) => request.headers['host'] === host);
      },
      misbehaved: () => azure.spoiled(),
      replaceKey: () => {
        const { pair, secret } = other.versions[0] ?? {};
        Object.assign(version ?? {}, { pair, secret });
      },
      restoreKey: () => {
        Object.assign(version ?? {}, former);
      },
      unknown: [],
      async close() {
        vi.unstubAllEnvs();
        await azure.takeAway();
      },
    };
  };
}

providerContract('azurekms (Key Vault)', subjectAt(VAULT));
remoteContract('azurekms (Key Vault)', subjectAt(VAULT));
providerContract('azurekms (Managed HSM)', subjectAt(HSM));
remoteContract('azurekms (Managed HSM)', subjectAt(HSM));

describe('Azure', () => {
  let azure: AzureServer;

  beforeAll(async () => {
    azure = await startAzure();
  });

  beforeEach(() => {
    useIdentity(azure);
  });

  afterEach(() => {
    azure.denied.clear();
    azure.spoil('silent', 0);
    vi.unstubAllEnvs();
  });

  afterAll(async () => {
    await azure.takeAway();
  });

  describe.each([VAULT, HSM])('%s', (host) => {
    test('what a version wrapped opens when there is a newer one, which wraps from then on', async () => {
      const key = azure.createKey(host);
      const provider = await openKey(uriOf(key));
      const { wrapped, fingerprint } = await provider.wrap(someKey(), context);
      const newer = azure.rotateKey(key);
      const again = await provider.wrap(someKey(), context);
      expect(again.fingerprint).toBe(fingerprint);
      expect(parseRemoteWrapped(again.wrapped).resource).toContain(newer.version);
      for (const bytes of [wrapped, again.wrapped]) {
        expect(Buffer.from(await provider.unwrap(bytes, context))).toEqual(someKey());
      }
    });

    test('a pinned version wraps even when there is a newer one, is the same root key, and opens what that wrapped', async () => {
      const key = azure.createKey(host);
      const pinned = await openKey(`${uriOf(key)}/${key.versions[0]?.version ?? ''}`);
      azure.rotateKey(key);
      const { wrapped, fingerprint } = await pinned.wrap(someKey(), context);
      expect(parseRemoteWrapped(wrapped).resource).toContain(key.versions[0]?.version);
      const free = await openKey(uriOf(key));
      expect((await free.status()).fingerprint).toBe(fingerprint);
      expect(Buffer.from(await free.unwrap(wrapped, context))).toEqual(someKey());
      const newer = await free.wrap(someKey(), context);
      expect(Buffer.from(await pinned.unwrap(newer.wrapped, context))).toEqual(someKey());
    });

    test('a version that was disabled neither wraps nor opens, and keeps nobody from opening what another one wrapped', async () => {
      const key = azure.createKey(host);
      const provider = await openKey(uriOf(key));
      const { wrapped } = await provider.wrap(someKey(), context);
      azure.rotateKey(key);
      const newer = await provider.wrap(someKey(), context);
      Object.assign(key.versions[1] ?? {}, { enabled: false });
      const started = await openKey(uriOf(key));
      for (const one of [provider, started]) {
        for (const work of [() => one.unwrap(newer.wrapped, context), () => one.wrap(someKey(), context)]) {
          expect(await rejected(work())).toMatchObject({ code: 'root_key_disabled', details: { name: 'KeyDisabled' } });
        }
        expect(await one.status()).toMatchObject({ healthy: false, trouble: { code: 'root_key_disabled' } });
        expect(Buffer.from(await one.unwrap(wrapped, context))).toEqual(someKey());
      }
    });

    test('a version that has expired opens, and does not wrap', async () => {
      const key = azure.createKey(host);
      const provider = await openKey(uriOf(key));
      const { wrapped } = await provider.wrap(someKey(), context);
      Object.assign(key.versions[0] ?? {}, { expired: true });
      expect(Buffer.from(await (await openKey(uriOf(key))).unwrap(wrapped, context))).toEqual(someKey());
      const error = await rejected(provider.wrap(someKey(), context));
      expect(error).toMatchObject({ code: 'root_key_disabled', details: { name: 'KeyExpired' } });
    });

    test('a deleted key is missing; a new one of the same name does not open what it wrapped; recovered, it does', async () => {
      const key = azure.createKey(host);
      const provider = await openKey(uriOf(key));
      const { wrapped } = await provider.wrap(someKey(), context);
      key.deleted = true;
      const error = await rejected(provider.unwrap(wrapped, context));
      expect(error).toMatchObject({ code: 'root_key_missing', details: { name: 'KeyNotFound', status: 404 } });
      expect((error as KeyringError).remedy).toContain('az keyvault key recover');
      expect(await rejected(openKey(uriOf(key)))).toHaveProperty('code', 'root_key_missing');
      key.deleted = false;
      const former = key.versions.splice(0, 1);
      azure.rotateKey(key);
      expect(await rejected(provider.unwrap(wrapped, context))).toHaveProperty('code', 'root_key_missing');
      const started = await openKey(uriOf(key));
      expect(await rejected(started.unwrap(wrapped, context))).toStrictEqual(decryptionFailed());
      key.versions.unshift(...former);
      expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(someKey());
    });

    const operations = host === HSM ? ['get', 'encrypt', 'decrypt'] : ['get', 'wrapkey', 'sign', 'verify', 'unwrapkey'];
    test.each(operations)('without the permission to %s the error names it', async (operation) => {
      const key = azure.createKey(host);
      const provider = await openKey(uriOf(key));
      azure.denied.add(operation);
      const { trouble } = await provider.status();
      expect(trouble).toMatchObject({
        code: 'root_key_denied',
        details: { failure: 'forbidden', name: 'ForbiddenByRbac' },
      });
      expect(trouble?.message).toContain(operation);
    });

    test(`a start costs ${host === HSM ? 'five' : 'eight'} requests`, async () => {
      const key = azure.createKey(host);
      const { wrapped } = await (await openKey(uriOf(key))).wrap(someKey(), context);
      const before = azure.asked.length;
      const provider = await openKey(uriOf(key));
      await provider.status();
      await provider.unwrap(wrapped, context);
      expect(azure.asked.length - before).toBe(host === HSM ? 5 : 8);
    });

    test('no bearer token goes anywhere before the challenge, and none to another resource', async () => {
      const key = azure.createKey(host);
      const foreign = azure.error(401, 'Unauthorized', 'AKV10000');
      const challenge =
        'Bearer authorization="https://login.microsoftonline.com/common", resource="https://evil.example"';
      azure.spoil(
        { ...foreign, headers: { 'www-authenticate': challenge } },
        1000,
        ({ headers }) => headers['host'] === host,
      );
      const before = azure.tokens.length;
      expect(await rejected(openKey(uriOf(key)))).toHaveProperty('code', 'root_key_unreachable');
      expect(azure.tokens).toHaveLength(before);
    });
  });

  test('what somebody else encrypted with the public key does not open: it takes the permission to sign', async () => {
    const key = azure.createKey(VAULT);
    const provider = await openKey(uriOf(key));
    const genuine = parseRemoteWrapped((await provider.wrap(someKey(), context)).wrapped);
    const signatures = [
      genuine.ciphertext.subarray(256),
      // Of another key that the attacker does have.
      parseRemoteWrapped(
        (await (await openKey(uriOf(azure.createKey(VAULT)))).wrap(someKey(), context)).wrapped,
      ).ciphertext.subarray(256),
      Buffer.alloc(256),
    ];
    for (const signature of signatures) {
      const forged = azure.encryptWithPublicKey(key, Buffer.alloc(32, 6));
      const ciphertext = Buffer.concat([forged, signature]);
      const error = await rejected(provider.unwrap(encodeRemoteWrapped({ ...genuine, ciphertext }), context));
      expect(error).toStrictEqual(decryptionFailed());
    }
    expect(azure.asked.at(-1)).toContain('/verify');
  });

  test('what is signed is what the specification says', async () => {
    const provider = await openKey(uriOf(azure.createKey(VAULT)));
    const { wrapped, fingerprint } = await provider.wrap(someKey(), context);
    await provider.unwrap(wrapped, context);
    const { ciphertext } = parseRemoteWrapped(wrapped);
    const fields = [
      Buffer.from('meshhook-keyring/v1 azure-rsa-wrapped'),
      remoteRootAad({ scheme: 'azurekms', fingerprint, context }),
      ciphertext.subarray(0, ciphertext.length / 2),
    ];
    const hash = createHash('sha256');
    for (const field of fields) hash.update(Buffer.of(0, 0, field.length >> 8, field.length & 0xff)).update(field);
    expect(azure.digests.at(-1)).toEqual(hash.digest());
  });

  test('halves of two wrapped keys do not fit together', async () => {
    const provider = await openKey(uriOf(azure.createKey(VAULT)));
    const one = parseRemoteWrapped((await provider.wrap(someKey(), context)).wrapped);
    const two = parseRemoteWrapped((await provider.wrap(someKey(), context)).wrapped);
    const mixed = Buffer.concat([one.ciphertext.subarray(0, 256), two.ciphertext.subarray(256)]);
    const error = await rejected(provider.unwrap(encodeRemoteWrapped({ ...one, ciphertext: mixed }), context));
    expect(error).toStrictEqual(decryptionFailed());
  });

  test.each([
    ['an elliptic curve', () => azure.createKey(VAULT, 'EC')],
    [
      'an RSA key that may not sign',
      () => {
        const key = azure.createKey(VAULT);
        Object.assign(key.versions[0] ?? {}, { operations: ['wrapKey', 'unwrapKey'] });
        return key;
      },
    ],
  ])('%s is not taken for a root key, and the remedy says what is', async (_, make) => {
    const key = make();
    const error = await openKey(uriOf(key)).then(
      async (provider) => (await provider.status()).trouble,
      (e: unknown) => e,
    );
    expect(error).toMatchObject({ code: 'wrong_root_key', remedy: expect.stringContaining('sign and verify') });
  });

  test('a client secret that is wrong: refused by Entra ID, in its own number, and not shown', async () => {
    useIdentity(azure, 'wrong-client-secret');
    const error = await rejected(openKey(uriOf(azure.createKey(VAULT))));
    expect(error).toMatchObject({
      code: 'root_key_denied',
      details: { failure: 'credentials', name: 'AADSTS7000215', attempts: 1 },
    });
    expectNoSecrets(['wrong-client-secret'], error);
  });

  test('no credentials at all: says where they come from, without asking the vault', async () => {
    for (const name of ['AZURE_TENANT_ID', 'AZURE_CLIENT_ID', 'AZURE_CLIENT_SECRET']) vi.stubEnv(name, undefined);
    vi.stubEnv('AZURE_TOKEN_CREDENTIALS', 'EnvironmentCredential');
    const before = azure.asked.length;
    const error = await rejected(openKey(uriOf(azure.createKey(VAULT))));
    expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'credentials', attempts: 1 } });
    expect((error as KeyringError).remedy).toContain('AZURE_CLIENT_SECRET');
    expect(azure.asked).toHaveLength(before);
  });

  test('Entra ID away: as unreachable as the vault would be, and tried as often', async () => {
    azure.spoil('broken', 1000, ({ headers }) => headers['host'] === 'login.microsoftonline.com');
    const error = await rejected(openKey(uriOf(azure.createKey(VAULT))));
    expect(error).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'network', attempts: 4 } });
  });

  test("a proxy's page instead of an answer is tried again", async () => {
    const provider = await openKey(uriOf(azure.createKey(VAULT)));
    const page = { status: 502, headers: { 'content-type': 'text/html' }, body: '<html>Bad Gateway</html>' };
    azure.spoil(page, 2, ({ headers }) => headers['host'] === VAULT);
    await provider.wrap(someKey(), context);
    expect(azure.spoiled()).toBe(2);
  });

  test('a vault that asks to be left alone for an hour is', async () => {
    const key = azure.createKey(VAULT);
    const provider = await openKey(uriOf(key));
    const throttled = azure.error(429, 'Throttled', 'Too many requests.');
    azure.spoil({ ...throttled, headers: { 'retry-after': '3600' } }, 1, ({ headers }) => headers['host'] === VAULT);
    // That there is no time for the hour shows that it would be waited for.
    const inAHurry = await openKey(uriOf(key)).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(inAHurry).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'throttled', attempts: 1 } });
    await provider.wrap(someKey(), context);
  });

  test('a certificate that nobody vouches for is an unreachable vault', async () => {
    setDefaultCACertificates(authorities);
    const error = await rejected(openKey(uriOf(azure.createKey(VAULT)), { attempts: 1 }));
    expect(error).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'network' } });
    expect((error as KeyringError).details['name']).toMatch(/CERT/);
  });
});

describe('azurekms: URIs', () => {
  const version = '0123456789abcdef0123456789abcdef';

  test.each([
    ['azurekms://keyring-1.vault.azure.net/root-Key', 'keyring-1.vault.azure.net', 'root-Key', undefined],
    [`azurekms://keyring-1.vault.azure.net/root/${version}`, 'keyring-1.vault.azure.net', 'root', version],
    ['azurekms://keyring.managedhsm.azure.net/root', 'keyring.managedhsm.azure.net', 'root', undefined],
    ['azurekms://keyring.vault.usgovcloudapi.net/root', 'keyring.vault.usgovcloudapi.net', 'root', undefined],
  ])('%s', (uri, host, name, pinned) => {
    expect(parseAzurekmsUri(uri)).toEqual({ host, name, version: pinned });
  });

  test.each([
    'azurekms:',
    'azurekms://',
    'azurekms://keyring.vault.azure.net',
    'azurekms://keyring.vault.azure.net/',
    'azurekms:///keyring.vault.azure.net/root',
    'azurekms://Keyring.vault.azure.net/root',
    'azurekms://keyring/root',
    'azurekms://keyring.vault.azure.net.evil.example/root',
    'azurekms://vault.azure.net/root',
    'azurekms://a.b.vault.azure.net/root',
    'azurekms://keyring.vault.azure.net:443/root',
    'azurekms://keyring.vault.azure.net/keys/root',
    'azurekms://keyring.vault.azure.net/root/latest',
    `azurekms://keyring.vault.azure.net/root/${version}/x`,
    `azurekms://keyring.vault.azure.net/root/${version.toUpperCase()}`,
    'azurekms://keyring.vault.azure.net/ro%6ft',
    'azurekms://keyring.vault.azure.net/ro_ot',
    'azurekms://id:hunter2hunter2@keyring.vault.azure.net/root',
    'azurekms://keyring.vault.azure.net/root?client_secret=hunter2hunter2',
    'azurekms://keyring.vault.azure.net/root#hunter2hunter2',
  ])('%j is refused, and nothing of it shown', (uri) => {
    const error = thrown(() => parseAzurekmsUri(uri));
    expect(error).toBeInstanceOf(KeyringError);
    expect(error).toMatchObject({ code: 'invalid_argument', remedy: expect.stringContaining('azurekms://') });
    expectNoSecrets(['hunter2hunter2'], error);
  });
});
