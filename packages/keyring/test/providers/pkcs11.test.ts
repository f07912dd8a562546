import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decryptionFailed, type KeyringError } from '../../src/errors.ts';
import { openModule } from '../../src/providers/pkcs11-module.ts';
import { pinProblem } from '../../src/providers/pkcs11-session.ts';
import { parsePkcs11Uri } from '../../src/providers/pkcs11-uri.ts';
import { createPkcs11RootKey, openPkcs11RootKey } from '../../src/providers/pkcs11.ts';
import { openRootKey } from '../../src/providers/registry.ts';
import { rejected, thrown } from '../support/thrown.ts';
import { context, expectNoSecrets, providerContract, someKey } from './contract.ts';
import { patience } from './remote-contract.ts';
import { hasSoftHsm, library, pin, startSoftHsm, type SoftHsm } from './support/softhsm.ts';

describe.skipIf(!hasSoftHsm)('in a SoftHSM', () => {
  let hsm: SoftHsm;

  beforeAll(async () => {
    hsm = await startSoftHsm(['main', 'spare', 'trial']);
  });
  afterAll(() => hsm?.close());

  const open = (uri: string, env: Record<string, string> = {}) => openRootKey(uri, { cwd: '/', env, remote: patience });

  providerContract('pkcs11', async () => {
    const uri = hsm.uri('main', 'root');
    const { fingerprint } = await createPkcs11RootKey(uri);
    await createPkcs11RootKey(hsm.uri('main', 'other'));
    expect((await (await open(uri)).status()).fingerprint).toBe(fingerprint);
    return {
      uri,
      open: (which = uri) => open(which),
      openOther: () => open(hsm.uri('main', 'other')),
      takeAway: () => hsm.takeOut('main'),
      bringBack: () => hsm.putBack('main'),
      secrets: [pin, someKey().toString('hex').slice(0, 20)],
      close: () => undefined,
    };
  });

  /** Makes a key by other means than ours, with these attributes on top of those of a root key. */
  async function makeKey(token: string, label: string, more: Record<string, unknown> = {}): Promise<void> {
    const { default: p } = await import('pkcs11js');
    const module = await openModule(library);
    await module.use(undefined, (lib) => {
      const session = sessionOf(lib, p, token);
      lib.C_GenerateKey(session, { mechanism: p.CKM_AES_KEY_GEN }, [
        ...attributes(p, { CLASS: p.CKO_SECRET_KEY, TOKEN: true, LABEL: label, VALUE_LEN: 32, ENCRYPT: true }),
        ...attributes(p, { DECRYPT: true, SENSITIVE: true, EXTRACTABLE: false, ...more }),
      ]);
      lib.C_CloseSession(session);
    });
  }

  /** A key of a given value, as it comes to a second HSM by its vendor's means. */
  async function importKey(token: string, label: string, value: Buffer): Promise<void> {
    const { default: p } = await import('pkcs11js');
    const module = await openModule(library);
    await module.use(undefined, (lib) => {
      const session = sessionOf(lib, p, token);
      const key = { CLASS: p.CKO_SECRET_KEY, KEY_TYPE: p.CKK_AES, TOKEN: true, LABEL: label, VALUE: value };
      (lib as never as { C_CreateObject(s: Buffer, t: unknown): void }).C_CreateObject(
        session,
        attributes(p, { ...key, ENCRYPT: true, DECRYPT: true, SENSITIVE: true, EXTRACTABLE: false }),
      );
      lib.C_CloseSession(session);
    });
  }

  async function destroyKeys(token: string, label: string): Promise<void> {
    const { default: p } = await import('pkcs11js');
    const module = await openModule(library);
    await module.use(undefined, (lib) => {
      const session = sessionOf(lib, p, token);
      lib.C_FindObjectsInit(session, attributes(p, { LABEL: label }));
      const found = lib.C_FindObjects(session, 10);
      lib.C_FindObjectsFinal(session);
      for (const object of found)
        (lib as never as { C_DestroyObject(s: Buffer, o: Buffer): void }).C_DestroyObject(session, object);
      lib.C_CloseSession(session);
    });
  }

  /** As an application that shares the library would, and as a device that restarts does. */
  async function endAllSessions(token: string): Promise<void> {
    const { default: p } = await import('pkcs11js');
    const module = await openModule(library);
    await module.use(undefined, (lib) => {
      (lib as never as { C_CloseAllSessions(slot: Buffer): void }).C_CloseAllSessions(slotOf(lib, token));
      expect(p.CKU_USER).toBe(1);
    });
  }

  test('a key that was made here never leaves the token, and does nothing but encrypt and decrypt', async () => {
    const uri = hsm.uri('trial', 'made');
    await createPkcs11RootKey(uri);
    const { default: p } = await import('pkcs11js');
    const module = await openModule(library);
    const values = await module.use(undefined, (lib) => {
      const session = sessionOf(lib, p, 'trial');
      lib.C_FindObjectsInit(session, attributes(p, { LABEL: 'made' }));
      const [key = Buffer.alloc(0)] = lib.C_FindObjects(session, 1);
      lib.C_FindObjectsFinal(session);
      const names = [
        'SENSITIVE',
        'ALWAYS_SENSITIVE',
        'EXTRACTABLE',
        'NEVER_EXTRACTABLE',
        'ENCRYPT',
        'WRAP',
        'SIGN',
        'DERIVE',
      ];
      const types = names.map((name) => ({ type: p[`CKA_${name}` as never] }));
      const found = lib.C_GetAttributeValue(session, key, types).map(({ value }) => (value as Buffer)[0]);
      lib.C_CloseSession(session);
      return Object.fromEntries(names.map((name, at) => [name, found[at]]));
    });
    expect(values).toEqual({
      ...{ SENSITIVE: 1, ALWAYS_SENSITIVE: 1, EXTRACTABLE: 0, NEVER_EXTRACTABLE: 1 },
      ...{ ENCRYPT: 1, WRAP: 0, SIGN: 0, DERIVE: 0 },
    });
    expect(await rejected(createPkcs11RootKey(uri))).toHaveProperty('code', 'root_key_exists');
  });

  test('another process opens what this one wrapped', async () => {
    const uri = hsm.uri('trial', 'shared');
    await createPkcs11RootKey(uri);
    const { wrapped } = await (await open(uri)).wrap(someKey(), context);
    const registry = pathToFileURL(join(import.meta.dirname, '../../src/providers/registry.ts')).href;
    const program = `
      const { openRootKey } = await import(${JSON.stringify(registry)});
      const provider = await openRootKey(${JSON.stringify(uri)}, { cwd: '/' });
      const key = await provider.unwrap(Buffer.from('${Buffer.from(wrapped).toString('hex')}', 'hex'), Buffer.from('${Buffer.from(context).toString('hex')}', 'hex'));
      process.stdout.write(Buffer.from(key).toString('hex'));`;
    const out = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
    expect(out).toBe(someKey().toString('hex'));
  });

  test('the same key in another token, as in a group of HSMs, is the same root key', async () => {
    const value = randomBytes(32);
    await importKey('trial', 'twin', value);
    await importKey('spare', 'twin', value);
    const [one, two] = [await open(hsm.uri('trial', 'twin')), await open(hsm.uri('spare', 'twin'))];
    expect(await two.status()).toEqual(await one.status());
    expect(await two.unwrap((await one.wrap(someKey(), context)).wrapped, context)).toEqual(someKey());
  });

  describe('a session', () => {
    test('that ends is opened again, unnoticed', async () => {
      await makeKey('trial', 'lasting');
      const provider = await open(hsm.uri('trial', 'lasting'));
      const { wrapped } = await provider.wrap(someKey(), context);
      await endAllSessions('trial');
      expect(await provider.unwrap(wrapped, context)).toEqual(someKey());
    });

    test('of another key survives that the library begins anew', async () => {
      await makeKey('trial', 'one');
      const one = await open(hsm.uri('trial', 'one'));
      const { wrapped } = await one.wrap(someKey(), context);
      const module = await openModule(library);
      const before = module.generation;
      expect(await rejected(open(hsm.uri('nowhere', 'x')))).toHaveProperty('code', 'root_key_unreachable');
      expect(module.generation).toBeGreaterThan(before);
      expect(await one.unwrap(wrapped, context)).toEqual(someKey());
    });

    test('that ended is never taken for one of another key, whose handles have its numbers', async () => {
      await makeKey('trial', 'this');
      await makeKey('trial', 'that');
      const [one, two] = [await open(hsm.uri('trial', 'this')), await open(hsm.uri('trial', 'that'))];
      const begin = await openModule(library);
      for (const others of [
        [two, one],
        [one, two],
        [two, one],
      ]) {
        await begin.use(undefined, () => begin.reset());
        for (const provider of others) {
          const { wrapped } = await provider.wrap(someKey(), context);
          const anew = await open(provider.uri);
          expect(await anew.unwrap(wrapped, context)).toEqual(someKey());
        }
      }
    });

    test('that ends while another key takes the name is not used', async () => {
      await makeKey('trial', 'replaced');
      const provider = await open(hsm.uri('trial', 'replaced'));
      const { wrapped } = await provider.wrap(someKey(), context);
      await destroyKeys('trial', 'replaced');
      expect(await rejected(open(hsm.uri('trial', 'replaced')))).toHaveProperty('code', 'root_key_missing');
      await makeKey('trial', 'replaced');
      await endAllSessions('trial');
      expect(await rejected(provider.unwrap(wrapped, context))).toHaveProperty('code', 'wrong_root_key');
      expect(await rejected((await open(hsm.uri('trial', 'replaced'))).unwrap(wrapped, context))).toStrictEqual(
        decryptionFailed(),
      );
    });
  });

  describe('refused at once, with the remedy:', () => {
    test('a token that is not there, naming those that are, after four attempts', async () => {
      const error = (await rejected(open(hsm.uri('nowhere', 'x')))) as KeyringError;
      expect(error).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'network', attempts: 4 } });
      expect(error.message).toMatch(/the tokens at hand are: .*main/);
    });

    test('a key that is not there', async () => {
      const error = (await rejected(open(hsm.uri('trial', 'nothing')))) as KeyringError;
      expect(error).toMatchObject({ code: 'root_key_missing', details: { attempts: 1 } });
      expect(error.remedy).toContain('mh-keys root-key create');
    });

    test.each([
      ['that can leave the token', { EXTRACTABLE: true }, 'CKA_EXTRACTABLE'],
      ['that is not sensitive', { SENSITIVE: false }, 'CKA_SENSITIVE'],
      ['of 128 bits', { VALUE_LEN: 16 }, 'CKA_VALUE_LEN'],
      ['that may not decrypt', { DECRYPT: false }, 'CKA_DECRYPT'],
    ])('a key %s', async (_, more, name) => {
      await makeKey('trial', `wrong-${name}`, more);
      const error = (await rejected(open(hsm.uri('trial', `wrong-${name}`)))) as KeyringError;
      expect(error).toMatchObject({ code: 'wrong_root_key', details: { failure: 'unsuitable', name, attempts: 1 } });
    });

    test('a name that two keys have, until an id tells which', async () => {
      await makeKey('trial', 'twice', { ID: Buffer.of(1, 0x3b) });
      await makeKey('trial', 'twice', { ID: Buffer.of(2) });
      expect(await rejected(open(hsm.uri('trial', 'twice')))).toMatchObject({
        ...{ code: 'wrong_root_key', message: expect.stringContaining('more than one key') },
      });
      const one = await open(hsm.uri('trial', 'twice', ';id=%01%3b'));
      const two = await open(hsm.uri('trial', 'twice', ';id=%02'));
      expect((await one.status()).fingerprint).not.toBe((await two.status()).fingerprint);
    });

    test('a library that is not there', async () => {
      const uri = hsm.uri('trial', 'x').replace(library, '/nowhere/hsm.so');
      const error = (await rejected(open(uri))) as KeyringError;
      expect(error).toMatchObject({ code: 'unsupported_root_key', details: { path: '/nowhere/hsm.so' } });
    });
  });

  describe('a PIN', () => {
    beforeAll(() => makeKey('spare', 'first'));

    const uriWith = (source: string) => hsm.uri('spare', 'first').replace(/pin-source=.*/, `pin-source=${source}`);

    // Logged in by one provider, a process is logged in for all: PINs are tried by a process of their own.
    function openAlone(
      uris: readonly string[],
      env: Record<string, string> = {},
    ): { code: string; message: string; attempts: number }[] {
      const registry = pathToFileURL(join(import.meta.dirname, '../../src/providers/registry.ts')).href;
      const program = `
        const { openRootKey } = await import(${JSON.stringify(registry)});
        const outcomes = [];
        for (const uri of ${JSON.stringify(uris)}) {
          outcomes.push(await openRootKey(uri, { cwd: '/', env: process.env, remote: { backoffMs: 1 } }).then(
            () => ({ code: 'opened' }),
            (error) => ({ code: error.code, message: error.message, attempts: error.details.attempts }),
          ));
        }
        process.stdout.write(JSON.stringify(outcomes));`;
      const out = execFileSync(process.execPath, ['--input-type=module', '--eval', program], {
        ...{ encoding: 'utf8', env: { ...process.env, ...env } },
      });
      expect(out).not.toContain('hunter2');
      return JSON.parse(out) as ReturnType<typeof openAlone>;
    }

    test('that is wrong is tried once, and never again by this process', () => {
      const wrong = uriWith('env:WRONG_PIN');
      const [first, second, third] = openAlone([wrong, wrong, uriWith('env:RIGHT_PIN')], {
        ...{ WRONG_PIN: 'hunter2', RIGHT_PIN: pin },
      });
      expect(first).toMatchObject({ code: 'root_key_denied', attempts: 1 });
      expect(first?.message).not.toContain('refused before');
      expect(second).toMatchObject({ code: 'root_key_denied', attempts: 1 });
      expect(second?.message).toContain('refused before');
      expect(third).toEqual({ code: 'opened' });
    });

    test('comes from a variable or a file, and without one nothing is tried', async () => {
      const loose = join(hsm.folder, 'loose pin');
      await writeFile(loose, pin);
      await chmod(loose, 0o640);
      const empty = join(hsm.folder, 'empty');
      await writeFile(empty, '\n', { mode: 0o600 });
      const outcomes = openAlone([
        uriWith('env:NOT_SET'),
        uriWith(`file:${encodeURI(loose)}`),
        uriWith(`file:${encodeURI(empty)}`),
        uriWith('file:/nowhere/pin'),
        hsm.uri('spare', 'first').replace(/&pin-source=.*/, ''),
        uriWith(`file://${encodeURI(hsm.pinFile)}`),
      ]);
      expect(outcomes.map(({ code }) => code)).toEqual([
        ...[
          'root_key_denied',
          'root_key_permissions',
          'root_key_denied',
          'root_key_denied',
          'root_key_denied',
          'opened',
        ],
      ]);
      await rm(loose);
    });
  });
});

