import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseRemoteWrapped } from '../../src/envelope/remote-wrapped.ts';
import { decryptionFailed, type KeyringError } from '../../src/errors.ts';
import { hashivaultRootKey, openHashivaultRootKey } from '../../src/providers/hashivault.ts';
import { openRootKey } from '../../src/providers/registry.ts';
import type { RemoteOptions } from '../../src/providers/remote.ts';
import { rejected } from '../support/thrown.ts';
import { context, expectNoSecrets, providerContract, someKey } from './contract.ts';
import { patience, remoteContract, type RemoteSubject } from './remote-contract.ts';
import { leastPolicy, newKey, startTransitServer, type TransitServer } from './support/transit-server.ts';

const MOUNT = 'team/transit';
const token = 'hvs.a-token-of-the-tests-that-opens-nothing-anywhere';
const secretId = 'a-secret-id-of-the-tests-that-opens-nothing';

async function start(tls?: { key: string; cert: string }): Promise<TransitServer> {
  const server = await startTransitServer(tls);
  server.mounts.set(MOUNT, { uuid: randomUUID(), type: 'transit' });
  for (const name of ['root', 'other']) server.keys.set(`${MOUNT}/${name}`, newKey());
  const policy = { ...leastPolicy(MOUNT, 'root'), ...leastPolicy(MOUNT, 'other') };
  server.tokens.set(token, policy);
  server.roles.set('a-role', { secretId, policy, leaseSeconds: 3_600, logins: 0 });
  return server;
}

const uriOf = ({ port }: TransitServer, key = 'root'): string =>
  `hashivault://127.0.0.1:${String(port)}/${MOUNT}/${key}?tls=off`;

async function subject(env: Record<string, string> = { VAULT_TOKEN: token }): Promise<RemoteSubject> {
  const server = await start();
  const uri = uriOf(server);
  const former = server.keys.get(`${MOUNT}/root`);
  const open = (which = uri, remote: RemoteOptions = patience) => openRootKey(which, { cwd: '/', env, remote });
  return {
    ...{ uri, open },
    openOther: () => open(uriOf(server, 'other')),
    takeAway: () => server.stop(),
    bringBack: () => server.start(),
    misbehave: (how, times) => server.misbehave(how, times),
    misbehaved: () => server.misbehaved(),
    replaceKey: () => {
      server.keys.set(`${MOUNT}/root`, newKey());
    },
    restoreKey: () => {
      if (former !== undefined) server.keys.set(`${MOUNT}/root`, former);
    },
    unknown: [],
    secrets: [token.slice(4), secretId, someKey().toString('base64').slice(0, 20)],
    close: () => server.stop(),
  };
}

providerContract('hashivault', () => subject());
providerContract('hashivault with AppRole', () => subject({ VAULT_ROLE_ID: 'a-role', VAULT_SECRET_ID: secretId }));
remoteContract('hashivault', () => subject());

