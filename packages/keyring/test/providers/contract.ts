/**
 * What every root-key provider promises (`src/providers/provider.ts`), run against each: `providerContract('awskms', setup)`.
 * Providers of a service have `remote-contract.ts` besides.
 */
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wrappingKeyAad } from '../../src/envelope/aad.ts';
import { encodeRemoteWrapped, parseRemoteWrapped } from '../../src/envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../../src/errors.ts';
import type { RootKeyProvider } from '../../src/providers/provider.ts';
import { rejected } from '../support/thrown.ts';

export interface Subject {
  /** The URI of the root key. */
  readonly uri: string;
  /** Opens what a URI names, anew; `uri` when absent. */
  open(uri?: string): Promise<RootKeyProvider>;
  /** Opens another root key of the same provider. */
  openOther(): Promise<RootKeyProvider>;
  /** Takes the root key or its service away. */
  takeAway(): Promise<void> | void;
  /** Undoes `takeAway`. */
  bringBack(): Promise<void> | void;
  /** What nothing may ever show: keys, tokens, PINs. */
  readonly secrets: readonly string[];
  close(): Promise<void> | void;
}

export const id = '44444444-4444-4444-8444-444444444444';
export const context = wrappingKeyAad({ version: 1, wrappingKeyId: id });
export const elsewhere = wrappingKeyAad({ version: 2, wrappingKeyId: id });
export const someKey = (): Buffer => Buffer.alloc(32, 5);

/** Every way in which something is printed. */
export function printed(value: unknown): string {
  return [
    inspect(value, { showHidden: true, depth: null, getters: true }),
    JSON.stringify(value),
    `${value}`,
    value instanceof Error ? (value.stack ?? '') : '',
  ].join('\n');
}

export function expectNoSecrets(secrets: readonly string[], value: unknown): void {
  const text = printed(value);
  for (const secret of secrets) expect(text.includes(secret), 'a secret is printed').toBe(false);
}

