import { describe, expect, test, vi } from 'vitest';
import { KeyringError, decryptionFailed } from '../../src/errors.ts';
import { loadClient, parseServiceUri } from '../../src/providers/client.ts';
import { failureError, type Failure, type FailureKind, type Service } from '../../src/providers/failure.ts';
import { patientCaller, type RemoteOptions } from '../../src/providers/remote.ts';
import { rejected, thrown } from '../support/thrown.ts';

const kinds: readonly Exclude<FailureKind, 'undecryptable'>[] = [
  ...(['network', 'timeout', 'server', 'throttled', 'credentials', 'forbidden'] as const),
  ...(['disabled', 'missing', 'unsuitable', 'misunderstood'] as const),
];
const service: Service = {
  name: 'Some KMS',
  uri: 'somekms://key',
  remedies: Object.fromEntries(kinds.map((kind) => [kind, `Mend the ${kind}.`])) as Service['remedies'],
};

class Refused extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super('hunter2');
    this.failure = failure;
  }
}
const classify = (error: unknown): Failure => (error instanceof Refused ? error.failure : { kind: 'misunderstood' });

/** Calls a service that answers as it is told, in order; then with `done`. */
function calling(answers: readonly Failure[], options: RemoteOptions = {}) {
  let attempts = 0;
  const call = patientCaller(service, classify, { backoffMs: 0, ...options });
  const outcome = call(async () => {
    const answer = answers[attempts++];
    if (answer !== undefined) throw new Refused(answer);
    return 'done';
  });
  return { outcome, attempts: () => attempts };
}

describe('patience', () => {
  test.each(['network', 'timeout', 'server', 'throttled'] as const)('%s is tried again, four times', async (kind) => {
    const twice = calling([{ kind }, { kind }]);
    expect(await twice.outcome).toBe('done');
    const ever = calling(Array.from({ length: 9 }, () => ({ kind })));
    expect(await rejected(ever.outcome)).toMatchObject({ code: 'root_key_unreachable', details: { attempts: 4 } });
    expect(ever.attempts()).toBe(4);
  });

  test.each(['credentials', 'forbidden', 'disabled', 'missing', 'unsuitable', 'misunderstood'] as const)(
    '%s is not tried again',
    async (kind) => {
      const refused = calling([{ kind }]);
      expect(await rejected(refused.outcome)).toMatchObject({ details: { failure: kind, attempts: 1 } });
      expect(refused.attempts()).toBe(1);
    },
  );

  test('an attempt that heeds no signal is left behind when its time is over', async () => {
    const signals: AbortSignal[] = [];
    const call = patientCaller(service, classify, { attempts: 2, attemptTimeoutMs: 20, backoffMs: 0 });
    const never = call((signal) => {
      signals.push(signal);
      return new Promise(() => undefined);
    });
    expect(await rejected(never)).toMatchObject({ code: 'root_key_unreachable', details: { failure: 'timeout' } });
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
  });

  test('the deadline ends it before the attempts do', async () => {
    const call = patientCaller(service, classify, { attempts: 20, attemptTimeoutMs: 1_000, deadlineMs: 60 });
    const never = call(() => new Promise(() => undefined));
    expect(await rejected(never)).toMatchObject({ details: { failure: 'timeout', attempts: 1 } });
  });

  test('a service that asks for more time than there is is not asked again', async () => {
    const busy = calling([{ kind: 'throttled', retryAfterMs: 60_000 }]);
    expect(await rejected(busy.outcome)).toMatchObject({ details: { failure: 'throttled', attempts: 1 } });
  });

  test('a pause is any part of its length, down to none: processes that failed together do not come back together', async () => {
    const random = vi.spyOn(Math, 'random');
    try {
      // A minute is more time than there is: only luck gets another attempt.
      const options = { backoffMs: 60_000, maxBackoffMs: 60_000 };
      random.mockReturnValue(0);
      const lucky = calling([{ kind: 'network' }, { kind: 'network' }], options);
      expect(await lucky.outcome).toBe('done');
      random.mockReturnValue(0.99);
      const unlucky = calling([{ kind: 'network' }], options);
      expect(await rejected(unlucky.outcome)).toMatchObject({ details: { attempts: 1 } });
    } finally {
      random.mockRestore();
    }
  });

  test('a signal ends it between attempts, and before the first', async () => {
    const stop = new AbortController();
    const call = patientCaller(service, classify, {
      backoffMs: 60_000,
      maxBackoffMs: 60_000,
      deadlineMs: 600_000,
      signal: stop.signal,
    });
    let attempts = 0;
    const stopped = rejected(
      call(async () => {
        attempts++;
        setImmediate(() => stop.abort());
        throw new Refused({ kind: 'server' });
      }),
    );
    expect(await stopped).toHaveProperty('code', 'interrupted');
    expect(await rejected(call(async () => attempts++))).toHaveProperty('code', 'interrupted');
    expect(attempts).toBe(1);
  });

  test('an error of ours is passed on as it is', async () => {
    const ours = new KeyringError('wrong_root_key', 'Not this one.');
    const call = patientCaller(service, classify);
    expect(await rejected(call(() => Promise.reject(ours)))).toBe(ours);
  });

  test.each([
    ['attempts', 0],
    ['attempts', 1.5],
    ['attemptTimeoutMs', 0],
    ['deadlineMs', Number.NaN],
    ['patience', 3],
  ])('the option %s: %j is misuse', (name, value) => {
    expect(thrown(() => patientCaller(service, classify, { [name]: value }))).toBeInstanceOf(TypeError);
  });
});

