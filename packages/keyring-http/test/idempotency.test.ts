import { KeyringError, openKeyring, pgDatabase, type Database, type Keyring, type Queryable } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { keyringHandler, tokenDigest } from '../src/index.ts';
import { answer, openApi, tokens, type Answer, type Api } from './support/api.ts';

const rotatePath = '/api/keys/rotate';
let api: Api;
beforeAll(async () => {
  api = await openApi();
  for (const name of ['acme', 'globex']) {
    const { id } = await api.keyring.projects.create({ name });
    await api.keyring.secrets.put(id, 'A', 'a value');
  }
});
afterAll(() => api[Symbol.asyncDispose]());

function rotate(body: unknown, key: string, headers: Record<string, string> = {}): Promise<Answer> {
  const admin = { authorization: `Bearer ${tokens.admin}` };
  return api.send('POST', rotatePath, body, { ...admin, 'idempotency-key': key, ...headers });
}

const made = async (reason: string): Promise<number> =>
  (await api.keyring.rotations.list({ limit: 500 })).filter((rotation) => rotation.reason === reason).length;

describe('a request with an idempotency key', () => {
  it('sent again makes no second rotation, whatever became of the first', async () => {
    const body = { projects: ['acme'], reason: 'once' };
    const first = await rotate(body, 'k1');
    expect(first.status).toBe(202);
    const again = await rotate({ reason: 'once', projects: ['acme'] }, 'k1');
    expect(again).toMatchObject({ status: 202, json: { id: first.json.id } });
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    await api.keyring.rotations.run(first.json.id);
    expect(await rotate(body, 'k1')).toMatchObject({ status: 202, json: { id: first.json.id, state: 'completed' } });
    expect(await made('once')).toBe(1);
  });

  it('and another body is refused, naming the rotation that it made', async () => {
    const [first] = await api.keyring.rotations.list({ limit: 1 });
    const other = await rotate({ projects: ['globex'], reason: 'once' }, 'k1');
    expect(other).toMatchObject({
      status: 409,
      json: { code: 'idempotency_conflict', details: { rotationId: first?.id } },
    });
  });

  it('of somebody else is their own', async () => {
    const other = await rotate({ projects: ['globex'], reason: 'mine' }, 'k1', {
      authorization: `Bearer ${tokens.rotator}`,
    });
    expect(other.status).toBe(202);
    await api.keyring.rotations.cancel(other.json.id);
  });

  it('sent eight times at once makes one', async () => {
    const body = { all: true, reason: 'at once' };
    const answers = await Promise.all(Array.from({ length: 8 }, () => rotate(body, 'k2')));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 202));
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
    await api.keyring.rotations.cancel(answers[0]?.json.id ?? '');
    expect(await made('at once')).toBe(1);
  });

  it('is kept as a digest, for 24 hours', async () => {
    const body = { projects: ['acme'], reason: 'old' };
    const first = await rotate(body, 'the key itself');
    await api.keyring.rotations.cancel(first.json.id);
    const stored = await query<{ row: string }>(api.adminUrl, 'select t::text as row from keyring.idempotency_keys t');
    expect(stored.length).toBeGreaterThan(2);
    expect(JSON.stringify(stored)).not.toContain('the key itself');
    await query(api.adminUrl, `update keyring.idempotency_keys set created_at = now() - interval '24 hours 1 second'`);
    const second = await rotate(body, 'the key itself');
    expect(second.json.id).not.toBe(first.json.id);
    await api.keyring.rotations.cancel(second.json.id);
    // The others were as old: they are forgotten.
    expect(await query(api.adminUrl, 'select from keyring.idempotency_keys')).toHaveLength(1);
  });

  it.each(['', 'x'.repeat(256), 'ü'])('is refused when it is %j', async (key) => {
    const refused = await api.fetch(
      new Request(`http://x${rotatePath}`, {
        method: 'POST',
        body: '{"all":true}',
        headers: {
          authorization: `Bearer ${tokens.all}`,
          'content-type': 'application/json',
          'idempotency-key': key,
        },
      }),
    );
    expect(refused.status).toBe(400);
  });
});

/** A database that goes away at its n-th statement: before it hears it, or before it answers. */
class Failing {
  left = Infinity;
  heard = false;
  readonly #of: Database;
  constructor(of: Database) {
    this.#of = of;
  }

  #guard = (queryable: Queryable): Queryable['query'] => {
    return async (statement) => {
      this.left -= 1;
      const isTheOne = this.left === 0;
      if (isTheOne && !this.heard) throw away();
      const result = await queryable.query(statement);
      if (isTheOne) throw away();
      return result as never;
    };
  };

  readonly database: Database = {
    query: (statement) => this.#guard(this.#of)(statement),
    connect: async () => {
      const connection = await this.#of.connect();
      return {
        query: this.#guard(connection),
        release: (broken) => {
          connection.release(broken);
        },
      };
    },
    close: () => this.#of.close(),
  };
}

const away = () => new KeyringError('database_unreachable', 'The test took the database away.');

describe('a server that dies at any statement of a request', () => {
  let failing: Failing;
  let keyring: Keyring;
  let send: (body: unknown, key: string) => Promise<Answer>;
  beforeAll(async () => {
    failing = new Failing(pgDatabase({ connectionString: api.serviceUrl }));
    // No heartbeat in between: statements are counted.
    keyring = await openKeyring({ database: failing.database, rootKey: api.rootKey, heartbeatMs: 3_600_000 });
    const handler = keyringHandler({
      keyring,
      tokens: [{ name: 'admin', digest: tokenDigest(tokens.admin), role: 'instance_admin' }],
      onError: () => undefined,
    });
    send = async (body, key) =>
      answer(
        await handler(
          new Request(`http://x${rotatePath}`, {
            method: 'POST',
            body: JSON.stringify(body),
            headers: {
              authorization: `Bearer ${tokens.admin}`,
              'content-type': 'application/json',
              'idempotency-key': key,
            },
          }),
        ),
      );
  });
  afterAll(() => keyring.close());

  it.each([
    ['unsent', 'rotation', {}],
    ['unanswered', 'rotation', {}],
    ['unsent', 'emergency', { emergency: true }],
    ['unanswered', 'emergency', { emergency: true }],
  ])('leaves the statement %s, and the same request makes one %s', async (how, what, more) => {
    let statements = 0;
    for (let at = 1; ; at++) {
      const reason = `${what} ${how} ${String(at)}`;
      const body = { projects: ['globex'], reason, ...more };
      failing.heard = how === 'unanswered';
      failing.left = at;
      const lost = await send(body, reason);
      const fired = failing.left <= 0;
      failing.left = Infinity;
      const again = await send(body, reason);
      expect(again.status, again.text).toBe(202);
      expect(await made(reason), `at statement ${String(at)}: ${String(lost.status)}`).toBe(1);
      if (what === 'rotation') await api.keyring.rotations.cancel(again.json.id);
      if (!fired) break;
      statements = at;
    }
    expect(statements).toBeGreaterThan(5);
  });
});
