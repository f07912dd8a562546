import { inspect } from 'node:util';
import type { Database, Keyring, KeyringError } from '@meshhook/keyring';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase } from '../engine/support/intercept.ts';
import {
  clearProjects,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  expectOneHistory,
} from '../engine/support/world.ts';

let installation: Installation;
let keyring: Keyring;
let projectId: string;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
});
afterEach(() => vi.restoreAllMocks());
afterAll(() => installation.end());

async function rotate(by = keyring): Promise<void> {
  const { id } = await by.rotations.request({ projects: [projectId] });
  expect((await by.rotations.run(id)).state).toBe('completed');
}

test('what is put is what is got, text and bytes alike', async () => {
  const created = await keyring.secrets.put(projectId, 'TEXT', 'grüße 🗝');
  expect(created.created).toBe(true);
  const bytes = Buffer.from([0, 255, 1, 254, 0]);
  await keyring.secrets.put(projectId, 'BYTES', bytes);
  const text = await keyring.secrets.get(projectId, 'TEXT');
  expect(text).toMatchObject({ id: created.id, name: 'TEXT', stale: false, keyId: created.keyId });
  expect(text?.value).toBe('grüße 🗝');
  expect((await keyring.secrets.get(projectId, 'BYTES'))?.bytes).toEqual(bytes);
  const changed = await keyring.secrets.put(projectId, 'TEXT', 'other');
  expect(changed).toEqual({ ...created, created: false });
  expect((await keyring.secrets.get(projectId, 'TEXT'))?.value).toBe('other');
});

test('a secret that is not there is undefined, and removing it is false', async () => {
  expect(await keyring.secrets.get(projectId, 'NONE')).toBeUndefined();
  expect(await keyring.secrets.remove(projectId, 'NONE')).toBe(false);
  await keyring.secrets.put(projectId, 'ONE', '1');
  expect(await keyring.secrets.remove(projectId, 'ONE')).toBe(true);
  expect(await keyring.secrets.get(projectId, 'ONE')).toBeUndefined();
  expect(await keyring.secrets.list(projectId)).toEqual([]);
});

test('a list is by name, has no values, and goes on after a name', async () => {
  for (const name of ['C', 'A', 'B']) await keyring.secrets.put(projectId, name, `value ${name}`);
  const all = await keyring.secrets.list(projectId);
  expect(all.map((entry) => entry.name)).toEqual(['A', 'B', 'C']);
  expect(JSON.stringify(all)).not.toContain('value');
  expect(all[0]).toMatchObject({ version: 1, stale: false });
  expect((await keyring.secrets.list(projectId, { after: 'A', limit: 1 })).map((entry) => entry.name)).toEqual(['B']);
});

test.each([
  ['console.log', (secret: unknown) => logged(secret)],
  ['inspect', (secret: unknown) => inspect(secret, { showHidden: true, depth: 10, getters: true })],
  [
    'inspect without its own say',
    (secret: unknown) => inspect(secret, { customInspect: false, showHidden: true, depth: 10 }),
  ],
  ['JSON.stringify', (secret: unknown) => JSON.stringify({ secret, list: [secret] })],
  ['a template', (secret: unknown) => `${String(secret)}`],
  ['an error’s cause', (secret: unknown) => inspect(new Error('x', { cause: secret }))],
  ['a spread', (secret: unknown) => inspect({ ...(secret as object) })],
  ['Object.entries', (secret: unknown) => inspect(Object.entries(secret as object))],
])('an opened secret does not show its value in %s', async (_where, print) => {
  const value = 'sk_live_do-not-print';
  await keyring.secrets.put(projectId, 'KEY', value);
  const secret = await keyring.secrets.get(projectId, 'KEY');
  const printed = print(secret);
  expect(printed).not.toContain(value);
  const bytes = [...Buffer.from(value).subarray(0, 6)];
  const hex = bytes.map((byte) => byte.toString(16));
  for (const form of [hex.join(''), hex.join(' '), bytes.join(','), bytes.join(', ')])
    expect(printed).not.toContain(form);
  expect(printed).not.toContain(Buffer.from(value).toString('base64').slice(0, 12));
  expect(printed).toContain('KEY');
});

/** What `console.log` writes. */
function logged(value: unknown): string {
  let written = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    written += String(chunk);
    return true;
  });
  vi.spyOn(console, 'log').mockImplementation((...args: unknown[]) => {
    written += args.map((arg) => (typeof arg === 'string' ? arg : inspect(arg))).join(' ');
  });
  console.log(value);
  vi.restoreAllMocks();
  return written;
}

