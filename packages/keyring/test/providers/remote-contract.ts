/**
 * What every provider promises whose root key stays with a service, run against the service (or one that speaks its protocol)
 * while it misbehaves: `remoteContract('awskms', setup)`.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ErrorCode, KeyringError } from '../../src/errors.ts';
import type { FailureKind } from '../../src/providers/failure.ts';
import type { RootKeyProvider } from '../../src/providers/provider.ts';
import type { RemoteOptions } from '../../src/providers/remote.ts';
import { rejected } from '../support/thrown.ts';
import { context, expectNoSecrets, someKey, type Subject } from './contract.ts';

/** What a service does instead of what it was asked for. */
export type Misbehaviour =
  /** Turns the request away as one too many. */
  | 'throttled'
  /** A failure of its own: HTTP 500 or 503, or what it has for that. */
  | 'failing'
  /** Takes the request and never answers. */
  | 'silent'
  /** Ends the connection in the middle of the answer. */
  | 'broken'
  /** Says that the credentials have expired or are unknown. */
  | 'expired'
  /** Says that the credentials may not do this. */
  | 'forbidden'
  /** Says that the key is disabled, or about to be destroyed. Absent from services that know no such thing. */
  | 'disabled'
  /** Says that there is no such key. */
  | 'missing';

export interface RemoteSubject extends Subject {
  /** With these options, and `patience` where a test does not say otherwise. */
  open(uri?: string, options?: RemoteOptions): Promise<RootKeyProvider>;
  /** From now on, for `times` requests, the service does this; with 0 it behaves again. */
  misbehave(how: Misbehaviour, times: number): void;
  /** Requests that were met by misbehaviour since the last `misbehave`. */
  misbehaved(): number;
  /** Puts another key under the same name: what was wrapped by the former does not open. */
  replaceKey(): Promise<void> | void;
  /** Undoes `replaceKey`. */
  restoreKey(): Promise<void> | void;
  /** Misbehaviours that this service does not know. */
  readonly unknown: readonly Misbehaviour[];
}

/**
 * Short pauses, so that tests are short, and every number of attempts the real one. Attempts are longer than real ones: on a busy
 * machine many at once take as long as a silent service. Who tests one that is given up says when.
 */
export const patience: RemoteOptions = {
  attemptTimeoutMs: 60_000,
  deadlineMs: 240_000,
  backoffMs: 2,
  maxBackoffMs: 10,
};

const EVER = 1_000;