export function providerContract(name: string, setup: () => Promise<Subject>): void {
  describe(`${name} keeps the contract of providers`, () => {
    let subject: Subject;
    let provider: RootKeyProvider;
    let wrapped: Uint8Array;

    beforeAll(async () => {
      subject = await setup();
      expect(subject.secrets.length).toBeGreaterThan(0);
      for (const secret of subject.secrets) expect(secret.length).toBeGreaterThan(3);
      provider = await subject.open();
      ({ wrapped } = await provider.wrap(someKey(), context));
    });

    afterAll(async () => {
      await subject?.close();
    });

    /** The one error, to the last property. */
    const refuses = async (bytes: Uint8Array, where = context, by = provider): Promise<void> => {
      const error = await rejected(by.unwrap(bytes, where));
      expect(error).toStrictEqual(decryptionFailed());
      expect((error as Error).cause).toBeUndefined();
    };

    test('what it wrapped, it unwraps, and another process does, too', async () => {
      expect(Buffer.compare(await provider.unwrap(wrapped, context), someKey())).toBe(0);
      const again = await subject.open();
      expect(Buffer.compare(await again.unwrap(wrapped, context), someKey())).toBe(0);
    });

    test('what it wrapped fits where it is stored, and does not hold the key', () => {
      expect(wrapped.length).toBeGreaterThanOrEqual(32);
      expect(wrapped.length).toBeLessThanOrEqual(8192);
      expect(Buffer.from(wrapped).includes(someKey().subarray(0, 8))).toBe(false);
    });

    test('the same key is never wrapped to the same bytes', async () => {
      const again = await provider.wrap(someKey(), context);
      expect(Buffer.compare(again.wrapped, wrapped)).not.toBe(0);
      expect(Buffer.compare(await provider.unwrap(again.wrapped, context), someKey())).toBe(0);
    });

    test('the key it is given stays as it was', async () => {
      const key = someKey();
      await provider.wrap(key, context);
      expect(key).toEqual(someKey());
    });

    test('nothing but 32 bytes is wrapped', async () => {
      for (const length of [0, 16, 31, 33]) {
        expect(await rejected(provider.wrap(new Uint8Array(length), context))).toBeInstanceOf(TypeError);
      }
    });

    test('another context does not open it', async () => {
      await refuses(wrapped, elsewhere);
      await refuses(wrapped, new Uint8Array(0));
      await refuses(wrapped, context.subarray(0, -1));
    });

    test('no bit of it can be changed', async () => {
      for (let at = 0; at < wrapped.length; at++) {
        const tampered = Uint8Array.from(wrapped);
        tampered[at] = (tampered[at] ?? 0) ^ (1 << (at % 8));
        await refuses(tampered);
      }
    });

    test('no byte can be missing, and none be added', async () => {
      for (let length = 0; length < wrapped.length; length++) await refuses(wrapped.subarray(0, length));
      await refuses(Buffer.concat([wrapped, Buffer.of(0)]));
      await refuses(Buffer.concat([wrapped, wrapped]));
      await refuses(Buffer.concat([Buffer.of(0), wrapped]));
      await refuses(Buffer.alloc(8192, 1));
    });

    test('what another root key wrapped does not open, nor the other way round', async () => {
      const other = await subject.openOther();
      await refuses((await other.wrap(someKey(), context)).wrapped);
      await refuses(wrapped, context, other);
      expect((await other.status()).fingerprint).not.toBe((await provider.status()).fingerprint);
    });

    test('the fingerprint is the same from wrap, from status and after opening again', async () => {
      const status = await provider.status();
      expect(status).toEqual({ healthy: true, fingerprint: expect.stringMatching(/^[0-9a-f]{32}$/) });
      expect((await provider.wrap(someKey(), context)).fingerprint).toBe(status.fingerprint);
      expect(await (await subject.open()).status()).toEqual(status);
    });

    test('its URI opens it again, and is fit to be stored', async () => {
      const again = await subject.open(provider.uri);
      expect(again.uri).toBe(provider.uri);
      expect(Buffer.compare(await again.unwrap(wrapped, context), someKey())).toBe(0);
      expect(provider.uri.length).toBeLessThanOrEqual(2048);
    });

    test('it can be used by many at once', async () => {
      const keys = Array.from({ length: 24 }, (_, n) => Buffer.alloc(32, n));
      const opened = await Promise.all(
        keys.map(async (key) => provider.unwrap((await provider.wrap(key, context)).wrapped, context)),
      );
      expect(opened.map((key) => Buffer.from(key))).toEqual(keys);
    });

    test('it prints no key and no credential, and its URI and its errors hold none', async () => {
      expectNoSecrets(subject.secrets, provider);
      expectNoSecrets(subject.secrets, provider.uri);
      expectNoSecrets(subject.secrets, await provider.status());
      expectNoSecrets(subject.secrets, await rejected(provider.unwrap(wrapped, elsewhere)));
    });

    test('one that is gone says so, with the remedy, and is well again when it is back', async () => {
      const { fingerprint } = await provider.status();
      await subject.takeAway();
      try {
        const status = await provider.status();
        expect(status).toMatchObject({ healthy: false, fingerprint });
        for (const error of [
          status.trouble,
          await rejected(provider.wrap(someKey(), context)),
          await rejected(provider.unwrap(wrapped, context)),
          await rejected(subject.open()),
        ]) {
          expect(error).toBeInstanceOf(KeyringError);
          expect(error).toHaveProperty('code', expect.stringMatching(/^root_key_/));
          expect(error).toHaveProperty('remedy', expect.stringMatching(/./));
          expectNoSecrets(subject.secrets, error);
        }
      } finally {
        await subject.bringBack();
      }
      expect(await provider.status()).toEqual({ healthy: true, fingerprint });
      expect(Buffer.compare(await provider.unwrap(wrapped, context), someKey())).toBe(0);
    });

    test('where the bytes describe themselves, the service decides about them, not their check', async () => {
      // Those that begin with a format version are envelopes: their tag covers all.
      if (wrapped[0] === 1) return;
      const parts = parseRemoteWrapped(wrapped);
      const { ciphertext } = parts;
      const step = Math.max(1, Math.floor(ciphertext.length / 16));
      for (let at = 0; at < ciphertext.length; at += step) {
        const changed = Uint8Array.from(ciphertext);
        changed[at] = (changed[at] ?? 0) ^ 0x10;
        await refuses(encodeRemoteWrapped({ ...parts, ciphertext: changed }));
      }
      await refuses(encodeRemoteWrapped({ ...parts, ciphertext: ciphertext.subarray(0, -1) }));
      await refuses(encodeRemoteWrapped({ ...parts, ciphertext: ciphertext.subarray(0, 1) }));
      await refuses(encodeRemoteWrapped({ ...parts, ciphertext: Buffer.concat([ciphertext, Buffer.of(0)]) }));
      for (const resource of ['', '0', '999', `${parts.resource}0`, 'x'.repeat(1024), '../../sys/seal', 'ä?key=b#c']) {
        if (resource !== parts.resource) await refuses(encodeRemoteWrapped({ ...parts, resource }));
      }
      // What another root key wrapped, presented as this one's.
      const other = await subject.openOther();
      const foreign = parseRemoteWrapped((await other.wrap(someKey(), context)).wrapped);
      await refuses(encodeRemoteWrapped({ ...foreign, fingerprint: parts.fingerprint }));
    });
  });
}