describe('errors', () => {
  test('each failure has its code and the remedy of its service; those of one code can be told apart', () => {
    const errors = kinds.map((kind) => failureError(service, { kind }, 1));
    expect(errors.map(({ code }) => code)).toEqual([
      ...Array.from({ length: 4 }, () => 'root_key_unreachable'),
      ...['root_key_denied', 'root_key_denied', 'root_key_disabled', 'root_key_missing', 'wrong_root_key'],
      'root_key_unreachable',
    ]);
    expect(errors.map(({ remedy }) => remedy)).toEqual(kinds.map((kind) => `Mend the ${kind}.`));
    expect(new Set(errors.map(({ message }) => message)).size).toBe(kinds.length);
  });

  test('what does not decrypt is the one error', () => {
    const failure: Failure = { kind: 'undecryptable', said: 'wrong context', name: 'X', status: 400 };
    expect(failureError(service, failure, 1)).toStrictEqual(decryptionFailed());
  });

  test('what a client library threw is not in it; what the service said is, on one line', async () => {
    const said = `denied\n\u001b[31mnot ${'very '.repeat(200)}`;
    const error = (await rejected(
      calling([{ kind: 'forbidden', said, name: 'No', status: 403 }]).outcome,
    )) as KeyringError;
    expect(error.message).toMatch(/ It says: denied \[31mnot very (very ?)+$/);
    expect(error.message.length).toBeLessThan(450);
    expect(error.details).toEqual({ service: 'Some KMS', failure: 'forbidden', attempts: 1, status: 403, name: 'No' });
    expect(error.cause).toBeUndefined();
    expect(error.stack).not.toContain('hunter2');
  });
});

describe('client libraries', () => {
  test('one that is not installed is named, with the command that installs it', async () => {
    const absent = 'a-client-library-that-nobody-wrote';
    const error = (await rejected(loadClient(absent, () => import(absent)))) as KeyringError;
    expect(error).toMatchObject({ code: 'unsupported_root_key', details: { package: absent } });
    expect(error.message).toContain('not installed');
    expect(error.remedy).toContain(`npm install ${absent}`);
  });
});

describe('addresses', () => {
  test.each([
    'somekms://user:hunter2@host/key',
    'somekms://hunter2@host/key',
    'somekms://:hunter2@host',
    'somekms://@host/hunter2',
    'somekms://host/key#hunter2',
    'somekms://host/a key hunter2',
    'somekms:host/hunter2',
    'SOMEKMS://host/hunter2',
    'somekms://[hunter2',
  ])('%s is refused, and not shown', (uri) => {
    const error = thrown(() => parseServiceUri(uri, 'somekms', 'Write somekms://host/key.')) as KeyringError;
    expect(error.code).toBe('invalid_argument');
    expect(error.remedy).toContain('somekms://host/key');
    expect(`${error.stack} ${error.remedy}`).not.toContain('hunter2');
  });

  test('an @ in the path is no user name', () => {
    expect(parseServiceUri('somekms://host/key@2', 'somekms', '').pathname).toBe('/key@2');
  });
});