describe('a root key in Vault', () => {
  let server: TransitServer;
  const env = { VAULT_TOKEN: token };
  const open = (uri = uriOf(server), environment: Record<string, string> = env) =>
    openHashivaultRootKey(uri, { env: environment, remote: patience });

  beforeEach(async () => {
    server = await start();
  });
  afterEach(() => server.stop());

  test('needs no more than read on the key, and update on encrypt and decrypt', async () => {
    for (const path of Object.keys(leastPolicy(MOUNT, 'root'))) {
      const policy = { ...leastPolicy(MOUNT, 'root') };
      delete policy[path];
      server.tokens.set(token, policy);
      const denied = open().then(async (provider) =>
        provider.unwrap((await provider.wrap(someKey(), context)).wrapped, context),
      );
      const error = (await rejected(denied)) as KeyringError;
      expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'forbidden' } });
      expect(error.remedy).toContain(path);
    }
    server.tokens.set(token, leastPolicy(MOUNT, 'root'));
    expect(await (await open()).status()).toHaveProperty('healthy', true);
  });

  test('is never made by wrapping, even by a token that may make keys', async () => {
    const policy = leastPolicy(MOUNT, 'root');
    server.tokens.set(token, { ...policy, [`${MOUNT}/encrypt/root`]: ['create', 'update'] });
    const provider = await open();
    server.keys.delete(`${MOUNT}/root`);
    expect(await rejected(provider.wrap(someKey(), context))).toHaveProperty('code', 'root_key_missing');
    expect(await rejected(open())).toHaveProperty('code', 'root_key_missing');
    expect(server.keys.has(`${MOUNT}/root`)).toBe(false);
  });

  test('is not asked about damaged bytes, nor about those of another root key', async () => {
    const provider = await open();
    const { wrapped } = await provider.wrap(someKey(), context);
    const foreign = await (await open(uriOf(server, 'other'))).wrap(someKey(), context);
    server.requests.length = 0;
    for (const bytes of [wrapped.subarray(1), wrapped.map((byte, at) => byte ^ Number(at === 60)), foreign.wrapped]) {
      expect(await rejected(provider.unwrap(bytes, context))).toStrictEqual(decryptionFailed());
    }
    expect(server.requests).toEqual([]);
  });

  test('keeps its fingerprint when Vault rotates it, and opens what older versions wrapped', async () => {
    const provider = await open();
    const before = await provider.wrap(someKey(), context);
    server.keys.get(`${MOUNT}/root`)?.versions.push(newKey().versions[0] ?? Buffer.alloc(32));
    const after = await provider.wrap(someKey(), context);
    expect(after.fingerprint).toBe(before.fingerprint);
    expect([before, after].map(({ wrapped }) => parseRemoteWrapped(wrapped).resource)).toEqual(['1', '2']);
    for (const { wrapped } of [before, after]) expect(await provider.unwrap(wrapped, context)).toEqual(someKey());
  });

  test('says so when its version is not to be decrypted with any more, and how to undo that', async () => {
    const provider = await open();
    const { wrapped } = await provider.wrap(someKey(), context);
    const key = server.keys.get(`${MOUNT}/root`) ?? newKey();
    key.versions.push(newKey().versions[0] ?? Buffer.alloc(32));
    key.minDecryptionVersion = 2;
    const error = (await rejected(provider.unwrap(wrapped, context))) as KeyringError;
    expect(error.code).toBe('root_key_disabled');
    expect(error.remedy).toContain('min_decryption_version');
  });

  test('has the same fingerprint by another address, and another one in another mount', async () => {
    const { fingerprint } = await (await open()).status();
    const byName = `hashivault://localhost:${String(server.port)}/${MOUNT}/root?tls=off`;
    server.mounts.set('elsewhere', { uuid: randomUUID(), type: 'transit' });
    server.keys.set('elsewhere/root', newKey());
    server.tokens.set(token, { ...server.tokens.get(token), ...leastPolicy('elsewhere', 'root') });
    expect((await (await open(byName)).status()).fingerprint).toBe(fingerprint);
    const elsewhere = `hashivault://127.0.0.1:${String(server.port)}/elsewhere/root?tls=off`;
    expect((await (await open(elsewhere)).status()).fingerprint).not.toBe(fingerprint);
  });

  test('is not used when its mount was replaced by another', async () => {
    const provider = await open();
    server.mounts.set(MOUNT, { uuid: randomUUID(), type: 'transit' });
    expect(await rejected(provider.wrap(someKey(), context))).toHaveProperty('code', 'wrong_root_key');
    expect(await provider.status()).toMatchObject({ healthy: false, trouble: { code: 'wrong_root_key' } });
  });

  test.each(['aes128-gcm96', 'rsa-4096', 'ed25519', 'hmac'])('of the type %s is of no use', async (type) => {
    server.keys.set(`${MOUNT}/root`, newKey(type));
    const error = (await rejected(open())) as KeyringError;
    expect(error).toMatchObject({ code: 'wrong_root_key', details: { failure: 'unsuitable', name: type } });
    expect(error.remedy).toContain('aes256-gcm96');
  });

  test('that is derived is of no use, and neither is what is no Transit engine', async () => {
    server.keys.set(`${MOUNT}/root`, { ...newKey(), derived: true });
    expect(await rejected(open())).toHaveProperty('code', 'wrong_root_key');
    server.mounts.set(MOUNT, { uuid: randomUUID(), type: 'kv' });
    expect(await rejected(open())).toMatchObject({
      code: 'wrong_root_key',
      message: expect.stringMatching(/no transit/),
    });
  });

  test('is unreachable while Vault is sealed, and the error says sealed', async () => {
    server.sealed = true;
    const error = (await rejected(open())) as KeyringError;
    expect(error).toMatchObject({
      code: 'root_key_unreachable',
      details: { failure: 'server', status: 503, attempts: 4 },
    });
    expect(error.message).toContain('Vault is sealed');
    expect(error.remedy).toContain('unseal');
  });

  test('is asked for in its namespace: that of the URI before that of the environment', async () => {
    await open(uriOf(server), { ...env, VAULT_NAMESPACE: 'from-env' });
    expect(server.requests.every((line) => line.startsWith('from-env: '))).toBe(true);
    server.requests.length = 0;
    const provider = await open(`${uriOf(server)}&namespace=team%2Fa`, { ...env, VAULT_NAMESPACE: 'from-env' });
    expect(server.requests.every((line) => line.startsWith('team/a: '))).toBe(true);
    expect(provider.uri).toBe(`${uriOf(server)}&namespace=team%2Fa`);
  });

  describe('and credentials', () => {
    test('none: nothing is asked', async () => {
      const error = (await rejected(open(uriOf(server), { VAULT_ROLE_ID: 'a-role' }))) as KeyringError;
      expect(error.code).toBe('root_key_denied');
      expect(error.remedy).toContain('VAULT_TOKEN');
      expect(server.requests).toEqual([]);
    });

    test('one that is unknown', async () => {
      const error = (await rejected(open(uriOf(server), { VAULT_TOKEN: 'hvs.unknown-token' }))) as KeyringError;
      expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'credentials', attempts: 1 } });
      expectNoSecrets(['hvs.unknown-token'], error);
    });

    test('those of OpenBao win', async () => {
      await open(uriOf(server), { BAO_TOKEN: token, VAULT_TOKEN: 'hvs.unknown-token' });
    });

    test('a file is read anew each time, so that an agent can renew it', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'keyring vault '));
      const file = join(folder, 'token');
      try {
        await writeFile(file, `${token}\n`);
        const provider = await open(uriOf(server), { VAULT_TOKEN_FILE: file });
        server.tokens.set('hvs.renewed-token', server.tokens.get(token) ?? {});
        server.tokens.delete(token);
        expect(await provider.status()).toMatchObject({ healthy: false, trouble: { code: 'root_key_denied' } });
        await writeFile(file, 'hvs.renewed-token');
        expect(await provider.status()).toHaveProperty('healthy', true);
        await rm(file);
        expect((await provider.status()).trouble?.message).toContain('cannot be read, or is empty');
      } finally {
        await rm(folder, { recursive: true });
      }
    });

    test('AppRole logs in once, and again when its token has ended, or was revoked', async () => {
      const role = server.roles.get('a-role');
      if (role === undefined) throw new Error('no role');
      const byRole = { VAULT_ROLE_ID: 'a-role', VAULT_SECRET_ID: secretId };
      const provider = await open(uriOf(server), byRole);
      await provider.wrap(someKey(), context);
      expect(role.logins).toBe(1);
      const before = [...server.tokens.keys()];
      for (const made of before) if (made !== token) server.tokens.delete(made);
      await provider.wrap(someKey(), context);
      expect(role.logins).toBe(2);
      role.leaseSeconds = 0;
      const short = await open(uriOf(server), byRole);
      role.logins = 0;
      await short.wrap(someKey(), context);
      expect(role.logins).toBeGreaterThan(1);
    });

    test('an AppRole that is unknown is told from a key that is', async () => {
      const error = (await rejected(
        open(uriOf(server), { VAULT_ROLE_ID: 'a-role', VAULT_SECRET_ID: 'another-secret-id' }),
      )) as KeyringError;
      expect(error).toMatchObject({ code: 'root_key_denied', details: { failure: 'credentials', attempts: 1 } });
      expectNoSecrets(['another-secret-id'], error);
    });
  });

  describe('behind what is no Vault', () => {
    let port: number;
    let said: (token: string) => [number, string];
    const impostor = createServer((request, response) => {
      const [status, body] = said(String(request.headers['x-vault-token']));
      response.writeHead(status, status === 307 ? { location: body } : {}).end(body);
    });
    beforeAll(async () => {
      await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve));
      port = (impostor.address() as AddressInfo).port;
    });
    afterAll(() => {
      impostor.close();
    });
    const ask = async () =>
      (await rejected(open(`hashivault://127.0.0.1:${String(port)}/${MOUNT}/root?tls=off`))) as KeyringError;

    test.each([
      ['a page', () => [200, '<html>hello</html>']],
      ['nothing', () => [200, '']],
      ['JSON of its own', () => [200, '[1,2]']],
      ['an answer without end', () => [200, 'x'.repeat(2_000_000)]],
      ['a redirect into the void', () => [307, 'gopher://127.0.0.1/']],
      ['a redirect in circles', () => [307, '/v1/x']],
    ] as [string, () => [number, string]][])('%s is not understood', async (_, answer) => {
      said = answer;
      expect(await ask()).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'misunderstood' } });
    });

    test('a token that is sent back to us is not shown', async () => {
      said = (sent) => [400, JSON.stringify({ errors: [`bad ${sent}`] })];
      const error = await ask();
      expect(error.message).toContain('It says: bad …');
      expectNoSecrets([token.slice(4)], error);
    });

    test('a standby that points to the active node is followed', async () => {
      said = () => [307, `http://127.0.0.1:${String(server.port)}/v1/sys/internal/ui/mounts/${MOUNT}`];
      // The second request is pointed to the mount again, and no key is found there: but the first was followed.
      expect(await ask()).toMatchObject({ code: 'wrong_root_key', details: { name: 'transit' } });
      expect(server.requests).toContain(`GET sys/internal/ui/mounts/${MOUNT}`);
    });
  });
});