test('the last try before a token locks is nobody’s program’s', () => {
  expect(pinProblem(0x0001_042d)).toBeUndefined();
  expect(pinProblem(0x0002_042d)).toMatchObject({ name: 'CKF_USER_PIN_FINAL_TRY' });
  expect(pinProblem(0x0004_042d)).toMatchObject({ name: 'CKF_USER_PIN_LOCKED' });
});

describe('PKCS #11 URIs', () => {
  const query = '?module-path=/usr/lib/hsm.so';

  test('name token, key, library and where the PIN is', () => {
    const uri = `pkcs11:token=My%20token;serial=0042;object=r%C3%B6ot;id=%00%ff%3B;type=secret-key?pin-source=file:/run/hsm%20pin&module-path=/usr/lib/h%26m.so`;
    expect(parsePkcs11Uri(uri)).toEqual({
      ...{ token: { token: 'My token', serial: '0042' }, label: 'röot', id: Buffer.of(0, 255, 0x3b) },
      ...{ modulePath: '/usr/lib/h&m.so', pin: { file: '/run/hsm pin' } },
    });
    expect(parsePkcs11Uri(`pkcs11:serial=1;id=%01${query}&pin-source=env:PIN`)).toMatchObject({
      pin: { variable: 'PIN' },
    });
    expect(parsePkcs11Uri(`pkcs11:token=a;object=b${query}&pin-source=/run/pin`)).toMatchObject({
      pin: { file: '/run/pin' },
    });
    expect(parsePkcs11Uri(`pkcs11:token=a;object=b${query}&pin-source=file:///run/pin`)).toMatchObject({
      pin: { file: '/run/pin' },
    });
  });

  test.each([
    ['a PIN', `pkcs11:token=a;object=b${query}&pin-value=hunter2`],
    ['a PIN in the path', `pkcs11:token=a;object=b;pin-value=hunter2${query}`],
    ['a command that tells the PIN', `pkcs11:token=a;object=b${query}&pin-source=%7Chunter2`],
    ['a PIN file that is relative', `pkcs11:token=a;object=b${query}&pin-source=file:hunter2`],
    ['a PIN file elsewhere', `pkcs11:token=a;object=b${query}&pin-source=file://host/hunter2`],
    ['no token', `pkcs11:object=hunter2${query}`],
    ['no key', `pkcs11:token=hunter2${query}`],
    ['no library', 'pkcs11:token=hunter2;object=b'],
    ['a library that is looked for', `pkcs11:token=a;object=b?module-path=hunter2.so`],
    ['a library by name', `pkcs11:token=a;object=b?module-name=hunter2`],
    ['an attribute twice', `pkcs11:token=a;token=hunter2;object=b${query}`],
    ['an attribute of another', `pkcs11:token=a;object=b;x-hunter2=c${query}`],
    ['another type of object', `pkcs11:token=a;object=b;type=private${query}`],
    ['a % that encodes nothing', `pkcs11:token=a;object=hunter2%zz${query}`],
    ['a label that is no text', `pkcs11:token=a;object=%ff${query}`],
    ['an empty value', `pkcs11:token=;object=hunter2${query}`],
    ['a fragment', `pkcs11:token=a;object=b${query}#hunter2`],
    ['nothing', 'pkcs11:'],
  ])('%s is refused, and not shown', async (_, uri) => {
    const error = thrown(() => parsePkcs11Uri(uri)) as KeyringError;
    expect(error.code).toBe('invalid_argument');
    expect(error.remedy).toMatch(/pin-source=file:/);
    expectNoSecrets(['hunter2'], error);
    expect(await rejected(openPkcs11RootKey(uri))).toHaveProperty('code', 'invalid_argument');
  });
});

// ── the token, by other means than ours ─────────────────────────────────────────────────────────────────────────────

type Lib = Parameters<Parameters<Awaited<ReturnType<typeof openModule>>['use']>[1]>[0];
type Constants = typeof import('pkcs11js');

function attributes(p: Constants, named: Record<string, unknown>) {
  return Object.entries(named).map(([name, value]) => ({
    type: p[`CKA_${name}` as never],
    value: value as number,
  }));
}

function slotOf(lib: Lib, token: string): Buffer {
  const slot = lib.C_GetSlotList(true).find((one) => lib.C_GetTokenInfo(one).label.trim() === token);
  if (slot === undefined) throw new Error(`no token ${token}`);
  return slot;
}

function sessionOf(lib: Lib, p: Constants, token: string): Buffer {
  const session = lib.C_OpenSession(slotOf(lib, token), p.CKF_SERIAL_SESSION | p.CKF_RW_SESSION);
  try {
    lib.C_Login(session, p.CKU_USER, pin);
  } catch (error) {
    if ((error as Error).message !== 'CKR_USER_ALREADY_LOGGED_IN') throw error;
  }
  return session;
}
