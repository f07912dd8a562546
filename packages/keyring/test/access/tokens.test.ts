import { randomUUID } from 'node:crypto';
import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isToken, newToken, tokenDigest } from '../../src/access/random-token.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { codeOf } from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = (await installation.open()).as({ name: 'ada', kind: 'user', person: 'person:ada' });
});
afterAll(() => installation.end());

describe('a token', () => {
  test('is 256 random bits and a checksum, and a typo is told from one without asking anybody', () => {
    const token = newToken('token');
    expect(token).toMatch(/^mhk_[0-9A-Za-z]{49}$/);
    expect(isToken('token', token)).toBe(true);
    for (const wrong of [
      token.slice(0, -1),
      `${token}0`,
      token.replace('mhk_', 'mhs_'),
      token.slice(0, 10) + (token[10] === 'a' ? 'b' : 'a') + token.slice(11),
      ` ${token}`,
      '',
    ]) {
      expect(isToken('token', wrong)).toBe(false);
    }
    expect(isToken('session', token)).toBe(false);
    expect(new Set(Array.from({ length: 1_000 }, () => newToken('link'))).size).toBe(1_000);
  });

  test('is shown once, and found by nothing but itself', async () => {
    const { token, entry } = await keyring.access.tokens.create({
      name: 'deploy',
      permissions: ['keys:read', 'keys:rotate'],
    });
    expect(entry).toMatchObject({
      name: 'deploy',
      projects: 'all',
      person: 'person:ada',
      createdBy: 'ada',
      state: 'active',
    });
    expect(entry.expiresAt.getTime() - entry.createdAt.getTime()).toBeCloseTo(90 * 86_400_000, -5);
    expect((await keyring.access.tokens.find(token))?.id).toBe(entry.id);
    expect(await keyring.access.tokens.find(newToken('token'))).toBeUndefined();
    expect(await keyring.access.tokens.find(tokenDigest(token).toString('hex'))).toBeUndefined();

    const stored = await installation.sql(`select to_jsonb(t)::text as row from keyring.api_tokens t
      union all select to_jsonb(a)::text from keyring.audit_log a`);
    for (const { row } of stored) expect(row).not.toContain(token.slice(4, 40));
  });

  test('is not found once it is revoked or expired, from that moment on', async () => {
    const revoked = await keyring.access.tokens.create({ name: 'revoked', role: 'auditor' });
    expect((await keyring.access.tokens.revoke(revoked.entry.id)).state).toBe('revoked');
    expect(await keyring.access.tokens.find(revoked.token)).toBeUndefined();
    await keyring.access.tokens.revoke(revoked.entry.id);

    const expired = await keyring.access.tokens.create({ name: 'expired', role: 'auditor', expiresInDays: 1 });
    await installation.behindTheFence(`update keyring.api_tokens set expires_at = now() where id = $1`, [
      expired.entry.id,
    ]);
    expect(await keyring.access.tokens.find(expired.token)).toBeUndefined();
    expect((await keyring.access.tokens.get(expired.entry.id))?.state).toBe('expired');

    const trail = await installation.sql(`select action, count(*)::int as count from keyring.audit_log
      where subject = 'token:${revoked.entry.id}' group by 1 order by 1`);
    expect(trail).toEqual([
      { action: 'token.created', count: 1 },
      { action: 'token.revoked', count: 1 },
    ]);
  });

  test('that is used a hundred times is written to once a minute', async () => {
    const { token, entry } = await keyring.access.tokens.create({ name: 'busy', role: 'service' });
    const version = async () =>
      (await installation.sql('select xmin::text, last_used_at from keyring.api_tokens where id = $1', [entry.id]))[0];
    await keyring.access.tokens.find(token);
    const after = await version();
    expect(after?.['last_used_at']).toBeInstanceOf(Date);
    await Promise.all(Array.from({ length: 100 }, () => keyring.access.tokens.find(token)));
    expect(await version()).toEqual(after);
    await installation.behindTheFence(
      `update keyring.api_tokens set last_used_at = now() - interval '2 minutes' where id = $1`,
      [entry.id],
    );
    await keyring.access.tokens.find(token);
    expect(await version()).not.toEqual(after);
  });

  test('may never do more than when it was made, and is never revived: PostgreSQL refuses it', async () => {
    const { entry } = await keyring.access.tokens.create({ name: 'fixed', role: 'auditor' });
    await expect(
      installation.sql(`update keyring.api_tokens set role = 'instance_admin' where id = $1`, [entry.id]),
    ).rejects.toMatchObject({ code: 'MK004' });
    await keyring.access.tokens.revoke(entry.id);
    await expect(
      installation.sql('update keyring.api_tokens set revoked_at = null, revoked_by = null where id = $1', [entry.id]),
    ).rejects.toMatchObject({ code: 'MK005' });
  });

  test.each([
    ['neither role nor permissions', {}],
    ['both', { role: 'auditor', permissions: ['keys:read'] }],
    ['no permission', { permissions: [] }],
    ['an unknown permission', { permissions: ['keys:everything'] }],
    ['the role of an owner', { role: 'project_owner' }],
    ['a role that does not exist', { role: 'root' }],
    ['an instance admin of one project', { role: 'instance_admin', projects: [randomUUID()] }],
    ['no project', { role: 'auditor', projects: [] }],
    ['a project that is no id', { role: 'auditor', projects: ['acme'] }],
    ['a life of no day', { role: 'auditor', expiresInDays: 0 }],
    ['a life of half a day', { role: 'auditor', expiresInDays: 0.5 }],
    ['eternal life', { role: 'auditor', expiresInDays: 3_651 }],
  ])('with %s is refused', async (_, what) => {
    expect(await codeOf(keyring.access.tokens.create({ name: 'x', ...what } as never))).toBe('invalid_argument');
  });

  test('is listed for those who may see all of its projects, page by page', async () => {
    const mine = randomUUID();
    const theirs = randomUUID();
    const made = [];
    for (const projects of [[mine], [theirs], [mine, theirs]]) {
      made.push((await keyring.access.tokens.create({ name: 'scoped', role: 'auditor', projects })).entry.id);
    }
    expect((await keyring.access.tokens.list({ among: [mine] })).map(({ id }) => id)).toEqual([made[0]]);
    expect((await keyring.access.tokens.list({ among: [mine, theirs] })).map(({ id }) => id)).toEqual(
      made.toReversed(),
    );
    expect(await keyring.access.tokens.list({ among: [mine], before: made[2]! })).toEqual([]);
    const [newest, ...older] = await keyring.access.tokens.list();
    expect((await keyring.access.tokens.list({ before: newest!.id })).map(({ id }) => id)).toEqual(
      older.map(({ id }) => id),
    );
    expect(await codeOf(keyring.access.tokens.revoke(randomUUID()))).toBe('unknown_token');
    expect(await codeOf(keyring.access.tokens.revoke('x'))).toBe('unknown_token');
  });
});