describe('the address of a root key in Vault', () => {
  test.each([
    'hashivault://vault.example/transit',
    'hashivault://vault.example/',
    'hashivault://vault.example',
    'hashivault:///transit/root',
    'hashivault://vault.example/transit//root',
    'hashivault://vault.example/transit/../root',
    'hashivault://vault.example/transit/root/',
    'hashivault://vault.example/transit/a%2fb',
    'hashivault://vault.example/transit/root?token=hunter2',
    'hashivault://vault.example/transit/root?tls=hunter2',
    'hashivault://vault.example/transit/root?namespace=',
    'hashivault://hunter2@vault.example/transit/root',
    'hashivault://root:hunter2@vault.example/transit/root',
    'hashivault://vault.example:99999/transit/hunter2',
  ])('%s is refused, without being shown', async (uri) => {
    const error = (await rejected(openHashivaultRootKey(uri, { env: { VAULT_TOKEN: token } }))) as KeyringError;
    expect(error.code).toBe('invalid_argument');
    expect(error.remedy).toContain('hashivault://host:8200/transit/key-name');
    expectNoSecrets(['hunter2', token], error);
  });

  test('has TLS and the port 8200 unless it says otherwise', async () => {
    const call = openHashivaultRootKey('hashivault://127.0.0.1/transit/root', {
      env: { VAULT_TOKEN: token },
      remote: { attempts: 1 },
    });
    const error = (await rejected(call)) as KeyringError;
    expect(error.message).toContain('hashivault://127.0.0.1:8200/transit/root.');
    expect(error.message).not.toContain('tls=off');
  });
});