export function remoteContract(name: string, setup: () => Promise<RemoteSubject>): void {
  describe(`${name} bears a service that misbehaves`, () => {
    let subject: RemoteSubject;
    let provider: RootKeyProvider;
    let wrapped: Uint8Array;

    beforeAll(async () => {
      subject = await setup();
      provider = await subject.open();
      ({ wrapped } = await provider.wrap(someKey(), context));
    });

    afterEach(() => {
      subject.misbehave('failing', 0);
    });

    afterAll(async () => {
      await subject?.close();
    });

    const calls: readonly [string, () => Promise<unknown>][] = [
      ['wrap', () => provider.wrap(someKey(), context)],
      ['unwrap', () => provider.unwrap(wrapped, context)],
      ['opening', () => subject.open()],
    ];

    async function fails(call: () => Promise<unknown>, code: ErrorCode, failure: FailureKind, attempts?: number) {
      const error = (await rejected(call())) as KeyringError;
      expect(error).toMatchObject({ name: 'KeyringError', code, details: { failure } });
      expect(error.remedy).toMatch(/./);
      expect(error.message).toContain(provider.uri);
      expect(error.cause).toBeUndefined();
      if (attempts !== undefined) expect(error.details['attempts']).toBe(attempts);
      expectNoSecrets(subject.secrets, error);
      return error;
    }

    for (const how of ['throttled', 'failing', 'broken'] as const) {
      test.each(calls)(
        `${how} twice, then fine: %s does what it was asked to, at the third attempt`,
        async (_, call) => {
          subject.misbehave(how, 2);
          await call();
          expect(subject.misbehaved()).toBe(2);
        },
      );
    }

    test.each(calls)('silent once, then fine: %s leaves the first attempt behind', async (_, call) => {
      const quick = { ...patience, attemptTimeoutMs: 1_000 };
      const inAHurry = await subject.open(undefined, quick);
      subject.misbehave('silent', 1);
      if (call === calls[2]?.[1]) await subject.open(undefined, quick);
      else await inAHurry.wrap(someKey(), context);
      expect(subject.misbehaved()).toBe(1);
    });

    test.each(calls)('failing for ever: %s gives up after the fourth attempt, unreachable', async (_, call) => {
      subject.misbehave('failing', EVER);
      await fails(call, 'root_key_unreachable', 'server', 4);
      expect(subject.misbehaved()).toBe(4);
    });

    test('throttled for ever: gives up after the fourth attempt, unreachable', async () => {
      subject.misbehave('throttled', EVER);
      await fails(() => provider.wrap(someKey(), context), 'root_key_unreachable', 'throttled', 4);
      expect(subject.misbehaved()).toBe(4);
    });

    test('silent for ever: gives up, unreachable', async () => {
      const quick = { ...patience, attemptTimeoutMs: 60, attempts: 3 };
      const inAHurry = await subject.open();
      const hurried = async () => (await subject.open(undefined, quick)).wrap(someKey(), context);
      subject.misbehave('silent', EVER);
      await fails(hurried, 'root_key_unreachable', 'timeout', 3);
      subject.misbehave('silent', 0);
      expect((await inAHurry.status()).healthy).toBe(true);
    });

    test('away: every call is unreachable after the fourth attempt, and works when it is back', async () => {
      await subject.takeAway();
      try {
        for (const [, call] of calls) await fails(call, 'root_key_unreachable', 'network', 4);
      } finally {
        await subject.bringBack();
      }
      await provider.unwrap(wrapped, context);
    });

    const refusals: readonly [Misbehaviour, ErrorCode, FailureKind][] = [
      ['expired', 'root_key_denied', 'credentials'],
      ['forbidden', 'root_key_denied', 'forbidden'],
      ['disabled', 'root_key_disabled', 'disabled'],
      ['missing', 'root_key_missing', 'missing'],
    ];
    for (const [how, code, failure] of refusals) {
      test(`${how}: a refusal is told at once, and has a remedy of its own`, async () => {
        if (subject.unknown.includes(how)) return;
        const remedies = new Set<string | undefined>();
        for (const [, call] of calls.slice(0, 2)) {
          subject.misbehave(how, EVER);
          const { remedy } = await fails(call, code, failure, 1);
          expect(subject.misbehaved()).toBe(1);
          remedies.add(remedy);
        }
        expect([...remedies]).toHaveLength(1);
        expect(await provider.status()).toMatchObject({ healthy: false, trouble: { code } });
      });
    }

    test('another key under the same name does not open what the former wrapped', async () => {
      await subject.replaceKey();
      try {
        const error = await rejected((await subject.open()).unwrap(wrapped, context));
        // Where the service names its keys by more than the name that was typed, it is known as another one.
        expect(['decryption_failed', 'wrong_root_key']).toContain((error as KeyringError).code);
      } finally {
        await subject.restoreKey();
      }
      await provider.unwrap(wrapped, context);
    });

    test('one signal ends what is going on', async () => {
      const stop = new AbortController();
      const stoppable = await subject.open(undefined, { ...patience, signal: stop.signal });
      subject.misbehave('silent', EVER);
      const wrapping = rejected(stoppable.wrap(someKey(), context));
      stop.abort();
      expect(await wrapping).toHaveProperty('code', 'interrupted');
      expect(await rejected(stoppable.wrap(someKey(), context))).toHaveProperty('code', 'interrupted');
    });
  });
}
