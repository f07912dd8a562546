import { errorCodes, KeyringError } from '@meshhook/keyring';
import { describe, expect, it } from 'vitest';
import { httpCodes, statusOfCode } from '../src/index.ts';
import { problem, problemOf } from '../src/problems.ts';
import { answer } from './support/api.ts';

const nobody = (): void => {
  throw new Error('nothing was to be logged');
};

describe('problems', () => {
  it('every code of the library, and every one of HTTP, has one status, and no other code has', () => {
    expect(Object.keys(statusOfCode).sort()).toEqual([...errorCodes, ...httpCodes].sort());
    for (const status of Object.values(statusOfCode)) {
      expect([202, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503]).toContain(status);
    }
  });

  it('a problem has the members of RFC 9457 and ours', async () => {
    const { status, headers, json } = await answer(
      problem('unknown_project', 'There is no project "x".', { remedy: 'Look.' }),
    );
    expect(status).toBe(404);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(json).toEqual({
      type: 'urn:meshhook:keyring:problem:unknown_project',
      title: 'Unknown project',
      status: 404,
      detail: 'There is no project "x".',
      code: 'unknown_project',
      remedy: 'Look.',
    });
  });

  it('a mistake of the caller is told in full, bigints included', async () => {
    const error = new KeyringError('conflict', 'It moved.', { remedy: 'Try again.', details: { entry: 2n ** 63n } });
    const { status, json } = await answer(problemOf(error, nobody));
    expect(status).toBe(409);
    expect(json).toMatchObject({
      detail: 'It moved.',
      remedy: 'Try again.',
      details: { entry: '9223372036854775808' },
    });
  });

  it('of a failure of ours only the code and an id go out, and the log has the rest', async () => {
    const secret = 'postgres://ada:hunter2@db.internal/x';
    const failures = [
      new KeyringError('database_unreachable', secret, {
        remedy: secret,
        details: { secret },
        cause: new Error(secret),
      }),
      new KeyringError('root_key_unreadable', secret),
      new KeyringError('decryption_failed', secret),
      new Error(secret),
      secret,
      undefined,
    ];
    for (const failure of failures) {
      const logged: unknown[] = [];
      const { status, text, json, headers } = await answer(problemOf(failure, (error, id) => logged.push(error, id)));
      expect(text).not.toContain('hunter2');
      expect(logged).toEqual([failure, json.id]);
      const code = failure instanceof KeyringError ? failure.code : 'internal';
      expect(json.code).toBe(code);
      expect(status).toBe(statusOfCode[code]);
      expect(headers.get('retry-after')).toBe(status === 503 ? '5' : null);
    }
  });
});