const canMakeCertificates = hasOpenssl();
if (!canMakeCertificates)
  console.log('skipped: TLS of hashivault, because there is no openssl to make a certificate with');

describe.skipIf(!canMakeCertificates)('a root key in a Vault with a certificate of its own', () => {
  let folder: string;
  let server: TransitServer;
  const file = (name: string) => join(folder, name);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keyring tls '));
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file('key.pem')];
    execFileSync('openssl', ['req', '-x509', '-days', '2', ...key, '-out', file('cert.pem'), ...subject], {
      stdio: 'ignore',
    });
    server = await start({
      key: await readFile(file('key.pem'), 'utf8'),
      cert: await readFile(file('cert.pem'), 'utf8'),
    });
  });
  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const open = (host: string, more: Record<string, string> = {}) =>
    openHashivaultRootKey(`hashivault://${host}:${String(server.port)}/${MOUNT}/root`, {
      ...{ env: { VAULT_TOKEN: token, ...more }, remote: patience },
    });

  test('opens when VAULT_CACERT names its authority, and is refused otherwise', async () => {
    const provider = await open('localhost', { VAULT_CACERT: file('cert.pem') });
    expect(await provider.status()).toHaveProperty('healthy', true);
    const byHand = await hashivaultRootKey({
      ...{ address: `https://localhost:${String(server.port)}`, mount: MOUNT, key: 'root', credentials: { token } },
      ...{ ca: await readFile(file('cert.pem'), 'utf8'), remote: patience },
    });
    expect(byHand.uri).toBe(provider.uri);
    const misled = [() => open('localhost'), () => open('127.0.0.1', { VAULT_CACERT: file('cert.pem') })];
    for (const refused of misled) {
      const error = (await rejected(refused())) as KeyringError;
      expect(error).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'network' } });
      expect(error.remedy).toContain('VAULT_CACERT');
    }
    expect(server.requests.length).toBeGreaterThan(0);
  });

  test('does not open when the certificates cannot be read', async () => {
    expect(await rejected(open('localhost', { VAULT_CACERT: file('nope.pem') }))).toHaveProperty(
      'code',
      'invalid_argument',
    );
  });
});

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
