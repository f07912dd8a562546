import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { hasSoftHsm, library, pin, startSoftHsm, type SoftHsm } from '../../keyring/test/providers/support/softhsm.ts';
import { leastPolicy, newKey, startTransitServer } from '../../keyring/test/providers/support/transit-server.ts';
import { build, cli, temporaryFolder } from './support/cli.ts';

const folder = temporaryFolder();
const { run, json, refused } = cli(path.join(folder.path, 'home'));
let database: TestDatabase;

beforeAll(async () => {
  build();
  database = await createTestDatabase();
});
afterAll(async () => {
  await database?.drop();
  folder.remove();
});

describe('mh-keys root-key create', () => {
  test.each([
    ['env:ROOT', /mh-keys root-key create file:/],
    ['hashivault://vault.example/transit/root', /vault write -f transit\/keys/],
    ['awskms://eu-west-1/alias/root', /aws kms create-key/],
    ['gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k', /gcloud kms keys create/],
  ])('%s is left to the tools of its service, which are named', async (uri, hint) => {
    expect(await refused(['root-key', 'create', uri])).toMatchObject({
      ...{ exit: 2, code: 'invalid_argument', hint: expect.stringMatching(hint) },
    });
  });
});

test('a root key in a variable unlocks what the same key in a file does', async () => {
  const uri = `file:${path.join(folder.path, 'root.key')}`;
  const { rootKey } = await json(['root-key', 'create', uri]);
  const text = await readFile(path.join(folder.path, 'root.key'), 'utf8');
  const line = text.trimEnd().split('\n').at(-1) ?? '';
  const env = { DATABASE_URL: database.ownerUrl, MESHHOOK_ROOT_KEY: 'env:ROOT', ROOT: line };

  expect(await json(['root-key', 'status'], { env })).toEqual({
    lastBackup: null,
    rootKey: { uri: 'env:ROOT', healthy: true, fingerprint: rootKey.fingerprint },
  });
  await json(['project', 'create', 'acme'], { env });
  await run(['secrets', 'set', 'A', '--project', 'acme'], { env, input: 'value A' });
  const byFile = { ...env, MESHHOOK_ROOT_KEY: uri };
  expect((await run(['secrets', 'get', 'A', '--project', 'acme'], { env: byFile })).stdout).toBe('value A');

  const { ROOT: _, ...without } = env;
  expect(await refused(['status'], { env: without })).toMatchObject({
    ...{ exit: 6, code: 'root_key_missing', hint: expect.stringContaining('Set ROOT') },
  });
  const refusal = await refused(['status'], { env: { ...env, ROOT: `${line}x` } });
  expect(refusal).toMatchObject({ exit: 6, code: 'root_key_unreadable' });
  expect(refusal.stderr).not.toContain(line.slice(20, 40));
});

describe('mh-keys root-key status', () => {
  test('says whether Vault can be used, and what to do when not', async () => {
    const server = await startTransitServer();
    const token = 'hvs.a-token-of-the-tests';
    server.mounts.set('transit', { uuid: 'a-mount', type: 'transit' });
    server.keys.set('transit/root', newKey());
    server.tokens.set(token, leastPolicy('transit', 'root'));
    const uri = `hashivault://127.0.0.1:${String(server.port)}/transit/root?tls=off`;
    const env = { MESHHOOK_ROOT_KEY: uri, VAULT_TOKEN: token };
    try {
      expect(await json(['root-key', 'status'], { env })).toMatchObject({ rootKey: { uri, healthy: true } });

      // The key may be read, and not be used: only trying it tells.
      const { [`transit/decrypt/root`]: _, ...policy } = leastPolicy('transit', 'root');
      server.tokens.set(token, policy);
      const denied = await run(['root-key', 'status'], { env });
      expect(denied).toMatchObject({ code: 6, stdout: expect.stringContaining('can not be used') });
      expect(denied.stderr).toMatch(/root_key_denied.*\nhint: .*transit\/decrypt\/root/);
      expect(denied.stderr).not.toContain(token);
    } finally {
      await server.stop();
    }
    const away = await refused(['root-key', 'status'], { env });
    expect(away).toMatchObject({ exit: 6, code: 'root_key_unreachable', hint: expect.stringContaining('network') });
    expect(away.stderr).toContain('Tried 4 times');
  });
});

describe.skipIf(!hasSoftHsm)('a root key in an HSM', () => {
  let hsm: SoftHsm;
  let own: TestDatabase;
  beforeAll(async () => {
    hsm = await startSoftHsm(['cli']);
    own = await createTestDatabase();
  });
  afterAll(async () => {
    await own?.drop();
    await hsm?.close();
  });

  test('is made by mh-keys, and unlocks a database; without it nothing does', async () => {
    const uri = `pkcs11:token=cli;object=root?module-path=${library}&pin-source=env:HSM_PIN`;
    const softhsm = { SOFTHSM2_CONF: path.join(hsm.folder, 'softhsm2.conf') };
    const env = { ...softhsm, DATABASE_URL: own.ownerUrl, MESHHOOK_ROOT_KEY: uri, HSM_PIN: pin };
    const made = await run(['root-key', 'create', uri], { env });
    expect(made.stdout).toMatch(/^Made a root key in the HSM, fingerprint [0-9a-f]{32}\./);
    expect(made.stdout).toContain(`MESHHOOK_ROOT_KEY='${uri}'`);
    expect(await refused(['root-key', 'create', uri], { env })).toMatchObject({ exit: 4, code: 'root_key_exists' });

    await json(['project', 'create', 'acme'], { env });
    await run(['secrets', 'set', 'A', '--project', 'acme'], { env, input: 'value A' });
    expect((await run(['secrets', 'get', 'A', '--project', 'acme'], { env })).stdout).toBe('value A');

    await hsm.takeOut('cli');
    const refusal = await refused(['status'], { env });
    expect(refusal).toMatchObject({ exit: 6, code: 'root_key_unreachable' });
    expect(refusal.stderr).not.toContain(pin);
    await hsm.putBack('cli');
    expect((await run(['status'], { env })).code).toBe(0);
  });
});