test.each([
  ['an empty name', '', 'invalid_name'],
  ['201 characters', 'x'.repeat(201), 'invalid_name'],
  ['a control character', 'A\nB', 'invalid_name'],
  ['a NUL', 'A\0B', 'invalid_name'],
  ['a mark that turns text around', 'A\u202eB', 'invalid_name'],
  ['half a surrogate pair', 'A\ud800', 'invalid_name'],
])('a put refuses %s', async (_what, name, code) => {
  expect(await codeOf(keyring.secrets.put(projectId, name, 'value'))).toBe(code);
});

test('a get or remove of a name that cannot exist finds nothing, and fails at nothing', async () => {
  for (const name of ['', 'A\0B', 'x'.repeat(500), 'A\ud800']) {
    expect(await keyring.secrets.get(projectId, name), JSON.stringify(name)).toBeUndefined();
    expect(await keyring.secrets.remove(projectId, name), JSON.stringify(name)).toBe(false);
  }
});

test('names of 200 characters, of any script, are as good as others', async () => {
  for (const name of ['🗝'.repeat(200), 'a b', 'ключ', "o'brien", '%s', 'a"b\\c']) {
    await keyring.secrets.put(projectId, name, `value of ${name}`);
    expect((await keyring.secrets.get(projectId, name))?.value).toBe(`value of ${name}`);
  }
});

test.each([
  ['an empty value', ''],
  ['empty bytes', new Uint8Array(0)],
  ['65,537 bytes', 'x'.repeat(65_537)],
  ['65,537 bytes in fewer characters', 'é'.repeat(32_769)],
  ['text that is not Unicode', 'a\udfff'],
])('a put refuses %s, and does not repeat it', async (_what, value) => {
  const error = await keyring.secrets.put(projectId, 'A', value).catch((failure: unknown) => failure);
  expect(error).toMatchObject({ code: 'invalid_value' });
  expect((error as KeyringError).message).not.toMatch(/xxxx|éééé/);
});

test('a value of 65,536 bytes is stored, and rotated', async () => {
  const value = 'x'.repeat(65_536);
  await keyring.secrets.put(projectId, 'BIG', value);
  await rotate();
  expect((await keyring.secrets.get(projectId, 'BIG'))?.value).toBe(value);
});

test('an unknown project is named as such, and a malformed id as an argument', async () => {
  const unknown = '00000000-0000-4000-8000-000000000000';
  expect(await codeOf(keyring.secrets.put(unknown, 'A', 'a'))).toBe('unknown_project');
  expect(await keyring.secrets.get(unknown, 'A')).toBeUndefined();
  expect(await codeOf(keyring.secrets.put('acme', 'A', 'a'))).toBe('invalid_argument');
  expect(await codeOf(keyring.secrets.get('acme', 'A'))).toBe('invalid_argument');
  expect(await codeOf(keyring.rotations.request({ projects: [unknown] }))).toBe('unknown_project');
  expect(await codeOf(keyring.rotations.request({ projects: [projectId] }))).toBe('nothing_to_rotate');
});

test('an id in capitals is the same project', async () => {
  const loud = projectId.toUpperCase();
  await keyring.secrets.put(loud, 'A', 'a');
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe('a');
  expect((await keyring.secrets.get(loud, 'A'))?.value).toBe('a');
  await keyring.secrets.put(projectId, 'A', 'b');
  expect((await keyring.secrets.get(loud, 'A'))?.value).toBe('b');
  expect(await keyring.secrets.list(loud)).toHaveLength(1);
  expect((await keyring.rotations.request({ projects: [loud] })).projects.total).toBe(1);
  expect(await keyring.secrets.remove(loud, 'A')).toBe(true);
});

test('a put after another process promoted is refused by the fence, tried again, and under the new version', async () => {
  const stale = await installation.open({ keyCacheMs: 86_400_000 });
  const { keyId: first } = await stale.secrets.put(projectId, 'A', 'a');
  await rotate();
  const { keyId: second } = await stale.secrets.put(projectId, 'A', 'b');
  expect(second).not.toBe(first);
  expect((await keyring.keys.get(second))?.active).toBe(true);
  await rotate();
  // A new row, too: its fence is another trigger.
  const { keyId: third } = await stale.secrets.put(projectId, 'NEW', 'c');
  expect((await keyring.keys.get(third))?.active).toBe(true);
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe('b');
  await expectHealthy(keyring);
});