describe('a sign-in link', () => {
  test('becomes a session once, for whoever is first', async () => {
    const { secret } = await keyring.access.sessions.createLink();
    const opened = await Promise.all(Array.from({ length: 10 }, () => keyring.access.sessions.open(secret)));
    const sessions = opened.filter((one) => one !== undefined);
    expect(sessions).toHaveLength(1);
    expect(sessions[0]?.session.person).toBe('operator');
    expect(sessions[0]?.secret).not.toBe(secret);
    expect(await keyring.access.sessions.open(secret)).toBeUndefined();
    expect(await keyring.access.sessions.find(secret)).toBeUndefined();
    expect((await keyring.access.sessions.find(sessions[0]!.secret))?.id).toBe(sessions[0]?.session.id);
  });

  test('that is ten minutes old is none', async () => {
    const { secret } = await keyring.access.sessions.createLink();
    await installation.sql('update keyring.sign_in_links set expires_at = now()');
    expect(await keyring.access.sessions.open(secret)).toBeUndefined();
  });
});

describe('a session', () => {
  const open = async (): Promise<{ secret: string; id: string }> => {
    const { secret } = await keyring.access.sessions.createLink({ person: 'person:ada' });
    const opened = await keyring.access.sessions.open(secret);
    return { secret: opened!.secret, id: opened!.session.id };
  };

  test('ends when it is signed out, idle for an hour, or twelve hours old', async () => {
    const out = await open();
    await keyring.access.sessions.end(out.secret);
    expect(await keyring.access.sessions.find(out.secret)).toBeUndefined();
    await keyring.access.sessions.end(out.secret);

    for (const [column, value] of [
      ['seen_at', `now() - interval '60 minutes'`],
      ['expires_at', 'now()'],
    ]) {
      const over = await open();
      await installation.sql(`update keyring.sessions set ${column} = ${value} where id = $1`, [over.id]);
      expect(await keyring.access.sessions.find(over.secret)).toBeUndefined();
    }
  });

  test('that is used is kept from being idle, by a write a minute', async () => {
    const used = await open();
    const seen = async () =>
      (await installation.sql<{ seen_at: Date }>('select seen_at from keyring.sessions where id = $1', [used.id]))[0]
        ?.seen_at;
    await installation.sql(`update keyring.sessions set seen_at = now() - interval '59 minutes' where id = $1`, [
      used.id,
    ]);
    const idle = await seen();
    expect((await keyring.access.sessions.find(used.secret, { seen: false }))?.id).toBe(used.id);
    expect(await seen()).toEqual(idle);
    await keyring.access.sessions.find(used.secret);
    const now = await seen();
    expect(Date.now() - (now?.getTime() ?? 0)).toBeLessThan(60_000);
    await keyring.access.sessions.find(used.secret);
    expect(await seen()).toEqual(now);
  });

  test('of nobody who is named as persons are is made', async () => {
    for (const person of ['', 'ada', 'user:1', 'person:', 'person:Ada', 'person:a b', `user:${randomUUID()}x`]) {
      expect(await codeOf(keyring.access.sessions.createLink({ person }))).toBe('invalid_argument');
    }
  });
});