test('a stale process reads what another one rotated, and still opens after the old version is destroyed', async () => {
  const stale = await installation.open({ keyCacheMs: 86_400_000 });
  await stale.secrets.put(projectId, 'A', 'a');
  await installation.sql(`insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [projectId]);
  await rotate();
  const [old] = await keyring.keys.list({ projectId });
  await keyring.keys.destroy(old?.id ?? '', { reason: 'test' });
  expect((await stale.secrets.get(projectId, 'A'))?.value).toBe('a');
  await stale.secrets.put(projectId, 'A', 'b');
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe('b');
});

test('twenty processes that put the first secrets of a project at once make one version 1', async () => {
  const processes = await Promise.all(Array.from({ length: 20 }, () => installation.open()));
  const put = await Promise.all(
    processes.map((one, index) => one.secrets.put(projectId, `NAME_${String(index % 10)}`, `v${String(index)}`)),
  );
  expect(new Set(put.map((result) => result.keyId)).size).toBe(1);
  expect(put.filter((result) => result.created)).toHaveLength(10);
  await expectOneHistory(installation, { id: projectId, name: '', secrets: new Map(), webhooks: new Map() }, 1);
  const entries = await keyring.audit.list({ projectId });
  expect(entries.filter((entry) => entry.action === 'key.created')).toHaveLength(1);
  expect(entries.filter((entry) => entry.action === 'key.promoted')).toHaveLength(1);
  const secrets = new Map<string, string>();
  for (const entry of await keyring.secrets.list(projectId)) {
    const value = (await keyring.secrets.get(projectId, entry.name))?.value ?? '';
    expect(value).toMatch(new RegExp(`^v1?${entry.name.slice(5)}$`));
    secrets.set(entry.name, value);
  }
  await expectEverySecretFresh(installation, keyring, [{ id: projectId, name: '', secrets, webhooks: new Map() }]);
});

test('a get reads one row and, at most, one key: it never tries keys', async () => {
  await keyring.secrets.put(projectId, 'A', 'a');
  await keyring.secrets.put(projectId, 'B', 'b');
  for (let round = 0; round < 3; round++) await rotate();
  await installation.sql('update keyring.installation set created_at = created_at');
  const statements: { text: string; values: readonly unknown[] | undefined }[] = [];
  const reader = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        statements.push({ text: statement.text, values: statement.values });
        return send();
      }),
  });
  statements.length = 0;
  const secret = await reader.secrets.get(projectId, 'A');
  expect(statements).toHaveLength(2);
  expect(statements[0]?.text).toContain('from public.secrets');
  expect(statements[1]?.text).toContain('from keyring.encryption_keys');
  expect(statements[1]?.values).toEqual([projectId, secret?.keyId]);
  statements.length = 0;
  await reader.secrets.get(projectId, 'B');
  expect(statements).toHaveLength(1);
});

test('five processes that destroy one version at once destroy it once, and tell it once', async () => {
  await keyring.secrets.put(projectId, 'A', 'a');
  await installation.sql(`insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [projectId]);
  await rotate();
  const [old] = await keyring.keys.list({ projectId });
  const processes = await Promise.all(Array.from({ length: 5 }, () => installation.open()));
  const ends = await Promise.all(processes.map((one) => one.keys.destroy(old?.id ?? '', { reason: 'test' })));
  expect(ends.map((key) => key.status)).toEqual(Array.from({ length: 5 }, () => 'destroyed'));
  const entries = await keyring.audit.list({ projectId });
  expect(entries.filter((entry) => entry.action === 'key.destroyed')).toHaveLength(1);
});

test('a version in use, primary or kept is not destroyed, and the refusal is in the trail', async () => {
  const { keyId } = await keyring.secrets.put(projectId, 'A', 'a');
  expect(await codeOf(keyring.keys.destroy(keyId, { reason: 'test' }))).toBe('key_is_primary');
  await rotate();
  expect(await codeOf(keyring.keys.destroy(keyId, { reason: 'test' }))).toBe('retention_not_over');
  expect(await codeOf(keyring.keys.destroy(projectId, { reason: 'test' }))).toBe('unknown_key');
  const [until] = await installation.sql<{ days: number }>(
    `select round(extract(epoch from retention_until - now()) / 86400)::int as days from keyring.encryption_keys where id = $1`,
    [keyId],
  );
  expect(until?.days).toBe(30);
  const entries = await keyring.audit.list({ projectId });
  expect(entries.filter((entry) => entry.outcome === 'refused').map((entry) => entry.action)).toEqual([
    'key.destroyed',
    'key.destroyed',
  ]);
});

test('a value under a destroyed version says so, and names the version', async () => {
  const { keyId } = await keyring.secrets.put(projectId, 'A', 'a');
  await installation.behindTheFence(
    `update keyring.encryption_keys set state = 'destroyed', wrapped_key = null, destroyed_at = now() where id = $1`,
    [keyId],
  );
  const reader = await installation.open();
  const error = await reader.secrets.get(projectId, 'A').catch((failure: unknown) => failure);
  expect(error).toMatchObject({ code: 'key_destroyed', details: { keyId, version: 1 } });
  expect((error as KeyringError).message).toContain('1');
});

test.each([
  [
    'from another row',
    `update public.secrets t set value_encrypted = s.value_encrypted from public.secrets s
     where t.project_id = $1 and t.key = 'A' and s.project_id = $1 and s.key = 'B'`,
  ],
  [
    'from another project',
    `update public.secrets t set value_encrypted = s.value_encrypted, encryption_key_id = s.encryption_key_id
     from public.secrets s where t.project_id = $1 and t.key = 'A' and s.project_id = $2 and s.key = 'A'`,
  ],
  [
    'to another row id',
    `update public.secrets set id = gen_random_uuid() where project_id = $1 and key = 'A' and $2::uuid is not null`,
  ],
  [
    'with one bit flipped',
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 30, get_byte(value_encrypted, 30) # 128)
     where project_id = $1 and key = 'A' and $2::uuid is not null`,
  ],
  [
    'cut short',
    `update public.secrets set value_encrypted = substr(value_encrypted, 1, 20) where project_id = $1 and key = 'A' and $2::uuid is not null`,
  ],
  [
    'emptied',
    `update public.secrets set value_encrypted = '' where project_id = $1 and key = 'A' and $2::uuid is not null`,
  ],
  [
    'of another format',
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 0, 9) where project_id = $1 and key = 'A' and $2::uuid is not null`,
  ],
])('a ciphertext %s fails with the one error, which tells nothing more', async (_what, tamper) => {
  const other = (await keyring.projects.create({ name: 'other' })).id;
  await keyring.secrets.put(projectId, 'A', 'a');
  await keyring.secrets.put(projectId, 'B', 'b');
  await keyring.secrets.put(other, 'A', 'c');
  await installation.behindTheFence(tamper.includes('$2') ? tamper : `${tamper} and $2::uuid is not null`, [
    projectId,
    other,
  ]);
  const error = await keyring.secrets.get(projectId, 'A').catch((failure: unknown) => failure);
  expect(error).toMatchObject({
    code: 'decryption_failed',
    message: 'The ciphertext could not be opened.',
    details: {},
  });
  expect((await keyring.secrets.get(projectId, 'B'))?.value).toBe('b');
});

test('a ciphertext that was moved from another column of the same project fails with the one error', async () => {
  const { id } = await keyring.secrets.put(projectId, 'A', 'a');
  const sealed = await installation.seal({ projectId, label: 'webhooks.secret', rowId: id }, 'from elsewhere');
  await installation.sql('update public.secrets set value_encrypted = $2 where id = $1', [id, sealed.envelope]);
  expect(await codeOf(keyring.secrets.get(projectId, 'A'))).toBe('decryption_failed');
});

test('a sweep changes neither when a secret was updated nor when its value was written; a put changes both', async () => {
  await keyring.secrets.put(projectId, 'A', 'a');
  await installation.behindTheFence(
    `update public.secrets set updated_at = '2020-01-01', value_written_at = '2020-01-02', created_at = '2019-01-01'`,
  );
  const times = async (): Promise<unknown[]> => {
    const [entry] = await keyring.secrets.list(projectId);
    return [entry?.createdAt, entry?.updatedAt, entry?.writtenAt].map((at) => at?.getUTCFullYear());
  };
  await rotate();
  expect(await times()).toEqual([2019, 2020, 2020]);
  expect((await keyring.secrets.get(projectId, 'A'))?.writtenAt).toEqual(new Date('2020-01-02T00:00:00Z'));
  // Whatever happens at midnight.
  const year = expect.toBeOneOf([0, 1].map((more) => new Date().getUTCFullYear() + more)) as number;
  await installation.sql(`update public.secrets set key = 'RENAMED'`);
  expect(await times()).toEqual([2019, year, 2020]);
  await installation.behindTheFence(`update public.secrets set updated_at = '2020-01-01'`);
  await keyring.secrets.put(projectId, 'RENAMED', 'b');
  expect(await times()).toEqual([2019, year, year]);
});

test('between promote and sweep a value is readable, and says that it is stale', async () => {
  await keyring.secrets.put(projectId, 'A', 'a');
  const seen: unknown[] = [];
  const rotator = await installation.open({
    wrap: (database: Database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('keyring.move_')) {
          const secret = await keyring.secrets.get(projectId, 'A');
          const [entry] = await keyring.secrets.list(projectId);
          seen.push(secret?.value, secret?.stale, entry?.stale, entry?.version);
        }
        return send();
      }),
  });
  await rotate(rotator);
  expect(seen).toEqual(['a', true, true, 1]);
  expect((await keyring.secrets.get(projectId, 'A'))?.stale).toBe(false);
});

test('the root key’s provider is asked at opening, and never again', async () => {
  const provider = installation.rootKey as typeof installation.rootKey & { asked: number };
  const one = await installation.open({ keyCacheMs: 0 });
  const asked = provider.asked;
  await one.secrets.put(projectId, 'A', 'a');
  await rotate(one);
  await one.secrets.get(projectId, 'A');
  await one.doctor();
  expect(provider.asked).toBe(asked);
});
